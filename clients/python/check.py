"""What the official OpenAI SDK for Python sees at a Polder endpoint.

Only OPENAI_BASE_URL and OPENAI_API_KEY are set; the SDK is unmodified. Prints `ok NAME` for each check and
ends with an error at the first that fails.

    python check.py basics     everything that an application does every day
    python check.py refusal    the key's owner has no admissible factory: a refusal, and no retry
"""

import json
import math
import os
import sys
import threading
import time
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import openai

ASK = [{"role": "user", "content": "What is Polder?"}]
TEXT = "A request runs only where both sides allow it."


def ok(name, condition, seen=None):
    """Prints that a check holds, or ends the run."""
    if not condition:
        sys.exit(f"FAILED {name}: {seen!r}")
    print(f"ok {name}", flush=True)


def raises(kind, call):
    """The error of the given kind that a call raises."""
    try:
        seen = call()
    except kind as error:
        return error
    except openai.OpenAIError as error:
        sys.exit(f"FAILED expected {kind.__name__}, got {type(error).__name__}: {error}")
    sys.exit(f"FAILED expected {kind.__name__}, got an answer: {seen!r}")


def unit(vector):
    """Whether a vector has length one."""
    return math.isclose(math.sqrt(sum(x * x for x in vector)), 1.0, abs_tol=1e-3)


def close(a, b):
    """Whether two vectors are equal as 32-bit floats."""
    return len(a) == len(b) > 0 and all(math.isclose(x, y, rel_tol=1e-6, abs_tol=1e-7) for x, y in zip(a, b))


def models(client):
    listed = list(client.models.list())
    ok("models.list", len(listed) > 0 and all(model.object == "model" for model in listed), listed)
    model = listed[0].id
    ok("models.retrieve", client.models.retrieve(model).id == model)
    return model


def chat(client, model):
    answer = client.chat.completions.create(model=model, messages=ASK, max_tokens=32, temperature=0)
    choice = answer.choices[0]
    ok("chat", choice.message.role == "assistant" and len(choice.message.content) > 0, answer)
    ok("chat.finish_reason", choice.finish_reason in ("stop", "length"), choice)
    usage = answer.usage
    counted = usage.prompt_tokens > 0 and usage.completion_tokens > 0
    ok("chat.usage", counted and usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, usage)
    return choice.message.content


def stream(client, model, whole):
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


def limits(client, model, whole):
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


def embeddings(client, model):
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


def errors(client, model):
    stranger = client.with_options(api_key="not-a-key")
    error = raises(openai.AuthenticationError, lambda: stranger.models.list())
    ok("error.key", error.status_code == 401 and error.code is not None, error)
    ask = client.chat.completions.create
    error = raises(openai.NotFoundError, lambda: ask(model="no-such-model", messages=ASK))
    ok("error.model", error.status_code == 404 and error.code == "model_not_found", (error.code, error.body))
    error = raises(openai.NotFoundError, lambda: client.models.retrieve("no-such-model"))
    ok("error.model_retrieve", error.status_code == 404, error)
    error = raises(openai.BadRequestError, lambda: ask(model=model, messages=ASK, temperature="warm"))
    ok("error.type", error.status_code == 400 and error.param == "temperature", (error.param, error.body))
    error = raises(openai.BadRequestError, lambda: ask(model=model, messages="hello"))
    ok("error.messages", error.status_code == 400 and error.param == "messages", (error.param, error.body))


def headers(client, model):
    raw = client.chat.completions.with_raw_response.create(model=model, messages=ASK, max_tokens=4)
    for name in ("polder-decision", "polder-factory", "polder-receipt"):
        ok(f"header.{name}", bool(raw.headers.get(name)), dict(raw.headers))
    ok("header.parse", len(raw.parse().choices) == 1)
    raw = client.embeddings.with_raw_response.create(model=model, input=TEXT)
    ok("header.embeddings", bool(raw.headers.get("polder-receipt")), dict(raw.headers))


