// OpenAI's client for JavaScript: `npm install`, then `node ask.mjs PICTURE QUESTION`.

import { readFile } from "node:fs/promises";
import OpenAI from "openai";

const [picture, question] = process.argv.slice(2);
const client = new OpenAI({
  baseURL: `${process.env.QZOOM_URL ?? "http://127.0.0.1:8000"}/v1`,
  apiKey: process.env.QZOOM_API_KEY ?? "none",
});
const [model] = (await client.models.list()).data;
const stream = await client.chat.completions.create({
  model: model.id,
  stream: true,
  messages: [{
    role: "user",
    content: [
      { type: "image_url", image_url: { url: `data:image/png;base64,${await readFile(picture, "base64")}` } },
      { type: "text", text: question },
    ],
  }],
  qzoom: { route: "auto" },
});

let route;
for await (const chunk of stream) {
  route = chunk.qzoom?.route ?? route;
  process.stdout.write(chunk.choices[0]?.delta.content ?? "");
}
console.log(`\nroute ${route}`);
