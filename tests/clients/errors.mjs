// What is refused, as the client's errors.
import { client, clientWith, collect, print, refusal } from "./client.mjs";

const messages = [{ role: "user", content: "hello" }];
const chat = client.chat.completions;
const stranger = clientWith("wrong");

const seen = [];
const lost = await refusal(async () => {
  const stream = await chat.create({ model: "m", messages: [{ role: "user", content: "crash" }], stream: true });
  for await (const chunk of stream) seen.push(chunk.choices[0].delta.content ?? "");
});

print({
  unknownModel: {
    chat: await refusal(() => chat.create({ model: "none", messages })),
    chatStream: await refusal(() => chat.create({ model: "none", messages, stream: true })),
    completions: await refusal(() => client.completions.create({ model: "none", prompt: "x" })),
    embeddings: await refusal(() => client.embeddings.create({ model: "none", input: "x" })),
    responses: await refusal(() => client.responses.create({ model: "none", input: "x" })),
    responsesStream: await refusal(() => client.responses.create({ model: "none", input: "x", stream: true })),
  },
  wrongKey: {
    chat: await refusal(() => stranger.chat.completions.create({ model: "m", messages })),
    chatStream: await refusal(() => stranger.chat.completions.create({ model: "m", messages, stream: true })),
    completions: await refusal(() => stranger.completions.create({ model: "m", prompt: "x" })),
    embeddings: await refusal(() => stranger.embeddings.create({ model: "m", input: "x" })),
    models: await refusal(() => collect(stranger.models.list())),
    responses: await refusal(() => stranger.responses.create({ model: "m", input: "x" })),
  },
  notThere: {
    model: await refusal(() => client.models.retrieve("none")),
    response: await refusal(() => client.responses.retrieve("resp_none")),
  },
  impossible: {
    field: await refusal(() => chat.create({ model: "m", messages, n_keep: 5 })),
    suffix: await refusal(() => client.completions.create({ model: "m", prompt: "x", suffix: "y" })),
    moderation: await refusal(() => client.moderations.create({ input: "x" })),
    image: await refusal(() => client.images.generate({ prompt: "x" })),
  },
  wrongField: await refusal(() => chat.create({ model: "m", messages, temperature: 3 })),
  lost: { ...lost, text: seen.join("") },
});
