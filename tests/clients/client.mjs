// What the scripts share: the official client for the server they are called with, and how errors are told.
import OpenAI from "openai";

const [url, key] = process.argv.slice(2);

export function clientWith(apiKey) {
  return new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0, timeout: 20_000 });
}

export const client = clientWith(key);

// The result of a script, for the test that called it.
export function print(result) {
  console.log(JSON.stringify(result));
}

export async function collect(stream) {
  const items = [];
  for await (const item of stream) items.push(item);
  return items;
}

// What a call was refused with: the client's class and its fields.
export async function refusal(call) {
  try {
    await call();
  } catch (error) {
    const { status, code, type, param, message } = error;
    return { class: error.constructor.name, status, code, type, param, message };
  }
  return null;
}

// Two numbers, in the form of a schema that the client's helpers take.
export const sum = {
  "~standard": {
    version: 1,
    vendor: "test",
    validate: (value) => ({ value }),
    jsonSchema: {
      input: () => ({
        type: "object",
        properties: { a: { type: "integer" }, b: { type: "integer" } },
        required: ["a", "b"],
        additionalProperties: false,
      }),
    },
  },
};
