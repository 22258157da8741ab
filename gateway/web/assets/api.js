// The gateway's REST interface, as any other client uses it.

import { keyHeaders } from "./key.js";

/** What the server refused, or why there was no answer. */
export class ApiError extends Error {
  constructor(message, { code = "", param = null, status = 0, requestId = "", retryAfter = "" } = {}) {
    super(message);
    Object.assign(this, { code, param, status, requestId, retryAfter });
  }
}

// A page with one picture need not say which.
const PICTURE = /^messages\[\d+\]\.content\[\d+\]\.image_url(\.url)?\b/;

function inWords(message) {
  return message.replace(PICTURE, "The picture");
}

async function call(path, init) {
  try {
    return await fetch(path, { cache: "no-store", credentials: "omit", referrerPolicy: "no-referrer", ...init });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server cannot be reached.", { code: "unreachable" });
  }
}

async function refused(response) {
  let told = {};
  try {
    told = (await response.json()).error ?? {};
  } catch {
    // Something in between answered, and not in our words.
  }
  return new ApiError(inWords(told.message ?? `The server answered ${response.status}.`), {
    code: told.code ?? "",
    param: told.param ?? null,
    status: response.status,
    requestId: response.headers.get("x-request-id") ?? "",
    retryAfter: response.headers.get("retry-after") ?? "",
  });
}

/** Fetch a JSON document. */
export async function getJson(path, signal) {
  const response = await call(path, { headers: keyHeaders(), signal });
  if (!response.ok) throw await refused(response);
  return response.json();
}

/** Ask, and yield the chunks of the answer as they come. */
export async function* ask(body, signal) {
  const response = await call("/v1/chat/completions", {
    method: "POST",
    headers: { "content-type": "application/json", ...keyHeaders() },
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
    signal,
  });
  if (!response.ok) throw await refused(response);
  const requestId = response.headers.get("x-request-id") ?? "";
  for await (const data of events(response.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ApiError(inWords(chunk.error.message), { ...chunk.error, requestId });
    yield chunk;
  }
  throw new ApiError("The answer broke off.", { code: "broken_stream", requestId });
}

/** Read server-sent events: the data of each. */
async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const blocks = (rest + value).split(/\r?\n\r?\n/);
      rest = blocks.pop();
      for (const block of blocks) {
        const lines = block.split(/\r?\n/).filter((line) => line.startsWith("data:"));
        if (lines.length) yield lines.map((line) => line.slice(5).trimStart()).join("\n");
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // Leaving early tells the server to stop.
  }
}

/** Find the waterfall of a request; another gateway may need a second until it knows it. */
export async function trace(id, signal) {
  for (const pause of [0, 300, 700, 1200]) {
    await new Promise((resolve) => setTimeout(resolve, pause));
    try {
      return await getJson(`/v1/traces/${encodeURIComponent(id)}`, signal);
    } catch (error) {
      if (error.status !== 404) throw error;
    }
  }
  return null;
}
