// What the official OpenAI SDK for Node sees at a Polder endpoint.
//
// Only OPENAI_BASE_URL and OPENAI_API_KEY are set; the SDK is unmodified. README.md beside this folder says how checks are told.
//
//     node check.mjs basics     everything that an application does every day
//     node check.mjs more       what only some engines can do
//     node check.mjs refusal    the key's owner has no admissible factory: a refusal, and no retry
//     node check.mjs pictures   an endpoint in front of an engine that makes pictures

import { collect, counting, load, ok, raises, run } from "./report.mjs";

const { default: OpenAI, toFile } = await load("openai");

const CHAT = "/v1/chat/completions";
const ASK = [{ role: "user", content: "What is Polder?" }];
const TEXT = "A request runs only where both sides allow it.";

const unit = (vector) => Math.abs(Math.hypot(...vector) - 1) < 1e-3;
const close = (a, b) => a.length === b.length && a.length > 0 && a.every((x, i) => Math.abs(x - b[i]) < 1e-6);

// The first model that the endpoint lists.
const firstModel = async (client) => (await collect(client.models.list()))[0].id;

async function models(client) {
  const listed = await collect(client.models.list());
  ok("models.list", listed.length > 0 && listed.every((model) => model.object === "model"), listed);
  const model = listed[0].id;
  ok("models.retrieve", (await client.models.retrieve(model)).id === model);
}

// The answer that the others are compared with.
const wholeAnswer = (client, model) =>
  client.chat.completions.create({ model, messages: ASK, max_tokens: 32, temperature: 0 });

async function chat(client) {
  const answer = await wholeAnswer(client, await firstModel(client));
  const [choice] = answer.choices;
  ok("chat", choice.message.role === "assistant" && choice.message.content.length > 0, answer);
  ok("chat.finish_reason", ["stop", "length"].includes(choice.finish_reason), choice);
  const { prompt_tokens, completion_tokens, total_tokens } = answer.usage;
  const counted = prompt_tokens > 0 && completion_tokens > 0;
  ok("chat.usage", counted && total_tokens === prompt_tokens + completion_tokens, answer.usage);
}

async function stream(client) {
  const model = await firstModel(client);
  const whole = (await wholeAnswer(client, model)).choices[0].message.content;
  const asked = { model, messages: ASK, max_tokens: 32, temperature: 0, stream: true };
  let chunks = await collect(await client.chat.completions.create(asked));
  const text = chunks.map((chunk) => chunk.choices[0].delta.content ?? "").join("");
  ok("stream", text === whole, [text, whole]);
  ok("stream.pieces", chunks.length > 2 && new Set(chunks.map((chunk) => chunk.id)).size === 1, chunks);
  ok("stream.finish_reason", ["stop", "length"].includes(chunks.at(-1).choices[0].finish_reason), chunks.at(-1));
  ok("stream.no_usage_unasked", chunks.every((chunk) => chunk.usage == null));
  chunks = await collect(await client.chat.completions.create({ ...asked, stream_options: { include_usage: true } }));
  ok("stream.usage_null_before", chunks.slice(0, -1).every((chunk) => chunk.usage === null), chunks[0]);
  const last = chunks.at(-1);
  ok("stream.usage_last", last.choices.length === 0 && last.usage.completion_tokens > 0, last);
}

async function limits(client) {
  const model = await firstModel(client);
  const whole = (await wholeAnswer(client, model)).choices[0].message.content;
  const create = (more) => client.chat.completions.create({ model, messages: ASK, temperature: 0, ...more });
  let short = await create({ max_tokens: 1 });
  ok("max_tokens", short.choices[0].finish_reason === "length" && short.usage.completion_tokens === 1, short);
  short = await create({ max_completion_tokens: 2 });
  ok("max_completion_tokens", short.usage.completion_tokens <= 2, short);
  const letters = Array.from(whole);
  const half = Math.floor(letters.length / 2);
  const mark = letters.slice(half, half + 3).join("");
  const cut = await create({ max_tokens: 32, stop: [mark] });
  const text = cut.choices[0].message.content;
  ok("stop", text === whole.split(mark)[0] && cut.choices[0].finish_reason === "stop", [mark, text, whole]);
  const seeded = { max_tokens: 16, temperature: 1.2, seed: 7 };
  const twice = [await create(seeded), await create(seeded)].map((answer) => answer.choices[0].message.content);
  ok("seed", twice[0] === twice[1], twice);
}

