"""What LangChain's OpenAI client sees at a Polder endpoint.

Only OPENAI_BASE_URL and OPENAI_API_KEY are set; the client is unmodified. README.md beside this folder says how checks are told.

LangChain turns texts into token ids before it asks for their vectors. Its tokeniser's tables are downloaded when they are
first used, which no test may need; so a table of 256 single bytes is registered for the model, by tiktoken's own means, as
an application does for a model that tiktoken does not know.

    python check_langchain.py basics     everything that an application does every day
    python check_langchain.py more       what only some engines can do
    python check_langchain.py refusal    the key's owner has no admissible factory
"""

import math
from typing import Literal

import openai
import tiktoken
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

from report import group, ok, raises, run

ASK = "What is Polder?"


def first_model():
    """The first model that the endpoint lists."""
    return next(iter(openai.OpenAI().models.list())).id


def bytes_as_tokens(model):
    """Registers a tokeniser for a model: each byte is one token."""
    ranks = {bytes([byte]): byte for byte in range(256)}
    encoding = tiktoken.Encoding("bytes", pat_str="(?s).", mergeable_ranks=ranks, special_tokens={})
    tiktoken.registry.ENCODINGS["bytes"] = encoding
    tiktoken.model.MODEL_TO_ENCODING[model] = "bytes"


@group("chat")
def chat(model):
    asked = ChatOpenAI(model=model, temperature=0, max_tokens=32)
    answer = asked.invoke(ASK)
    ok("chat", isinstance(answer.content, str) and len(answer.content) > 0, answer)
    ok("chat.usage", answer.usage_metadata["output_tokens"] > 0, answer)
    ok("chat.finish_reason", answer.response_metadata["finish_reason"] in ("stop", "length"), answer)
    several = asked.batch([ASK, ASK])
    ok("chat.batch", [one.content for one in several] == [answer.content] * 2, several)
    chunks = list(asked.stream(ASK))
    ok("stream", "".join(chunk.content for chunk in chunks) == answer.content and len(chunks) > 2, chunks)
    chunks = list(ChatOpenAI(model=model, temperature=0, max_tokens=32, stream_usage=True).stream(ASK))
    used = [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata]
    ok("stream.usage_last", len(used) == 1 and used[0] == answer.usage_metadata, used)


@group("embeddings.token_lists")
def embeddings(model):
    bytes_as_tokens(model)
    made = OpenAIEmbeddings(model=model)
    vectors = made.embed_documents([ASK, "Hello", ASK])
    length = math.sqrt(sum(x * x for x in vectors[0]))
    ok("embeddings.token_lists", len(vectors) == 3 and abs(length - 1) < 1e-3, (len(vectors), length))
    ok("embeddings.order", vectors[0] == vectors[2] != vectors[1])
    texts = OpenAIEmbeddings(model=model, check_embedding_ctx_length=False)
    ok("embeddings", len(texts.embed_query(ASK)) == len(vectors[0]))


@group("error.model")
def errors(model):
    call = lambda: ChatOpenAI(model="no-such-model").invoke(ASK)
    error = raises("error.model", openai.NotFoundError, call)
    ok("error.model", error.code == "model_not_found", error.body)


@group("refusal.status")
def refusal(model):
    error = raises("refusal.status", openai.PermissionDeniedError, lambda: ChatOpenAI(model=model).invoke(ASK))
    ok("refusal.status", error.status_code == 403, error)
    ok("refusal.code", error.code == "policy_unsatisfiable", error.body)
    ok("refusal.refusals", len(error.body["refusals"]) > 0, error.body)


@group("tools.required")
def tools(model):
    def weather(city: Literal["Delft", "Gouda"]) -> str:
        """The weather in a city"""
        return city

    bound = ChatOpenAI(model=model, temperature=0, max_tokens=128).bind_tools([weather], tool_choice="required", strict=True)
    answer = bound.invoke(ASK)
    ok("tools.required", answer.tool_calls[0]["name"] == "weather" and "city" in answer.tool_calls[0]["args"], answer)


@group("json_schema")
def structured(model):
    schema = {
        "title": "weather",
        "description": "The weather",
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Delft", "Gouda"]}},
        "required": ["city"],
        "additionalProperties": False,
    }
    made = ChatOpenAI(model=model, temperature=0, max_tokens=128).with_structured_output(schema, method="json_schema")
    answer = made.invoke(ASK)
    ok("json_schema", list(answer) == ["city"], answer)


MODES = {"basics": [chat, embeddings, errors], "more": [tools, structured], "refusal": [refusal]}

if __name__ == "__main__":
    run(MODES, first_model())
