// Embeddings. The client asks for base64 unless it is told otherwise, and decodes it.
import { client, print } from "./client.mjs";

const request = { model: "m", input: ["ab", "c"] };
const { data, usage, model } = await client.embeddings.create(request);
const floats = await client.embeddings.create({ ...request, encoding_format: "float" });
const base64 = await client.embeddings.create({ ...request, encoding_format: "base64" });
const tokens = await client.embeddings.create({ ...request, input: [[97, 98], [99]] });
const short = await client.embeddings.create({ ...request, dimensions: 2 });

const vectors = (answer) => answer.data.map((item) => item.embedding);

print({
  vectors: data.map((item) => item.embedding),
  indices: data.map((item) => item.index),
  usage,
  model,
  floats: vectors(floats),
  base64: vectors(base64),
  tokens: vectors(tokens),
  short: vectors(short).map((vector) => vector.length),
});
