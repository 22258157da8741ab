// From GET /v1/stats to what the cards show.

import { facts, scoreHistogram, split, table } from "./charts.js";
import { byId, count, h, ms, percent } from "./dom.js";

const QUANTILES = [["p50_ms", "p50"], ["p95_ms", "p95"], ["p99_ms", "p99"]];

const sum = (values) => Object.values(values).reduce((total, value) => total + value, 0);
const quantiles = (spread) => QUANTILES.map(([name]) => (spread[name] === null ? "–" : ms(spread[name])));

/** Write all figures. */
export function showFigures(stats) {
  showTiles(stats);
  byId("stages").replaceChildren(stages(stats.stages));
  byId("latency").replaceChildren(latency(stats.latency));
  byId("scores").replaceChildren(scoreHistogram(stats.gate.scores), decisions(stats.gate.decisions));
  const { direct = 0, zoom = 0, none = 0 } = stats.requests.routes;
  byId("routes").replaceChildren(split([["direct", "direct", direct], ["zoom", "zoom", zoom], ["none", "none taken", none]]));
  const { coarse = 0, roi = 0, spared = 0 } = stats.tokens.visual;
  byId("tokens").replaceChildren(split([["coarse", "coarse picture", coarse], ["roi", "second look", roi], ["spared", "spared", spared]]));
  byId("outcomes").replaceChildren(outcomes(stats));
  byId("replicas").replaceChildren(replicas(stats.replicas));
  byId("load").replaceChildren(facts(stats.other.map(other), "Nothing more is counted."));
}

function showTiles({ requests, latency: routes, tokens }) {
  const failed = sum(requests.outcomes) - (requests.outcomes.ok ?? 0);
  const { coarse = 0, roi = 0, spared = 0 } = tokens.visual;
  const p95 = (i) => (routes[i].whole.p95_ms === null ? "–" : ms(routes[i].whole.p95_ms));
  const tiles = [
    ["requests", count(requests.finished)],
    ["per second", requests.per_s.toFixed(requests.per_s < 10 ? 2 : 0)],
    ["in flight now", count(requests.in_flight)],
    ["p95 direct", p95(0)],
    ["p95 zoom", p95(1)],
    ["tokens spared", percent(spared, coarse + roi + spared)],
    ["not answered", count(failed), failed > 0],
  ];
  byId("tiles").replaceChildren(...tiles.map(([name, value, bad]) =>
    h("div", { class: bad ? "tile bad" : "tile" }, h("dt", {}, name), h("dd", {}, value))));
}

function stages(rows) {
  const longest = Math.max(1e-9, ...rows.map((row) => (row.queue.mean_ms ?? 0) + (row.compute.mean_ms ?? 0) + (row.transfer.mean_ms ?? 0)));
  const groups = h("tr", {}, h("td", { colspan: 2 }),
    h("th", { colspan: 3, scope: "colgroup", class: "group queue" }, "queue"),
    h("th", { colspan: 3, scope: "colgroup", class: "group compute" }, "compute"), h("td", { colspan: 3 }));
  return table(["stage", "calls", "p50", "p95", "p99", "p50", "p95", "p99", "batch", "errors", "mean call"], rows.map((row) => [
    row.stage,
    count(row.compute.count),
    ...quantiles(row.queue),
    ...quantiles(row.compute),
    row.batch_size === null ? "–" : row.batch_size.toFixed(1),
    errors(row.errors),
    meanBar(row, longest),
  ]), "Latency of each stage", groups);
}

function meanBar(row, longest) {
  const parts = [["travel", row.transfer], ["queue", row.queue], ["compute", row.compute]];
  return h("td", { class: "mean" },
    h("div", { class: "split", "aria-hidden": "true" }, ...parts.filter(([, spread]) => spread.mean_ms).map(([kind, spread]) =>
      h("span", { class: `c-${kind}`, style: { width: `${(100 * spread.mean_ms) / longest}%` } }))),
    h("span", { class: "hidden" }, parts.map(([kind, spread]) => `${kind} ${ms(spread.mean_ms)}`).join(", ")));
}

function errors(codes) {
  const all = Object.entries(codes);
  if (!all.length) return "0";
  return h("span", { class: "bad" }, all.map(([code, n]) => `${count(n)} ${code}`).join(", "));
}

function latency(rows) {
  const groups = h("tr", {}, h("td", { colspan: 2 }),
    ...["whole answer", "first token", "each further token"].map((text) =>
      h("th", { colspan: 3, scope: "colgroup", class: "group" }, text)));
  const three = ["p50", "p95", "p99"];
  return table(["route", "answers", ...three, ...three, ...three], rows.map((row) => [
    h("span", { class: `pill ${row.route}` }, row.route),
    count(row.whole.count),
    ...quantiles(row.whole),
    ...quantiles(row.first_token),
    ...quantiles(row.per_token),
  ]), "Latency of each route", groups);
}

function decisions({ open = 0, closed = 0 }) {
  return h("p", { class: "hint" }, `${count(open)} asked for a closer look, ${count(closed)} did not.`);
}

function outcomes({ requests }) {
  const rows = Object.entries(requests.outcomes).sort(([, a], [, b]) => b - a).map(([code, n]) =>
    [code === "ok" ? "answered" : h("code", { class: "bad" }, code), count(n)]);
  for (const [stage, n] of Object.entries(requests.degraded)) {
    rows.push([`coarse answer, because ${stage} failed`, count(n)]);
  }
  if (requests.reruns) rows.push(["run again after a replica died", count(requests.reruns)]);
  return facts(rows, "Nothing in this window.");
}

function replicas(deployments) {
  if (!deployments) return h("p", { class: "none" }, "The cluster does not say at the moment.");
  return facts(Object.entries(deployments).map(([name, { status, states }]) => [
    name,
    h("span", { class: status === "HEALTHY" ? "" : "bad" },
      `${Object.entries(states).map(([state, n]) => `${n} ${state.toLowerCase()}`).join(", ")}${status === "HEALTHY" ? "" : `, ${status.toLowerCase()}`}`),
  ]), "No deployment.");
}

function other({ name, meaning, labels, value, mean }) {
  const told = Object.entries(labels).map(([label, text]) => `${label} ${text}`).join(", ");
  const short = name.replace(/^qzoom_/, "").replace(/_(total|seconds|bytes)$/, "").replaceAll("_", " ");
  const shown = h("span", {}, told ? `${short}: ${told}` : short, h("br"), h("small", {}, meaning.replaceAll("`", "")));
  const number = value.toLocaleString("en", { maximumFractionDigits: 3 });
  if (mean === undefined) return [shown, number];
  const each = name.endsWith("_seconds") ? ms(mean === null ? null : mean * 1000) : mean?.toFixed(3);
  return [shown, each ? `${number}, mean ${each}` : number];
}
