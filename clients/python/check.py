"""What the official OpenAI SDK for Python sees at a Polder endpoint.

Only OPENAI_BASE_URL and OPENAI_API_KEY are set; the SDK is unmodified. README.md beside this folder says how checks are told.

    python check.py basics     everything that an application does every day
    python check.py more       what only some engines can do
    python check.py refusal    the key's owner has no admissible factory: a refusal, and no retry
    python check.py pictures   an endpoint in front of an engine that makes pictures
"""

import base64
import json
import math
import os
import time

import openai

from report import Counter, group, ok, raises, run

CHAT = "/v1/chat/completions"
ASK = [{"role": "user", "content": "What is Polder?"}]
TEXT = "A request runs only where both sides allow it."


def unit(vector):
    """Whether a vector has length one."""
    return math.isclose(math.sqrt(sum(x * x for x in vector)), 1.0, abs_tol=1e-3)


def close(a, b):
    """Whether two vectors are equal as 32-bit floats."""
    return len(a) == len(b) > 0 and all(math.isclose(x, y, rel_tol=1e-6, abs_tol=1e-7) for x, y in zip(a, b))


def first_model(client):
    """The first model that the endpoint lists."""
    return next(iter(client.models.list())).id


@group("models.list")
def models(client):
    listed = list(client.models.list())
    ok("models.list", len(listed) > 0 and all(model.object == "model" for model in listed), listed)
    model = listed[0].id
    ok("models.retrieve", client.models.retrieve(model).id == model)


def whole_answer(client, model):
    """The answer that the others are compared with."""
    return client.chat.completions.create(model=model, messages=ASK, max_tokens=32, temperature=0)


@group("chat")
def chat(client):
    answer = whole_answer(client, first_model(client))
    choice = answer.choices[0]
    ok("chat", choice.message.role == "assistant" and len(choice.message.content) > 0, answer)
    ok("chat.finish_reason", choice.finish_reason in ("stop", "length"), choice)
    usage = answer.usage
    counted = usage.prompt_tokens > 0 and usage.completion_tokens > 0
    ok("chat.usage", counted and usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, usage)


@group("stream")
def stream(client):
    model = first_model(client)
    whole = whole_answer(client, model).choices[0].message.content
    asked = dict(model=model, messages=ASK, max_tokens=32, temperature=0, stream=True)
    chunks = list(client.chat.completions.create(**asked))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    ok("stream", text == whole, (text, whole))
    ok("stream.pieces", len(chunks) > 2 and len({chunk.id for chunk in chunks}) == 1, chunks)
    ok("stream.finish_reason", chunks[-1].choices[0].finish_reason in ("stop", "length"), chunks[-1])
    ok("stream.no_usage_unasked", all(chunk.usage is None for chunk in chunks))
    chunks = list(client.chat.completions.create(**asked, stream_options={"include_usage": True}))
    ok("stream.usage_null_before", all(chunk.usage is None for chunk in chunks[:-1]))
    ok("stream.usage_last", chunks[-1].choices == [] and chunks[-1].usage.completion_tokens > 0, chunks[-1])


