// Chat completions: whole, streamed, several choices, tools, structured output, log probabilities.
import { standardResponseFormat } from "openai/helpers/standard-schema";
import { client, collect, print, sum } from "./client.mjs";

const chat = client.chat.completions;
const ask = (content) => ({ model: "m", messages: [{ role: "user", content }] });

const whole = await chat.create({ ...ask("hello"), n: 2 });

const texts = ["", ""];
const chunks = await collect(
  await chat.create({ ...ask("hello"), n: 2, stream: true, stream_options: { include_usage: true } }),
);
for (const { index, delta } of chunks.flatMap((chunk) => chunk.choices)) texts[index] += delta.content ?? "";

const add = {
  type: "function",
  function: {
    name: "add",
    description: "The sum.",
    parameters: { type: "object", properties: { a: { type: "integer" }, b: { type: "integer" } } },
    parse: JSON.parse,
    function: ({ a, b }) => String(a + b),
  },
};

async function toolLoop(options) {
  const runner = chat.runTools({ ...ask("2+3?"), tools: [add], ...options });
  const answer = await runner.finalContent();
  return { answer, roles: runner.messages.map((message) => message.role), usage: await runner.totalUsage() };
}

const helper = chat.stream({ ...ask("2+3?"), tools: [{ ...add, function: { ...add.function, strict: true } }] });
const [called] = (await helper.finalChatCompletion()).choices;

const structured = { ...ask("2+3?"), response_format: standardResponseFormat(sum, "sum") };
const parsed = await chat.parse(structured);
const streamed = await chat.stream(structured).finalChatCompletion();
const json = await chat.create({ ...ask("2+3?"), response_format: { type: "json_object" } });

const likely = await chat.create({ ...ask("hi"), logprobs: true, top_logprobs: 2 });

print({
  whole: { texts: whole.choices.map((choice) => choice.message.content), usage: whole.usage, object: whole.object },
  streamed: {
    texts,
    finished: chunks.flatMap((chunk) => chunk.choices.map((choice) => choice.finish_reason)).filter(Boolean),
    usage: chunks.at(-1).usage,
    ids: new Set(chunks.map((chunk) => chunk.id)).size,
  },
  tools: await toolLoop({}),
  streamedTools: await toolLoop({ stream: true, stream_options: { include_usage: true } }),
  called: {
    reason: called.finish_reason,
    content: called.message.content,
    names: called.message.tool_calls.map((call) => call.function.name),
    arguments: called.message.tool_calls.map((call) => JSON.parse(call.function.arguments)),
  },
  parsed: parsed.choices[0].message.parsed,
  streamedParsed: streamed.choices[0].message.parsed,
  json: JSON.parse(json.choices[0].message.content),
  tokens: likely.choices[0].logprobs.content.map(({ token, top_logprobs: top }) => [token, top.length]),
});
