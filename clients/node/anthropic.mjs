// What the official Anthropic SDK for Node sees at a Polder endpoint.
//
// Only ANTHROPIC_BASE_URL and ANTHROPIC_API_KEY are set; the SDK is unmodified. README.md beside this folder says how checks
// are told.
//
//     node anthropic.mjs basics     everything that an application does every day
//     node anthropic.mjs more       what only some engines can do
//     node anthropic.mjs refusal    the key's owner has no admissible factory: a refusal, and no retry

import { collect, counting, load, ok, raises, run } from "./report.mjs";

const { default: Anthropic } = await load("@anthropic-ai/sdk");

const ASK = [{ role: "user", content: "What is Polder?" }];

const firstModel = async (client) => (await collect(client.models.list()))[0].id;
const request = async (client, more) => {
  const model = await firstModel(client);
  return { model, messages: ASK, max_tokens: 32, temperature: 0, ...more };
};
const wholeAnswer = async (client, more) => client.messages.create(await request(client, more));
const textOf = (message) => message.content.map((block) => (block.type === "text" ? block.text : "")).join("");

async function models(client) {
  const listed = await collect(client.models.list());
  ok("models.list", listed.length > 0 && listed.every((model) => model.type === "model"), listed);
  ok("models.retrieve", (await client.models.retrieve(listed[0].id)).id === listed[0].id);
}

async function messages(client) {
  const answer = await wholeAnswer(client);
  ok("messages", answer.role === "assistant" && textOf(answer).length > 0, answer);
  ok("messages.stop_reason", ["end_turn", "max_tokens"].includes(answer.stop_reason), answer);
  ok("messages.usage", answer.usage.input_tokens > 0 && answer.usage.output_tokens > 0, answer.usage);
  ok("messages.request_id", answer._request_id?.startsWith("decision-"), answer._request_id);
  const turns = [...ASK, { role: "assistant", content: answer.content }, { role: "user", content: "And a receipt?" }];
  const system = [{ type: "text", text: "Answer in one sentence.", cache_control: { type: "ephemeral" } }];
  ok("messages.system", textOf(await wholeAnswer(client, { messages: turns, system })).length > 0);
}

async function stream(client) {
  const whole = await wholeAnswer(client);
  const asked = await request(client);
  const events = await collect(await client.messages.create({ ...asked, stream: true }));
  const text = events.map((event) => event.delta?.text ?? "").join("");
  ok("messages.stream", text === textOf(whole), [text, whole]);
  const kinds = events.map((event) => event.type).filter((kind, place, all) => all[place - 1] !== kind);
  const expected = ["message_start", "content_block_start", "content_block_delta", "content_block_stop"];
  ok("messages.stream.events", kinds.join() === [...expected, "message_delta", "message_stop"].join(), kinds);
  const final = await client.messages.stream(asked).finalMessage();
  ok("messages.stream.helper", textOf(final) === textOf(whole), final);
  ok("messages.stream.usage", final.usage.output_tokens === whole.usage.output_tokens, final.usage);
  ok("messages.stream.input_tokens", final.usage.input_tokens === whole.usage.input_tokens, final.usage);
}

async function limits(client) {
  const whole = textOf(await wholeAnswer(client));
  const short = await wholeAnswer(client, { max_tokens: 1 });
  ok("messages.max_tokens", short.stop_reason === "max_tokens" && short.usage.output_tokens === 1, short);
  const half = Math.floor(whole.length / 2);
  const mark = whole.slice(half, half + 3);
  const cut = await wholeAnswer(client, { stop_sequences: [mark] });
  ok("messages.stop_sequences", textOf(cut) === whole.split(mark)[0], [mark, cut, whole]);
}