class Counter:
    """Passes requests on to the endpoint and counts them, because a retry is invisible to the caller."""

    def __init__(self, target):
        self.count = 0
        counter, address = self, urlsplit(target)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                counter.count += 1
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                upstream = HTTPConnection(address.hostname, address.port, timeout=60)
                sent = {name: value for name, value in self.headers.items() if name.lower() != "host"}
                upstream.request("POST", self.path, body, sent)
                answer = upstream.getresponse()
                payload = answer.read()
                self.send_response_only(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                        self.send_header(name, value)
                self.send_header("content-length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}{address.path}"


def refused(client, model, name, **asked):
    call = lambda: client.chat.completions.create(model=model, messages=ASK, max_tokens=8, **asked)
    error = raises(openai.PermissionDeniedError, call)
    ok(f"{name}.status", error.status_code == 403, error)
    ok(f"{name}.code", error.code == "policy_unsatisfiable", (error.code, error.body))
    ok(f"{name}.should_retry", error.response.headers.get("x-should-retry") == "false", dict(error.response.headers))
    reasons = error.body.get("refusals") if isinstance(error.body, dict) else None
    ok(f"{name}.refusals", isinstance(reasons, list) and len(reasons) > 0, error.body)
    ok(f"{name}.reasons", all(one.get("factory") and one.get("reason") for one in reasons), reasons)
    ok(f"{name}.message", len(error.message) > 0 and ASK[0]["content"] not in json.dumps(error.body), error.message)


def refusal(client):
    model = next(iter(client.models.list())).id
    counter = Counter(os.environ["OPENAI_BASE_URL"])
    counted = client.with_options(base_url=counter.url)
    refused(counted, model, "refusal")
    ok("refusal.no_retry", counter.count == 1, counter.count)
    refused(counted, model, "refusal.stream", stream=True)
    ok("refusal.stream.no_retry", counter.count == 2, counter.count)
    counter.server.shutdown()


def tool_parameters(client, model):
    """Parameters of chat that are refused by name before any engine hears of them."""
    ask = client.chat.completions.create
    for name, value in (
        ("n", 1000),
        ("top_logprobs", 3),
        ("frequency_penalty", 3),
        ("response_format", {"type": "json_schema"}),
        ("tools", [{"type": "function", "function": {"name": "not a name"}}]),
        ("modalities", ["audio"]),
    ):
        error = raises(openai.BadRequestError, lambda: ask(model=model, messages=ASK, **{name: value}))
        ok(f"refused.{name}", error.param.startswith(name), (error.param, error.body))
    image = [{"type": "image_url", "image_url": {"url": "http://127.0.0.1/a.png"}}]
    error = raises(openai.BadRequestError, lambda: ask(model=model, messages=[{"role": "user", "content": image}]))
    ok("refused.url", error.code == "unsupported_parameter" and "image_url" in error.param, error.body)


def responses(client, model):
    asked = dict(model=model, input="What is Polder?", max_output_tokens=24, temperature=0)
    first = client.responses.create(**asked, instructions="Be brief.", metadata={"ticket": "7"})
    ok("responses", len(first.output_text) > 0 and first.status in ("completed", "incomplete"), first)
    ok("responses.usage", first.usage.total_tokens == first.usage.input_tokens + first.usage.output_tokens, first.usage)
    ok("responses.metadata", first.metadata == {"ticket": "7"}, first.metadata)
    again = client.responses.retrieve(first.id)
    ok("responses.retrieve", again.id == first.id and again.output_text == first.output_text, again)
    items = list(client.responses.input_items.list(first.id))
    ok("responses.input_items", items[0].role == "user" and items[0].content[0].text == asked["input"], items)
    following = client.responses.create(**asked, previous_response_id=first.id)
    ok("responses.previous_response_id", following.usage.input_tokens > first.usage.input_tokens, following.usage)
    client.responses.delete(first.id)
    raises(openai.NotFoundError, lambda: client.responses.retrieve(first.id))
    ok("responses.delete", True)
    unkept = client.responses.create(**asked, store=False)
    raises(openai.NotFoundError, lambda: client.responses.retrieve(unkept.id))
    ok("responses.store_false", unkept.store is False, unkept)
    error = raises(openai.BadRequestError, lambda: client.responses.create(**asked, tools=[{"type": "web_search"}]))
    ok("responses.hosted_tools", error.code == "unsupported_parameter" and error.param == "tools[0].type", error.body)


def responses_stream(client, model):
    asked = dict(model=model, input="What is Polder?", max_output_tokens=24, temperature=0)
    seen = list(client.responses.create(**asked, stream=True))
    kinds = [event.type for event in seen]
    ok("responses.stream", kinds[:2] == ["response.created", "response.in_progress"], kinds)
    ok("responses.stream.end", kinds[-1] in ("response.completed", "response.incomplete"), kinds)
    ok("responses.stream.numbers", [event.sequence_number for event in seen] == list(range(len(seen))), kinds)
    needed = {"output_item.added", "content_part.added", "output_text.delta", "output_text.done", "content_part.done"}
    ok("responses.stream.kinds", {f"response.{kind}" for kind in needed | {"output_item.done"}} <= set(kinds), kinds)
    text = "".join(event.delta for event in seen if event.type == "response.output_text.delta")
    ok("responses.stream.text", text == seen[-1].response.output_text != "", text)
    with client.responses.stream(**asked) as stream:
        pieces = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
    ok("responses.stream.helper", pieces == text, (pieces, text))


def responses_background(client, model):
    asked = dict(model=model, input="What is Polder?", max_output_tokens=24, temperature=0, background=True)
    queued = client.responses.create(**asked)
    ok("responses.background", queued.status == "queued", queued)
    seen = queued
    while seen.status in ("queued", "in_progress"):
        time.sleep(0.05)
        seen = client.responses.retrieve(queued.id)
    ok("responses.background.end", seen.status in ("completed", "incomplete") and len(seen.output_text) > 0, seen)
    ok("responses.cancel", client.responses.cancel(queued.id).status == seen.status)
    events = list(client.responses.create(**asked, stream=True))
    ok("responses.background.stream", events[1].type == "response.queued", [event.type for event in events])
    rest = list(client.responses.retrieve(events[0].response.id, stream=True, starting_after=events[2].sequence_number))
    ok("responses.background.resume", [one.type for one in rest] == [one.type for one in events[3:]], rest)


def completions(client, model):
    """The demo's engine takes no raw prompts, and says so."""
    error = raises(openai.BadRequestError, lambda: client.completions.create(model=model, prompt="Once"))
    ok("completions.embedded", error.code == "unsupported_parameter" and error.param == "prompt", error.body)


def basics(client):
    model = models(client)
    whole = chat(client, model)
    stream(client, model, whole)
    limits(client, model, whole)
    embeddings(client, model)
    errors(client, model)
    headers(client, model)
    tool_parameters(client, model)
    responses(client, model)
    responses_stream(client, model)
    responses_background(client, model)
    completions(client, model)


def main():
    modes = {"basics": basics, "refusal": refusal}
    if len(sys.argv) != 2 or sys.argv[1] not in modes:
        sys.exit(f"usage: check.py {'|'.join(modes)}")
    modes[sys.argv[1]](openai.OpenAI())


if __name__ == "__main__":
    main()
