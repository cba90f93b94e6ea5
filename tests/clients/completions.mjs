// Text completions and the models.
import { client, collect, print } from "./client.mjs";

const request = { model: "m", prompt: ["ab", "cd"], n: 2, echo: true };

const whole = await client.completions.create(request);
const chunks = await collect(
  await client.completions.create({ ...request, stream: true, stream_options: { include_usage: true } }),
);
const texts = ["", "", "", ""];
for (const { index, text } of chunks.flatMap((chunk) => chunk.choices)) texts[index] += text;
const cut = await client.completions.create({ model: "m", prompt: "abc", max_tokens: 2, logprobs: 1 });

const listed = await collect(client.models.list());
const one = await client.models.retrieve("org/other");

print({
  whole: { texts: whole.choices.map((choice) => choice.text), usage: whole.usage },
  streamed: { texts, usage: chunks.at(-1).usage },
  cut: [cut.choices[0].text, cut.choices[0].finish_reason, cut.choices[0].logprobs.tokens],
  models: listed.map((model) => model.id),
  model: [one.id, one.object],
});