async function embeddings(client) {
  const model = await firstModel(client);
  const embed = (input, more) => client.embeddings.create({ model, input, ...more });
  const first = await embed(TEXT);
  const vector = first.data[0].embedding;
  ok("embeddings", Array.isArray(vector) && vector.length > 0 && unit(vector), vector.slice(0, 4));
  ok("embeddings.usage", first.usage.prompt_tokens > 0 && first.usage.total_tokens > 0, first.usage);
  const plain = await embed(TEXT, { encoding_format: "float" });
  ok("embeddings.float_equals_base64", close(plain.data[0].embedding, vector));
  const coded = await embed(TEXT, { encoding_format: "base64" });
  ok("embeddings.base64_text", typeof coded.data[0].embedding === "string");
  const many = await embed([TEXT, "Hello", TEXT]);
  ok("embeddings.list", many.data.map((item) => item.index).join() === "0,1,2", many.data.length);
  const [a, b, c] = many.data.map((item) => item.embedding);
  ok("embeddings.order", close(a, c) && !close(a, b));
  const tokens = await embed([5, 6, 7]);
  ok("embeddings.tokens", tokens.data.length === 1 && unit(tokens.data[0].embedding), tokens.data.length);
  ok("embeddings.tokens_usage", tokens.usage.prompt_tokens >= 3, tokens.usage);
  const batches = await embed([[5, 6, 7], [8, 9]]);
  ok("embeddings.token_lists", batches.data.length === 2 && close(batches.data[0].embedding, tokens.data[0].embedding));
}

async function errors(client) {
  const model = await firstModel(client);
  const stranger = client.withOptions({ apiKey: "not-a-key" });
  let error = await raises("error.key", OpenAI.AuthenticationError, () => stranger.models.list());
  ok("error.key", error.status === 401 && error.code != null, error);
  const ask = (more) => client.chat.completions.create({ model, messages: ASK, ...more });
  error = await raises("error.model", OpenAI.NotFoundError, () => ask({ model: "no-such-model" }));
  ok("error.model", error.status === 404 && error.code === "model_not_found", error);
  error = await raises("error.model_retrieve", OpenAI.NotFoundError, () => client.models.retrieve("no-such-model"));
  ok("error.model_retrieve", error.status === 404, error);
  error = await raises("error.type", OpenAI.BadRequestError, () => ask({ temperature: "warm" }));
  ok("error.type", error.status === 400 && error.param === "temperature", error);
  error = await raises("error.messages", OpenAI.BadRequestError, () => ask({ messages: "hello" }));
  ok("error.messages", error.status === 400 && error.param === "messages", error);
}

async function headers(client) {
  const model = await firstModel(client);
  const asked = { model, messages: ASK, max_tokens: 4 };
  let { data, response } = await client.chat.completions.create(asked).withResponse();
  for (const name of ["polder-decision", "polder-factory", "polder-receipt"]) {
    ok(`header.${name}`, Boolean(response.headers.get(name)), [...response.headers]);
  }
  ok("header.parse", data.choices.length === 1);
  ({ response } = await client.embeddings.create({ model, input: TEXT }).withResponse());
  ok("header.embeddings", Boolean(response.headers.get("polder-receipt")), [...response.headers]);
}

async function refused(client, model, name, more) {
  const asked = { model, messages: ASK, max_tokens: 8, ...more };
  const error = await raises(`${name}.status`, OpenAI.PermissionDeniedError, () => client.chat.completions.create(asked));
  ok(`${name}.status`, error.status === 403, error);
  ok(`${name}.code`, error.code === "policy_unsatisfiable", error);
  ok(`${name}.should_retry`, error.headers.get("x-should-retry") === "false", [...error.headers]);
  const reasons = error.error?.refusals;
  ok(`${name}.refusals`, Array.isArray(reasons) && reasons.length > 0, error.error);
  ok(`${name}.reasons`, reasons.every((one) => one.factory && one.reason), reasons);
  ok(`${name}.message`, error.message.length > 0 && !JSON.stringify(error.error).includes(ASK[0].content), error.message);
}

async function refusal(client) {
  const model = await firstModel(client);
  const counter = await counting(process.env.OPENAI_BASE_URL);
  const counted = client.withOptions({ baseURL: counter.url });
  await refused(counted, model, "refusal", {});
  ok("refusal.no_retry", counter.count === 1, counter.count);
  await refused(counted, model, "refusal.stream", { stream: true });
  ok("refusal.stream.no_retry", counter.count === 2, counter.count);
  counter.close();
}