@group("max_tokens")
def limits(client):
    model = first_model(client)
    whole = whole_answer(client, model).choices[0].message.content
    short = client.chat.completions.create(model=model, messages=ASK, max_tokens=1, temperature=0)
    ok("max_tokens", short.choices[0].finish_reason == "length" and short.usage.completion_tokens == 1, short)
    short = client.chat.completions.create(model=model, messages=ASK, max_completion_tokens=2, temperature=0)
    ok("max_completion_tokens", short.usage.completion_tokens <= 2, short)
    mark = whole[len(whole) // 2 :][:3]
    cut = client.chat.completions.create(model=model, messages=ASK, max_tokens=32, temperature=0, stop=[mark])
    text = cut.choices[0].message.content
    ok("stop", text == whole.split(mark)[0] and cut.choices[0].finish_reason == "stop", (mark, text, whole))
    asked = dict(model=model, messages=ASK, max_tokens=16, temperature=1.2, seed=7)
    twice = [client.chat.completions.create(**asked).choices[0].message.content for _ in range(2)]
    ok("seed", twice[0] == twice[1], twice)


@group("embeddings")
def embeddings(client):
    model = first_model(client)
    default = client.embeddings.create(model=model, input=TEXT)
    vector = default.data[0].embedding
    ok("embeddings", isinstance(vector, list) and unit(vector), vector[:4])
    ok("embeddings.usage", default.usage.prompt_tokens > 0 and default.usage.total_tokens > 0, default.usage)
    plain = client.embeddings.create(model=model, input=TEXT, encoding_format="float")
    ok("embeddings.float_equals_base64", close(plain.data[0].embedding, vector))
    coded = client.embeddings.create(model=model, input=TEXT, encoding_format="base64")
    ok("embeddings.base64_text", isinstance(coded.data[0].embedding, str))
    many = client.embeddings.create(model=model, input=[TEXT, "Hello", TEXT])
    ok("embeddings.list", [item.index for item in many.data] == [0, 1, 2], many)
    same, other = close(many.data[0].embedding, many.data[2].embedding), many.data[1].embedding
    ok("embeddings.order", same and not close(many.data[0].embedding, other))
    tokens = client.embeddings.create(model=model, input=[5, 6, 7])
    ok("embeddings.tokens", len(tokens.data) == 1 and unit(tokens.data[0].embedding), len(tokens.data))
    ok("embeddings.tokens_usage", tokens.usage.prompt_tokens >= 3, tokens.usage)
    batches = client.embeddings.create(model=model, input=[[5, 6, 7], [8, 9]])
    ok("embeddings.token_lists", len(batches.data) == 2 and close(batches.data[0].embedding, tokens.data[0].embedding))


@group("error.key")
def errors(client):
    model = first_model(client)
    stranger = client.with_options(api_key="not-a-key")
    error = raises("error.key", openai.AuthenticationError, lambda: stranger.models.list())
    ok("error.key", error.status_code == 401 and error.code is not None, error)
    ask = client.chat.completions.create
    error = raises("error.model", openai.NotFoundError, lambda: ask(model="no-such-model", messages=ASK))
    ok("error.model", error.status_code == 404 and error.code == "model_not_found", (error.code, error.body))
    error = raises("error.model_retrieve", openai.NotFoundError, lambda: client.models.retrieve("no-such-model"))
    ok("error.model_retrieve", error.status_code == 404, error)
    error = raises("error.type", openai.BadRequestError, lambda: ask(model=model, messages=ASK, temperature="warm"))
    ok("error.type", error.status_code == 400 and error.param == "temperature", (error.param, error.body))
    error = raises("error.messages", openai.BadRequestError, lambda: ask(model=model, messages="hello"))
    ok("error.messages", error.status_code == 400 and error.param == "messages", (error.param, error.body))


@group("header.polder-decision")
def headers(client):
    model = first_model(client)
    raw = client.chat.completions.with_raw_response.create(model=model, messages=ASK, max_tokens=4)
    for name in ("polder-decision", "polder-factory", "polder-receipt"):
        ok(f"header.{name}", bool(raw.headers.get(name)), dict(raw.headers))
    ok("header.parse", len(raw.parse().choices) == 1)
    raw = client.embeddings.with_raw_response.create(model=model, input=TEXT)
    ok("header.embeddings", bool(raw.headers.get("polder-receipt")), dict(raw.headers))


def refused(client, model, name, **asked):
    call = lambda: client.chat.completions.create(model=model, messages=ASK, max_tokens=8, **asked)
    error = raises(f"{name}.status", openai.PermissionDeniedError, call)
    ok(f"{name}.status", error.status_code == 403, error)
    ok(f"{name}.code", error.code == "policy_unsatisfiable", (error.code, error.body))
    ok(f"{name}.should_retry", error.response.headers.get("x-should-retry") == "false", dict(error.response.headers))
    reasons = error.body.get("refusals") if isinstance(error.body, dict) else None
    ok(f"{name}.refusals", isinstance(reasons, list) and len(reasons) > 0, error.body)
    ok(f"{name}.reasons", all(one.get("factory") and one.get("reason") for one in reasons), reasons)
    ok(f"{name}.message", len(error.message) > 0 and ASK[0]["content"] not in json.dumps(error.body), error.message)


@group("refusal.status")
def refusal(client):
    model = first_model(client)
    counter = Counter(os.environ["OPENAI_BASE_URL"])
    counted = client.with_options(base_url=counter.url)
    refused(counted, model, "refusal")
    ok("refusal.no_retry", counter.count == 1, counter.count)
    refused(counted, model, "refusal.stream", stream=True)
    ok("refusal.stream.no_retry", counter.count == 2, counter.count)
    counter.server.shutdown()


@group("rerank")
def rerank(client):
    documents = [TEXT, "The weather is fine today.", {"text": "Rules decide where a request may run."}]
    asked = {"model": first_model(client), "query": TEXT, "documents": documents}
    answer = client.post("/rerank", body=asked, cast_to=object)
    scores = [one["relevance_score"] for one in answer["results"]]
    ok("rerank", answer["results"][0]["index"] == 0 and scores == sorted(scores, reverse=True), answer)
    ok("rerank.documents", answer["results"][0]["document"] == {"text": TEXT} and len(scores) == 3, answer)
    best = client.post("/rerank", body={**asked, "top_n": 1, "return_documents": False}, cast_to=object)
    ok("rerank.top_n", len(best["results"]) == 1 and "document" not in best["results"][0], best)


@group("images.model")
def no_pictures(client):
    call = lambda: client.images.generate(model=first_model(client), prompt="A polder")
    error = raises("images.model", openai.BadRequestError, call)
    ok("images.model", error.code == "unsupported_parameter" and error.param == "model", error.body)


@group("images")
def pictures(client):
    model = first_model(client)
    made = client.images.generate(model=model, prompt="A polder", n=2, size="64x64")
    bytes_of = lambda item: base64.b64decode(item.b64_json)
    ok("images", len(made.data) == 2 and all(bytes_of(item).startswith(b"\x89PNG") for item in made.data), made)
    call = lambda: client.images.generate(model=model, prompt="A polder", response_format="url")
    error = raises("images.url", openai.BadRequestError, call)
    ok("images.url", error.param == "response_format" and error.code == "unsupported_parameter", error.body)


WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Delft", "Gouda"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


@group("tools.required")
def tools(client):
    model = first_model(client)
    asked = dict(model=model, messages=ASK, max_tokens=128, temperature=0, tools=[WEATHER], tool_choice="required")
    choice = client.chat.completions.create(**asked).choices[0]
    call = choice.message.tool_calls[0]
    ok("tools.required", call.function.name == "weather" and "city" in json.loads(call.function.arguments), choice)
    ok("tools.finish_reason", choice.finish_reason == "tool_calls", choice)
    pieces = ""
    for chunk in client.chat.completions.create(**asked, stream=True):
        for delta in chunk.choices[0].delta.tool_calls or []:
            ok("tools.stream.index", delta.index == 0, delta) if not pieces else None
            pieces += delta.function.arguments or ""
    ok("tools.stream", "city" in json.loads(pieces), pieces)


@group("json_schema")
def structured(client):
    schema = {"name": "weather", "strict": True, "schema": WEATHER["function"]["parameters"]}
    asked = dict(model=first_model(client), messages=ASK, max_tokens=128, temperature=0)
    answer = client.chat.completions.create(**asked, response_format={"type": "json_schema", "json_schema": schema})
    ok("json_schema", list(json.loads(answer.choices[0].message.content)) == ["city"], answer)


@group("logprobs")
def likelihoods(client):
    asked = dict(model=first_model(client), messages=ASK, max_tokens=4, temperature=0)
    choice = client.chat.completions.create(**asked, logprobs=True, top_logprobs=2).choices[0]
    tokens = choice.logprobs.content
    ok("logprobs", len(tokens) > 0 and all(one.logprob <= 0 and len(one.top_logprobs) == 2 for one in tokens), choice)


@group("n")
def several(client):
    answer = client.chat.completions.create(model=first_model(client), messages=ASK, max_tokens=8, n=2)
    ok("n", [choice.index for choice in answer.choices] == [0, 1], answer)


@group("responses")
def responses(client):
    answer = client.responses.create(model=first_model(client), input=ASK[0]["content"], max_output_tokens=32, temperature=0)
    ok("responses", answer.status in ("completed", "incomplete") and len(answer.output_text) > 0, answer)
    ok("responses.retrieve", client.responses.retrieve(answer.id).output_text == answer.output_text)
    client.responses.delete(answer.id)
    error = raises("responses.delete", openai.NotFoundError, lambda: client.responses.retrieve(answer.id))
    ok("responses.delete", error.status_code == 404, error)


@group("responses.stream")
def responses_stream(client):
    asked = dict(model=first_model(client), input=ASK[0]["content"], max_output_tokens=32, temperature=0)
    with client.responses.stream(**asked) as events:
        kinds = [event.type for event in events]
        final = events.get_final_response()
    ok("responses.stream", kinds[0] == "response.created" and len(final.output_text) > 0, kinds)


@group("files")
def files(client):
    lines = b'{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{}}\n'
    kept = client.files.create(file=("lines.jsonl", lines), purpose="batch")
    ok("files", client.files.content(kept.id).read() == lines, kept)
    listed = [file.id for file in client.files.list(purpose="batch")]
    ok("files.list", kept.id in listed and client.files.retrieve(kept.id).filename == "lines.jsonl", listed)
    client.files.delete(kept.id)
    error = raises("files.delete", openai.NotFoundError, lambda: client.files.retrieve(kept.id))
    ok("files.delete", error.status_code == 404, error)


def ended(client, batch):
    """A batch, once it is at its end."""
    for _ in range(600):
        batch = client.batches.retrieve(batch.id)
        if batch.status in ("completed", "failed", "expired", "cancelled"):
            break
        time.sleep(0.1)
    return batch


def begun(client, lines):
    """A batch over these lines."""
    text = "".join(json.dumps(line) + "\n" for line in lines).encode()
    kept = client.files.create(file=("lines.jsonl", text), purpose="batch")
    return client.batches.create(input_file_id=kept.id, endpoint=CHAT, completion_window="24h", metadata={"run": "1"})


@group("batches")
def batches(client):
    body = {"model": first_model(client), "messages": ASK, "max_tokens": 8, "temperature": 0}
    line = {"method": "POST", "url": CHAT}
    bodies = {"first": body, "second": body, "wrong": {**body, "temperature": "hot"}}
    batch = begun(client, [{**line, "custom_id": name, "body": body} for name, body in bodies.items()])
    batch = ended(client, batch)
    ok("batches", batch.status == "completed" and batch.metadata == {"run": "1"}, batch)
    counts = batch.request_counts
    ok("batches.counts", (counts.total, counts.completed, counts.failed) == (3, 2, 1), counts)
    answers = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
    said = {one["custom_id"]: one["response"]["body"]["choices"][0]["message"]["content"] for one in answers}
    ok("batches.output", sorted(said) == ["first", "second"] and all(said.values()), answers)
    wrong = [json.loads(line) for line in client.files.content(batch.error_file_id).text.splitlines()]
    refused = wrong[0]["response"]
    ok("batches.errors", refused["status_code"] == 400 and refused["body"]["error"]["param"] == "temperature", wrong)
    ok("batches.list", batch.id in [one.id for one in client.batches.list(limit=5)], batch.id)
    twice = ended(client, begun(client, [{**line, "custom_id": "same", "body": body}] * 2))
    ok("batches.invalid", twice.status == "failed" and twice.errors.data[0].line == 2, twice)
    error = raises("batches.cancel", openai.BadRequestError, lambda: client.batches.cancel(twice.id))
    ok("batches.cancel", error.param == "batch_id", error)


MODES = {
    "basics": [models, chat, stream, limits, embeddings, errors, headers, rerank, no_pictures],
    "more": [tools, structured, likelihoods, several, responses, responses_stream, files, batches],
    "refusal": [refusal],
    "pictures": [pictures],
}

if __name__ == "__main__":
    run(MODES, openai.OpenAI())