async function errors(client) {
  const stranger = client.withOptions({ apiKey: "not-a-key" });
  let error = await raises("messages.error.key", Anthropic.AuthenticationError, () => stranger.models.list());
  ok("messages.error.key", error.status === 401, error);
  const call = (more) => () => wholeAnswer(client, more);
  error = await raises("messages.error.model", Anthropic.NotFoundError, call({ model: "no-such-model" }));
  ok("messages.error.model", error.error.error.type === "not_found_error", error.error);
  const thinking = { type: "enabled", budget_tokens: 1024 };
  error = await raises("messages.error.thinking", Anthropic.BadRequestError, call({ thinking }));
  ok("messages.error.thinking", error.error.error.param === "thinking", error.error);
  const image = { type: "image", source: { type: "url", url: "http://127.0.0.1:9/x.png" } };
  const asked = { messages: [{ role: "user", content: [image] }] };
  error = await raises("messages.error.url", Anthropic.BadRequestError, call(asked));
  ok("messages.error.url", error.error.error.code === "unsupported_parameter", error.error);
  const { model } = await request(client);
  const count = () => client.messages.countTokens({ model, messages: ASK });
  error = await raises("messages.count_tokens", Anthropic.NotFoundError, count);
  ok("messages.count_tokens", error.error.error.type === "not_found_error", error.error);
}

async function headers(client) {
  const { response } = await client.messages.create(await request(client, { max_tokens: 4 })).withResponse();
  const names = ["polder-decision", "polder-factory", "polder-receipt", "request-id"];
  ok("messages.headers", names.every((name) => response.headers.get(name)), [...response.headers]);
}

async function refusal(client) {
  const asked = await request(client, { max_tokens: 8 });
  const counter = await counting(process.env.ANTHROPIC_BASE_URL);
  const counted = client.withOptions({ baseURL: counter.url });
  for (const [name, stream] of [["messages.refusal", false], ["messages.refusal.stream", true]]) {
    const call = () => counted.messages.create({ ...asked, stream });
    const error = await raises(name, Anthropic.PermissionDeniedError, call);
    const body = error.error.error;
    ok(name, body.type === "permission_error" && body.code === "policy_unsatisfiable", body);
    ok(`${name}.reasons`, body.refusals.length > 0 && body.refusals.every((one) => one.factory && one.reason), body);
    ok(`${name}.nearest`, body.nearest.length > 0 && body.decision.startsWith("decision-"), body);
  }
  ok("messages.refusal.no_retry", counter.count === 2, counter.count);
  counter.close();
}

const SCHEMA = {
  type: "object",
  properties: { city: { type: "string", enum: ["Delft", "Gouda"] } },
  required: ["city"],
  additionalProperties: false,
};
const WEATHER = { name: "weather", description: "The weather in a city", input_schema: SCHEMA };

async function tools(client) {
  const asked = await request(client, { max_tokens: 128, tools: [WEATHER], tool_choice: { type: "any" } });
  const answer = await client.messages.create(asked);
  const inputs = (message) => message.content.filter((block) => block.type === "tool_use").map((block) => block.input);
  ok("messages.tools", answer.stop_reason === "tool_use" && "city" in inputs(answer)[0], answer);
  const final = await client.messages.stream(asked).finalMessage();
  ok("messages.tools.stream", JSON.stringify(inputs(final)) === JSON.stringify(inputs(answer)), final);
}

async function structured(client) {
  const format = { type: "json_schema", schema: SCHEMA };
  const answer = await wholeAnswer(client, { max_tokens: 128, output_config: { format } });
  ok("messages.json_schema", "city" in JSON.parse(textOf(answer)), answer);
}

const modes = {
  basics: [
    ["models.list", models],
    ["messages", messages],
    ["messages.stream", stream],
    ["messages.max_tokens", limits],
    ["messages.error.key", errors],
    ["messages.headers", headers],
  ],
  more: [
    ["messages.tools", tools],
    ["messages.json_schema", structured],
  ],
  refusal: [["messages.refusal", refusal]],
};
await run(modes, new Anthropic());
