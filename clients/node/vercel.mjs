// What the Vercel AI SDK sees at a Polder endpoint, through its OpenAI provider and its provider for compatible engines.
//
// Only OPENAI_BASE_URL and OPENAI_API_KEY are set; both packages are unmodified. The provider for compatible engines reads no
// variables, so it is given the same two values. README.md beside this folder says how checks are told.
//
//     node vercel.mjs basics     everything that an application does every day
//     node vercel.mjs more       what only some engines can do
//     node vercel.mjs refusal    the key's owner has no admissible factory: a refusal, and no retry

import { collect, counting, load, ok, raises, run } from "./report.mjs";

const { APICallError, embedMany, generateText, jsonSchema, Output, streamText, tool } = await load("ai");
const { createOpenAI, openai } = await load("@ai-sdk/openai");
const { createOpenAICompatible } = await load("@ai-sdk/openai-compatible");

const PROMPT = "What is Polder?";
const baseURL = process.env.OPENAI_BASE_URL;
const apiKey = process.env.OPENAI_API_KEY;

const listed = await fetch(`${baseURL}/models`, { headers: { authorization: `Bearer ${apiKey}` } });
const id = (await listed.json()).data[0].id;
const asked = { prompt: PROMPT, maxOutputTokens: 32, temperature: 0 };

async function chat() {
  const answer = await generateText({ model: openai.chat(id), ...asked });
  ok("chat", answer.text.length > 0, answer.text);
  ok("chat.usage", answer.usage.inputTokens > 0 && answer.usage.outputTokens > 0, answer.usage);
  ok("chat.finish_reason", ["stop", "length"].includes(answer.finishReason), answer.finishReason);
  const streamed = streamText({ model: openai.chat(id), ...asked });
  const pieces = await collect(streamed.textStream);
  ok("stream", pieces.join("") === answer.text && pieces.length > 1, pieces);
  ok("stream.usage_last", (await streamed.usage).outputTokens === answer.usage.outputTokens, await streamed.usage);
}

async function compatible() {
  const polder = createOpenAICompatible({ name: "polder", baseURL, apiKey, includeUsage: true });
  const answer = await generateText({ model: polder(id), ...asked });
  ok("compatible.chat", answer.text.length > 0 && answer.usage.outputTokens > 0, answer.text);
  const streamed = streamText({ model: polder(id), ...asked });
  const pieces = await collect(streamed.textStream);
  ok("compatible.stream", pieces.join("") === answer.text, pieces);
  ok("compatible.usage", (await streamed.usage).outputTokens === answer.usage.outputTokens, await streamed.usage);
}

async function embeddings() {
  const { embeddings } = await embedMany({ model: openai.embedding(id), values: [PROMPT, "Hello", PROMPT] });
  const same = JSON.stringify(embeddings[0]) === JSON.stringify(embeddings[2]);
  ok("embeddings.list", embeddings.length === 3 && embeddings[0].length > 0, embeddings.length);
  ok("embeddings.order", same && JSON.stringify(embeddings[0]) !== JSON.stringify(embeddings[1]));
}

async function errors() {
  const call = () => generateText({ model: openai.chat("no-such-model"), ...asked });
  const error = await raises("error.model", APICallError, call);
  ok("error.model", error.statusCode === 404, error);
}

async function refusal() {
  const counter = await counting(baseURL);
  const counted = createOpenAI({ baseURL: counter.url, apiKey });
  const call = () => generateText({ model: counted.chat(id), ...asked });
  const error = await raises("refusal.status", APICallError, call);
  ok("refusal.status", error.statusCode === 403, error);
  ok("refusal.refusals", JSON.parse(error.responseBody).error.refusals.length > 0, error.responseBody);
  ok("refusal.no_retry", counter.count === 1, counter.count);
  counter.close();
}

const SCHEMA = jsonSchema({
  type: "object",
  properties: { city: { type: "string", enum: ["Delft", "Gouda"] } },
  required: ["city"],
  additionalProperties: false,
});

async function tools() {
  const weather = tool({ description: "The weather in a city", inputSchema: SCHEMA });
  const offered = { tools: { weather }, toolChoice: "required", maxOutputTokens: 128 };
  const answer = await generateText({ model: openai.chat(id), ...asked, ...offered });
  ok("tools.required", answer.toolCalls[0]?.toolName === "weather" && "city" in answer.toolCalls[0].input, answer.content);
}

async function structured() {
  const output = Output.object({ schema: SCHEMA });
  const answer = await generateText({ model: openai.chat(id), ...asked, maxOutputTokens: 128, output });
  ok("json_schema", "city" in answer.output, answer.text);
}

async function responses() {
  const answer = await generateText({ model: openai(id), ...asked });
  ok("responses", answer.text.length > 0, answer.text);
  const pieces = await collect(streamText({ model: openai(id), ...asked }).textStream);
  ok("responses.stream", pieces.join("") === answer.text, pieces);
}

const modes = {
  basics: [
    ["chat", chat],
    ["compatible.chat", compatible],
    ["embeddings.list", embeddings],
    ["error.model", errors],
  ],
  more: [
    ["tools.required", tools],
    ["json_schema", structured],
    ["responses", responses],
  ],
  refusal: [["refusal.status", refusal]],
};
await run(modes);
