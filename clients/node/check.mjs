// What the official OpenAI SDK for Node sees at a Polder endpoint.
//
// Only OPENAI_BASE_URL and OPENAI_API_KEY are set; the SDK is unmodified. Prints `ok NAME` for each check and
// ends with an error at the first that fails. POLDER_TEST_NODE_DIR names the folder whose node_modules holds
// the SDK; without it the folder of this file is used.
//
//     node check.mjs basics     everything that an application does every day
//     node check.mjs refusal    the key's owner has no admissible factory: a refusal, and no retry

import http from "node:http";
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

const folder = process.env.POLDER_TEST_NODE_DIR ?? import.meta.dirname;
const resolve = createRequire(path.join(folder, "package.json")).resolve;
const { default: OpenAI } = await import(pathToFileURL(resolve("openai")));

const ASK = [{ role: "user", content: "What is Polder?" }];
const TEXT = "A request runs only where both sides allow it.";

function fail(message) {
  console.error(`FAILED ${message}`);
  process.exit(1);
}

// Prints that a check holds, or ends the run.
function ok(name, condition, seen) {
  if (!condition) fail(`${name}: ${JSON.stringify(seen)}`);
  console.log(`ok ${name}`);
}

// The error of the given kind that a call raises.
async function raises(kind, call) {
  let seen;
  try {
    seen = await call();
  } catch (error) {
    if (error instanceof kind) return error;
    fail(`expected ${kind.name}, got ${error.constructor.name}: ${error.message}`);
  }
  fail(`expected ${kind.name}, got an answer: ${JSON.stringify(seen)}`);
}

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

const unit = (vector) => Math.abs(Math.hypot(...vector) - 1) < 1e-3;
const close = (a, b) => a.length === b.length && a.length > 0 && a.every((x, i) => Math.abs(x - b[i]) < 1e-6);

async function models(client) {
  const listed = await collect(client.models.list());
  ok("models.list", listed.length > 0 && listed.every((model) => model.object === "model"), listed);
  const model = listed[0].id;
  ok("models.retrieve", (await client.models.retrieve(model)).id === model);
  return model;
}

async function chat(client, model) {
  const answer = await client.chat.completions.create({ model, messages: ASK, max_tokens: 32, temperature: 0 });
  const [choice] = answer.choices;
  ok("chat", choice.message.role === "assistant" && choice.message.content.length > 0, answer);
  ok("chat.finish_reason", ["stop", "length"].includes(choice.finish_reason), choice);
  const { prompt_tokens, completion_tokens, total_tokens } = answer.usage;
  const counted = prompt_tokens > 0 && completion_tokens > 0;
  ok("chat.usage", counted && total_tokens === prompt_tokens + completion_tokens, answer.usage);
  return choice.message.content;
}