async function rerank(client) {
  const documents = [TEXT, "The weather is fine today.", { text: "Rules decide where a request may run." }];
  const body = { model: await firstModel(client), query: TEXT, documents };
  const { results } = await client.post("/rerank", { body });
  const falling = results.every((one, place) => place === 0 || results[place - 1].relevance_score >= one.relevance_score);
  ok("rerank", results[0].index === 0 && falling, results);
  ok("rerank.documents", results.length === 3 && results[0].document.text === TEXT, results);
  const best = await client.post("/rerank", { body: { ...body, top_n: 1, return_documents: false } });
  ok("rerank.top_n", best.results.length === 1 && !("document" in best.results[0]), best);
}

async function noPictures(client) {
  const call = async () => client.images.generate({ model: await firstModel(client), prompt: "A polder" });
  const error = await raises("images.model", OpenAI.BadRequestError, call);
  ok("images.model", error.code === "unsupported_parameter" && error.param === "model", error);
}

async function pictures(client) {
  const model = await firstModel(client);
  const made = await client.images.generate({ model, prompt: "A polder", n: 2, size: "64x64" });
  const isPng = (item) => Buffer.from(item.b64_json, "base64").subarray(1, 4).toString() === "PNG";
  ok("images", made.data.length === 2 && made.data.every(isPng), made);
  const call = () => client.images.generate({ model, prompt: "A polder", response_format: "url" });
  const error = await raises("images.url", OpenAI.BadRequestError, call);
  ok("images.url", error.code === "unsupported_parameter" && error.param === "response_format", error);
}

const WEATHER = {
  name: "weather",
  description: "The weather in a city",
  parameters: {
    type: "object",
    properties: { city: { type: "string", enum: ["Delft", "Gouda"] } },
    required: ["city"],
    additionalProperties: false,
  },
};

async function tools(client) {
  const model = await firstModel(client);
  const offered = { tools: [{ type: "function", function: WEATHER }], tool_choice: "required" };
  const asked = { model, messages: ASK, max_tokens: 128, temperature: 0, ...offered };
  const [choice] = (await client.chat.completions.create(asked)).choices;
  const called = choice.message.tool_calls[0].function;
  ok("tools.required", called.name === "weather" && "city" in JSON.parse(called.arguments), choice);
  ok("tools.finish_reason", choice.finish_reason === "tool_calls", choice);
  const chunks = await collect(await client.chat.completions.create({ ...asked, stream: true }));
  const deltas = chunks.flatMap((chunk) => chunk.choices[0].delta.tool_calls ?? []);
  ok("tools.stream.index", deltas.length > 0 && deltas.every((delta) => delta.index === 0), deltas);
  const pieces = deltas.map((delta) => delta.function.arguments ?? "").join("");
  ok("tools.stream", "city" in JSON.parse(pieces), pieces);
}

async function structured(client) {
  const json_schema = { name: "weather", strict: true, schema: WEATHER.parameters };
  const asked = { model: await firstModel(client), messages: ASK, max_tokens: 128, temperature: 0 };
  const response_format = { type: "json_schema", json_schema };
  const answer = await client.chat.completions.create({ ...asked, response_format });
  ok("json_schema", "city" in JSON.parse(answer.choices[0].message.content), answer);
}

async function likelihoods(client) {
  const asked = { model: await firstModel(client), messages: ASK, max_tokens: 4, temperature: 0 };
  const answer = await client.chat.completions.create({ ...asked, logprobs: true, top_logprobs: 2 });
  const tokens = answer.choices[0].logprobs.content;
  ok("logprobs", tokens.length > 0 && tokens.every((one) => one.logprob <= 0 && one.top_logprobs.length === 2), answer);
}

async function several(client) {
  const model = await firstModel(client);
  const answer = await client.chat.completions.create({ model, messages: ASK, max_tokens: 8, n: 2 });
  ok("n", answer.choices.map((choice) => choice.index).join() === "0,1", answer);
}

async function responses(client) {
  const asked = { model: await firstModel(client), input: ASK[0].content, max_output_tokens: 32, temperature: 0 };
  const answer = await client.responses.create(asked);
  ok("responses", ["completed", "incomplete"].includes(answer.status) && answer.output_text.length > 0, answer);
  ok("responses.retrieve", (await client.responses.retrieve(answer.id)).output_text === answer.output_text);
  await client.responses.delete(answer.id);
  const error = await raises("responses.delete", OpenAI.NotFoundError, () => client.responses.retrieve(answer.id));
  ok("responses.delete", error.status === 404, error);
}

