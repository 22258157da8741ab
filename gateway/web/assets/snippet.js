// The same call as code. Every text of the visitor is quoted by the rules of the language.

/** Quote for a POSIX shell. */
function shell(text) {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

/** Quote for Python and JavaScript: JSON's escapes mean the same in both. */
function literal(text) {
  return JSON.stringify(text).replaceAll("\u2028", "\\u2028").replaceAll("\u2029", "\\u2029");
}

function python(value) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value !== "object") return typeof value === "string" ? literal(value) : String(value);
  return `{${Object.entries(value).map(([name, item]) => `${literal(name)}: ${python(item)}`).join(", ")}}`;
}

function curl({ origin, model, file, type, question, qzoom, hasKey }) {
  const body = JSON.stringify({
    model,
    messages: [{
      role: "user",
      content: [{ type: "image_url", image_url: { url: `data:${type};base64,@` } }, { type: "text", text: question }],
    }],
    qzoom,
  });
  const at = body.indexOf(";base64,@") + ";base64,".length;
  const key = hasKey ? ' \\\n    -H "authorization: Bearer $QZOOM_API_KEY"' : "";
  return `{ printf %s ${shell(body.slice(0, at))}
  base64 < ${shell(file)} | tr -d '\\n'
  printf %s ${shell(body.slice(at + 1))}; } |
  curl -s ${shell(`${origin}/v1/chat/completions`)} \\
    -H 'content-type: application/json'${key} -d @-`;
}

function openai({ origin, model, file, type, question, qzoom, hasKey }) {
  const key = hasKey ? 'os.environ["QZOOM_API_KEY"]' : '"none"';
  return `import base64${hasKey ? ", os" : ""}
from pathlib import Path

from openai import OpenAI

client = OpenAI(base_url=${literal(`${origin}/v1`)}, api_key=${key})
picture = base64.b64encode(Path(${literal(file)}).read_bytes()).decode()
answer = client.chat.completions.create(
    model=${literal(model)},
    messages=[{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": f"data:${type};base64,{picture}"}},
        {"type": "text", "text": ${literal(question)}},
    ]}],
    extra_body={"qzoom": ${python(qzoom)}},
)
print(answer.choices[0].message.content, answer.qzoom["route"])`;
}

function ours({ origin, file, question, qzoom, hasKey }) {
  const options = Object.entries(qzoom).map(([name, value]) => `, ${name}=${python(value)}`).join("");
  const key = hasKey ? ', api_key=os.environ["QZOOM_API_KEY"]' : "";
  return `${hasKey ? "import os\n\n" : ""}from qzoom.client import Client

with Client(${literal(origin)}${key}) as client:
    answer = client.ask(${literal(file)}, ${literal(question)}${options})
print(answer.text, answer.route, answer.boxes)
answer.overlay(${literal(file)}).save("overlay.png")`;
}

function javascript({ origin, model, file, type, question, qzoom, hasKey }) {
  const key = hasKey ? "process.env.QZOOM_API_KEY" : '"none"';
  return `import { readFile } from "node:fs/promises";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: ${literal(`${origin}/v1`)}, apiKey: ${key} });
const picture = await readFile(${literal(file)}, "base64");
const answer = await client.chat.completions.create({
  model: ${literal(model)},
  messages: [{ role: "user", content: [
    { type: "image_url", image_url: { url: \`data:${type};base64,\${picture}\` } },
    { type: "text", text: ${literal(question)} },
  ] }],
  qzoom: ${JSON.stringify(qzoom)},
});
console.log(answer.choices[0].message.content, answer.qzoom.route);`;
}

/** Name and writer of each language. */
export const LANGUAGES = [
  ["curl", curl],
  ["Python, openai", openai],
  ["Python, qzoom", ours],
  ["JavaScript", javascript],
];
