// Responses. The worker does nothing until it is told to cancel a request, so cancelling comes first.
import { standardTextFormat } from "openai/helpers/standard-schema";
import { client, collect, print, refusal, sum } from "./client.mjs";

const { responses } = client;
const hello = { model: "m", input: "hello" };

const waiting = await responses.create({ ...hello, background: true });
const cancelled = await responses.cancel(waiting.id);

const made = await responses.create({ ...hello, instructions: "Be nice.", metadata: { a: "b" } });
const found = await responses.retrieve(made.id);
const next = await responses.create({ model: "m", input: "again", previous_response_id: made.id });
const items = await collect(responses.inputItems.list(next.id));

const events = await collect(await responses.create({ ...hello, stream: true }));
const final = await responses.stream(hello).finalResponse();

const background = await collect(await responses.create({ ...hello, background: true, stream: true }));
const { id } = background[0].response;
const replayed = await collect(await responses.retrieve(id, { stream: true, starting_after: 3 }));

const add = {
  type: "function",
  name: "add",
  parameters: { type: "object", properties: { a: { type: "integer" }, b: { type: "integer" } } },
  strict: false,
};
const first = await responses.create({ model: "m", input: "2+3?", tools: [add] });
const call = first.output.find((item) => item.type === "function_call");
const { a, b } = JSON.parse(call.arguments);
const second = await responses.create({
  model: "m",
  previous_response_id: first.id,
  input: [{ type: "function_call_output", call_id: call.call_id, output: String(a + b) }],
  tools: [add],
});

const parsed = await responses.parse({ model: "m", input: "2+3?", text: { format: standardTextFormat(sum, "sum") } });

await responses.delete(made.id);

print({
  cancelled: [waiting.status, cancelled.status, (await responses.retrieve(waiting.id)).status],
  made: [made.status, made.output_text, made.usage, made.metadata],
  sameFound: JSON.stringify(found.output) === JSON.stringify(made.output),
  next: [next.output_text, next.previous_response_id === made.id],
  items: items.map((item) => [item.type, item.role]),
  events: events.map((event) => event.type),
  numbers: events.map((event) => event.sequence_number),
  text: events.filter((event) => event.type === "response.output_text.delta").map((event) => event.delta).join(""),
  final: [final.status, final.output_text],
  background: background.map((event) => event.sequence_number),
  backgroundEnd: background.at(-1).type,
  replayed: replayed.map((event) => event.sequence_number),
  tool: [call.name, a, b, second.output_text],
  parsed: parsed.output_parsed,
  deleted: await refusal(() => responses.retrieve(made.id)),
});