async function responsesStream(client) {
  const asked = { model: await firstModel(client), input: ASK[0].content, max_output_tokens: 32, temperature: 0 };
  const events = client.responses.stream(asked);
  const kinds = (await collect(events)).map((event) => event.type);
  const final = await events.finalResponse();
  ok("responses.stream", kinds[0] === "response.created" && final.output_text.length > 0, kinds);
}

// A file of these texts, one on each line.
const bring = async (client, lines) =>
  client.files.create({ file: await toFile(Buffer.from(lines.join("\n")), "lines.jsonl"), purpose: "batch" });

async function files(client) {
  const line = '{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{}}';
  const kept = await bring(client, [line]);
  ok("files", (await (await client.files.content(kept.id)).text()) === line, kept);
  const listed = (await collect(client.files.list({ purpose: "batch" }))).map((file) => file.id);
  const name = (await client.files.retrieve(kept.id)).filename;
  ok("files.list", listed.includes(kept.id) && name === "lines.jsonl", listed);
  await client.files.delete(kept.id);
  const error = await raises("files.delete", OpenAI.NotFoundError, () => client.files.retrieve(kept.id));
  ok("files.delete", error.status === 404, error);
}

// A batch, once it is at its end.
async function ended(client, batch) {
  for (let tries = 0; tries < 600; tries += 1) {
    batch = await client.batches.retrieve(batch.id);
    if (["completed", "failed", "expired", "cancelled"].includes(batch.status)) break;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return batch;
}

// A batch over these lines.
async function begun(client, lines) {
  const input_file_id = (await bring(client, lines.map((line) => JSON.stringify(line)))).id;
  const asked = { input_file_id, endpoint: CHAT, completion_window: "24h", metadata: { run: "1" } };
  return client.batches.create(asked);
}

async function batches(client) {
  const good = { model: await firstModel(client), messages: ASK, max_tokens: 8, temperature: 0 };
  const bodies = { first: good, second: good, wrong: { ...good, temperature: "hot" } };
  const line = (custom_id, body) => ({ custom_id, method: "POST", url: CHAT, body });
  const lines = Object.entries(bodies).map(([name, body]) => line(name, body));
  const batch = await ended(client, await begun(client, lines));
  ok("batches", batch.status === "completed" && batch.metadata.run === "1", batch);
  const { total, completed, failed } = batch.request_counts;
  ok("batches.counts", [total, completed, failed].join() === "3,2,1", batch.request_counts);
  const read = async (id) => (await (await client.files.content(id)).text()).trim().split("\n").map(JSON.parse);
  const answers = await read(batch.output_file_id);
  const named = answers.map((one) => one.custom_id).sort().join();
  const said = answers.every((one) => one.response.body.choices[0].message.content.length > 0);
  ok("batches.output", named === "first,second" && said, answers);
  const [wrong] = await read(batch.error_file_id);
  const { status_code, body } = wrong.response;
  ok("batches.errors", status_code === 400 && body.error.param === "temperature", wrong);
  const { data } = await client.batches.list({ limit: 5 });
  ok("batches.list", data.some((one) => one.id === batch.id), data);
  const twice = await ended(client, await begun(client, [line("same", good), line("same", good)]));
  ok("batches.invalid", twice.status === "failed" && twice.errors.data[0].line === 2, twice);
  const error = await raises("batches.cancel", OpenAI.BadRequestError, () => client.batches.cancel(twice.id));
  ok("batches.cancel", error.param === "batch_id", error);
}

const modes = {
  basics: [
    ["models.list", models],
    ["chat", chat],
    ["stream", stream],
    ["max_tokens", limits],
    ["embeddings", embeddings],
    ["error.key", errors],
    ["header.polder-decision", headers],
    ["rerank", rerank],
    ["images.model", noPictures],
  ],
  more: [
    ["tools.required", tools],
    ["json_schema", structured],
    ["logprobs", likelihoods],
    ["n", several],
    ["responses", responses],
    ["responses.stream", responsesStream],
    ["files", files],
    ["batches", batches],
  ],
  refusal: [["refusal.status", refusal]],
  pictures: [["images", pictures]],
};
await run(modes, new OpenAI());
