// Recent requests of all gateways, each with its waterfall.

import { getJson } from "./api.js";
import { byId, h, ms } from "./dom.js";
import { waterfall } from "./waterfall.js";

const HIDDEN = ["qzoom.request_id", "qzoom.outcome", "gen_ai.operation.name"];
const rows = new Map();

/** Bring the list up to date; rows that are open stay open. */
export function showTraces(recent) {
  const list = byId("traces");
  const shown = new Set(recent.map(({ trace_id }) => trace_id));
  for (const [id, element] of rows) {
    if (!shown.has(id)) {
      element.remove();
      rows.delete(id);
    }
  }
  recent.forEach((request, i) => {
    if (!rows.has(request.trace_id)) rows.set(request.trace_id, row(request));
    const element = rows.get(request.trace_id);
    // Moved only if it is elsewhere: moving would take the focus away.
    if (list.children[i] !== element) list.insertBefore(element, list.children[i] ?? null);
  });
  if (!recent.length) list.replaceChildren(h("li", { class: "none" }, "No requests so far."));
}

function row(request) {
  const route = request.route ?? "no route";
  const body = h("div", { class: "body" });
  const details = h("details", {
    ontoggle: () => details.open && !body.hasChildNodes() && load(request.trace_id, body),
  },
  h("summary", {},
    h("time", { datetime: new Date(request.started * 1000).toISOString() }, new Date(request.started * 1000).toLocaleTimeString("en-GB")),
    h("span", { class: `pill ${request.route ?? ""}` }, route),
    h("code", {}, request.request_id),
    h("span", { class: request.outcome === "ok" ? "" : "bad" }, request.outcome),
    h("span", { class: "ms" }, ms(request.duration_ms))),
  body);
  return h("li", {}, details);
}

async function load(id, body) {
  try {
    const record = await getJson(`/v1/traces/${encodeURIComponent(id)}`);
    const known = Object.entries(record.attributes).filter(([name]) => !HIDDEN.includes(name));
    body.replaceChildren(waterfall(record), h("p", { class: "attributes" },
      known.map(([name, value]) => `${name.replace(/^qzoom\./, "")} = ${Array.isArray(value) ? value.join(", ") : value}`).join("  ·  ")));
  } catch (error) {
    body.replaceChildren(h("p", { class: "bad" }, error.message));
  }
}
