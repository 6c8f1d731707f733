"""What the official Anthropic SDK for Python sees at a Polder endpoint.

Only ANTHROPIC_BASE_URL and ANTHROPIC_API_KEY are set; the SDK is unmodified. README.md beside this folder says how checks are
told.

    python check_anthropic.py basics     everything that an application does every day
    python check_anthropic.py more       what only some engines can do
    python check_anthropic.py refusal    the key's owner has no admissible factory: a refusal, and no retry
"""

import json
import os

import anthropic

from report import Counter, group, ok, raises, run

ASK = [{"role": "user", "content": "What is Polder?"}]


def first_model(client):
    """The first model that the endpoint lists."""
    return next(iter(client.models.list())).id


def whole_answer(client, **more):
    """An answer that is the same each time."""
    asked = dict(model=first_model(client), messages=ASK, max_tokens=32, extra_body={"temperature": 0})
    return client.messages.create(**{**asked, **more})


def text_of(message):
    """An answer's text."""
    return "".join(block.text for block in message.content if block.type == "text")


@group("models.list")
def models(client):
    listed = list(client.models.list())
    ok("models.list", len(listed) > 0 and all(model.type == "model" for model in listed), listed)
    ok("models.retrieve", client.models.retrieve(listed[0].id).id == listed[0].id)


@group("messages")
def messages(client):
    answer = whole_answer(client)
    ok("messages", answer.role == "assistant" and len(text_of(answer)) > 0, answer)
    ok("messages.stop_reason", answer.stop_reason in ("end_turn", "max_tokens"), answer)
    ok("messages.usage", answer.usage.input_tokens > 0 and answer.usage.output_tokens > 0, answer.usage)
    ok("messages.request_id", (answer._request_id or "").startswith("decision-"), answer._request_id)
    turns = [*ASK, {"role": "assistant", "content": answer.content}, {"role": "user", "content": "And a receipt?"}]
    system = [{"type": "text", "text": "Answer in one sentence.", "cache_control": {"type": "ephemeral"}}]
    ok("messages.system", len(text_of(whole_answer(client, messages=turns, system=system))) > 0)


@group("messages.stream")
def stream(client):
    whole = whole_answer(client)
    asked = dict(model=first_model(client), messages=ASK, max_tokens=32, extra_body={"temperature": 0})
    kinds, text = [], ""
    for event in client.messages.create(**asked, stream=True):
        kinds.append(event.type)
        if event.type == "content_block_delta":
            text += event.delta.text
    ok("messages.stream", text == text_of(whole), (text, whole))
    order = [kind for place, kind in enumerate(kinds) if kind != "content_block_delta" or kinds[place - 1] != kind]
    expected = ["message_start", "content_block_start", "content_block_delta", "content_block_stop"]
    ok("messages.stream.events", order == [*expected, "message_delta", "message_stop"], kinds)
    with client.messages.stream(**asked) as events:
        final = events.get_final_message()
    ok("messages.stream.helper", text_of(final) == text_of(whole), final)
    ok("messages.stream.usage", final.usage.output_tokens == whole.usage.output_tokens > 0, final.usage)
    ok("messages.stream.input_tokens", final.usage.input_tokens == whole.usage.input_tokens > 0, final.usage)


@group("messages.max_tokens")
def limits(client):
    whole = text_of(whole_answer(client))
    short = whole_answer(client, max_tokens=1)
    ok("messages.max_tokens", short.stop_reason == "max_tokens" and short.usage.output_tokens == 1, short)
    mark = whole[len(whole) // 2 :][:3]
    cut = whole_answer(client, stop_sequences=[mark])
    ok("messages.stop_sequences", text_of(cut) == whole.split(mark)[0], (mark, cut, whole))


@group("messages.error.key")
def errors(client):
    stranger = client.with_options(api_key="not-a-key")
    error = raises("messages.error.key", anthropic.AuthenticationError, lambda: stranger.models.list())
    ok("messages.error.key", error.status_code == 401, error)
    call = lambda: whole_answer(client, model="no-such-model")
    error = raises("messages.error.model", anthropic.NotFoundError, call)
    ok("messages.error.model", error.body["error"]["type"] == "not_found_error", error.body)
    call = lambda: whole_answer(client, thinking={"type": "enabled", "budget_tokens": 1024})
    error = raises("messages.error.thinking", anthropic.BadRequestError, call)
    ok("messages.error.thinking", error.body["error"]["param"] == "thinking", error.body)
    url = {"type": "image", "source": {"type": "url", "url": "http://127.0.0.1:9/x.png"}}
    call = lambda: whole_answer(client, messages=[{"role": "user", "content": [url]}])
    error = raises("messages.error.url", anthropic.BadRequestError, call)
    ok("messages.error.url", error.body["error"]["code"] == "unsupported_parameter", error.body)
    call = lambda: client.messages.count_tokens(model=first_model(client), messages=ASK)
    error = raises("messages.count_tokens", anthropic.NotFoundError, call)
    ok("messages.count_tokens", error.body["error"]["type"] == "not_found_error", error.body)


@group("messages.headers")
def headers(client):
    raw = client.messages.with_raw_response.create(model=first_model(client), messages=ASK, max_tokens=4)
    names = ("polder-decision", "polder-factory", "polder-receipt", "request-id")
    ok("messages.headers", all(raw.headers.get(name) for name in names), dict(raw.headers))


@group("messages.refusal")
def refusal(client):
    model = first_model(client)
    counter = Counter(os.environ["ANTHROPIC_BASE_URL"])
    counted = client.with_options(base_url=counter.url)
    for name, stream in (("messages.refusal", False), ("messages.refusal.stream", True)):
        call = lambda: counted.messages.create(model=model, messages=ASK, max_tokens=8, stream=stream)
        error = raises(name, anthropic.PermissionDeniedError, call)
        body = error.body["error"]
        ok(name, body["type"] == "permission_error" and body["code"] == "policy_unsatisfiable", error.body)
        reasons = body["refusals"]
        ok(f"{name}.reasons", len(reasons) > 0 and all(one["factory"] and one["reason"] for one in reasons), body)
        ok(f"{name}.nearest", len(body["nearest"]) > 0 and body["decision"].startswith("decision-"), body)
    ok("messages.refusal.no_retry", counter.count == 2, counter.count)
    counter.server.shutdown()


WEATHER = {
    "name": "weather",
    "description": "The weather in a city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Delft", "Gouda"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


@group("messages.tools")
def tools(client):
    asked = dict(max_tokens=128, tools=[WEATHER], tool_choice={"type": "any"})
    answer = whole_answer(client, **asked)
    called = [block for block in answer.content if block.type == "tool_use"]
    ok("messages.tools", answer.stop_reason == "tool_use" and "city" in called[0].input, answer)
    request = dict(model=first_model(client), messages=ASK, extra_body={"temperature": 0})
    with client.messages.stream(**request, **asked) as events:
        final = events.get_final_message()
    streamed = [block.input for block in final.content if block.type == "tool_use"]
    ok("messages.tools.stream", streamed == [block.input for block in called], final)


@group("messages.json_schema")
def structured(client):
    format = {"type": "json_schema", "schema": WEATHER["input_schema"]}
    answer = whole_answer(client, max_tokens=128, output_config={"format": format})
    ok("messages.json_schema", "city" in json.loads(text_of(answer)), answer)


MODES = {
    "basics": [models, messages, stream, limits, errors, headers],
    "more": [tools, structured],
    "refusal": [refusal],
}

if __name__ == "__main__":
    run(MODES, anthropic.Anthropic())