async function stream(client, model, whole) {
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

async function limits(client, model, whole) {
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

async function embeddings(client, model) {
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

async function errors(client, model) {
  const stranger = client.withOptions({ apiKey: "not-a-key" });
  let error = await raises(OpenAI.AuthenticationError, () => stranger.models.list());
  ok("error.key", error.status === 401 && error.code != null, error);
  const ask = (more) => client.chat.completions.create({ model, messages: ASK, ...more });
  error = await raises(OpenAI.NotFoundError, () => ask({ model: "no-such-model" }));
  ok("error.model", error.status === 404 && error.code === "model_not_found", error);
  error = await raises(OpenAI.NotFoundError, () => client.models.retrieve("no-such-model"));
  ok("error.model_retrieve", error.status === 404, error);
  error = await raises(OpenAI.BadRequestError, () => ask({ temperature: "warm" }));
  ok("error.type", error.status === 400 && error.param === "temperature", error);
  error = await raises(OpenAI.BadRequestError, () => ask({ messages: "hello" }));
  ok("error.messages", error.status === 400 && error.param === "messages", error);
}

async function headers(client, model) {
  const asked = { model, messages: ASK, max_tokens: 4 };
  let { data, response } = await client.chat.completions.create(asked).withResponse();
  for (const name of ["polder-decision", "polder-factory", "polder-receipt"]) {
    ok(`header.${name}`, Boolean(response.headers.get(name)), [...response.headers]);
  }
  ok("header.parse", data.choices.length === 1);
  ({ response } = await client.embeddings.create({ model, input: TEXT }).withResponse());
  ok("header.embeddings", Boolean(response.headers.get("polder-receipt")), [...response.headers]);
}

// Passes requests on to the endpoint and counts them, because a retry is invisible to the caller.
async function counting(target) {
  const address = new URL(target);
  const counter = { count: 0 };
  counter.server = http.createServer((request, response) => {
    counter.count += 1;
    const { hostname, port } = address;
    const passed = { ...request.headers, host: address.host };
    const options = { hostname, port, method: request.method, path: request.url, headers: passed };
    const upstream = http.request(options, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    upstream.on("error", (error) => response.destroy(error));
    request.pipe(upstream);
  });
  await new Promise((done) => counter.server.listen(0, "127.0.0.1", done));
  counter.url = `http://127.0.0.1:${counter.server.address().port}${address.pathname}`;
  return counter;
}

async function refused(client, model, name, more) {
  const asked = { model, messages: ASK, max_tokens: 8, ...more };
  const error = await raises(OpenAI.PermissionDeniedError, () => client.chat.completions.create(asked));
  ok(`${name}.status`, error.status === 403, error);
  ok(`${name}.code`, error.code === "policy_unsatisfiable", error);
  ok(`${name}.should_retry`, error.headers.get("x-should-retry") === "false", [...error.headers]);
  const reasons = error.error?.refusals;
  ok(`${name}.refusals`, Array.isArray(reasons) && reasons.length > 0, error.error);
  ok(`${name}.reasons`, reasons.every((one) => one.factory && one.reason), reasons);
  ok(`${name}.message`, error.message.length > 0 && !JSON.stringify(error.error).includes(ASK[0].content), error.message);
}

async function refusal(client) {
  const [{ id: model }] = await collect(client.models.list());
  const counter = await counting(process.env.OPENAI_BASE_URL);
  const counted = client.withOptions({ baseURL: counter.url });
  await refused(counted, model, "refusal", {});
  ok("refusal.no_retry", counter.count === 1, counter.count);
  await refused(counted, model, "refusal.stream", { stream: true });
  ok("refusal.stream.no_retry", counter.count === 2, counter.count);
  counter.server.closeAllConnections();
  counter.server.close();
}

// Parameters of chat that are refused by name before any engine hears of them.
async function toolParameters(client, model) {
  const create = (more) => client.chat.completions.create({ model, messages: ASK, ...more });
  const refused = {
    n: 1000,
    top_logprobs: 3,
    frequency_penalty: 3,
    response_format: { type: "json_schema" },
    tools: [{ type: "function", function: { name: "not a name" } }],
    modalities: ["audio"],
  };
  for (const [name, value] of Object.entries(refused)) {
    const error = await raises(OpenAI.BadRequestError, () => create({ [name]: value }));
    ok(`refused.${name}`, error.param.startsWith(name), error.error);
  }
  const content = [{ type: "image_url", image_url: { url: "http://127.0.0.1/a.png" } }];
  const error = await raises(OpenAI.BadRequestError, () => create({ messages: [{ role: "user", content }] }));
  ok("refused.url", error.code === "unsupported_parameter" && error.param.includes("image_url"), error.error);
}

async function responses(client, model) {
  const asked = { model, input: "What is Polder?", max_output_tokens: 24, temperature: 0 };
  const first = await client.responses.create({ ...asked, instructions: "Be brief.", metadata: { ticket: "7" } });
  ok("responses", first.output_text.length > 0 && ["completed", "incomplete"].includes(first.status), first);
  const { input_tokens, output_tokens, total_tokens } = first.usage;
  ok("responses.usage", total_tokens === input_tokens + output_tokens, first.usage);
  ok("responses.metadata", first.metadata.ticket === "7", first.metadata);
  const again = await client.responses.retrieve(first.id);
  ok("responses.retrieve", again.id === first.id && again.output_text === first.output_text, again);
  const items = await collect(client.responses.inputItems.list(first.id));
  ok("responses.input_items", items[0].role === "user" && items[0].content[0].text === asked.input, items);
  const following = await client.responses.create({ ...asked, previous_response_id: first.id });
  ok("responses.previous_response_id", following.usage.input_tokens > input_tokens, following.usage);
  await client.responses.delete(first.id);
  await raises(OpenAI.NotFoundError, () => client.responses.retrieve(first.id));
  ok("responses.delete", true);
  const unkept = await client.responses.create({ ...asked, store: false });
  await raises(OpenAI.NotFoundError, () => client.responses.retrieve(unkept.id));
  ok("responses.store_false", unkept.store === false, unkept);
  const hosted = { ...asked, tools: [{ type: "web_search" }] };
  const error = await raises(OpenAI.BadRequestError, () => client.responses.create(hosted));
  ok("responses.hosted_tools", error.code === "unsupported_parameter" && error.param === "tools[0].type", error.error);
}

async function responsesStream(client, model) {
  const asked = { model, input: "What is Polder?", max_output_tokens: 24, temperature: 0 };
  const seen = await collect(await client.responses.create({ ...asked, stream: true }));
  const kinds = seen.map((event) => event.type);
  ok("responses.stream", kinds[0] === "response.created" && kinds[1] === "response.in_progress", kinds);
  ok("responses.stream.end", ["response.completed", "response.incomplete"].includes(kinds.at(-1)), kinds);
  ok("responses.stream.numbers", seen.every((event, number) => event.sequence_number === number), kinds);
  const needed = ["output_item.added", "content_part.added", "output_text.delta", "output_text.done", "content_part.done"];
  ok("responses.stream.kinds", [...needed, "output_item.done"].every((kind) => kinds.includes(`response.${kind}`)), kinds);
  const pieces = (events) => events.filter((one) => one.type === "response.output_text.delta").map((one) => one.delta);
  const text = pieces(seen).join("");
  ok("responses.stream.text", text.length > 0 && text === seen.at(-1).response.output[0].content[0].text, text);
  const helped = await collect(client.responses.stream(asked));
  ok("responses.stream.helper", pieces(helped).join("") === text, text);
}

async function responsesBackground(client, model) {
  const asked = { model, input: "What is Polder?", max_output_tokens: 24, temperature: 0, background: true };
  const queued = await client.responses.create(asked);
  ok("responses.background", queued.status === "queued", queued);
  let seen = queued;
  while (["queued", "in_progress"].includes(seen.status)) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    seen = await client.responses.retrieve(queued.id);
  }
  const ended = ["completed", "incomplete"].includes(seen.status) && seen.output_text.length > 0;
  ok("responses.background.end", ended, seen);
  ok("responses.cancel", (await client.responses.cancel(queued.id)).status === seen.status);
  const events = await collect(await client.responses.create({ ...asked, stream: true }));
  ok("responses.background.stream", events[1].type === "response.queued", events);
  const query = { stream: true, starting_after: events[2].sequence_number };
  const rest = await collect(await client.responses.retrieve(events[0].response.id, query));
  const types = (list) => list.map((one) => one.type).join();
  ok("responses.background.resume", types(rest) === types(events.slice(3)), rest);
}

// The demo's engine takes no raw prompts, and says so.
async function completions(client, model) {
  const error = await raises(OpenAI.BadRequestError, () => client.completions.create({ model, prompt: "Once" }));
  ok("completions.embedded", error.code === "unsupported_parameter" && error.param === "prompt", error.error);
}

async function basics(client) {
  const model = await models(client);
  const whole = await chat(client, model);
  await stream(client, model, whole);
  await limits(client, model, whole);
  await embeddings(client, model);
  await errors(client, model);
  await headers(client, model);
  await toolParameters(client, model);
  await responses(client, model);
  await responsesStream(client, model);
  await responsesBackground(client, model);
  await completions(client, model);
}

const modes = { basics, refusal };
const mode = modes[process.argv[2]];
if (!mode) fail(`usage: check.mjs ${Object.keys(modes).join("|")}`);
await mode(new OpenAI());
