// Where did the time of a request go? One bar per call: travelling, waiting, computing.

import { h, ms } from "./dom.js";

const KINDS = [
  ["local", "gateway"],
  ["travel", "transfer"],
  ["queue", "queue"],
  ["compute", "compute"],
];

/** Draw the answer of GET /v1/traces/{id}. */
export function waterfall(record) {
  const total = Math.max(record.duration_ms, 1e-6);
  const rows = record.spans.map((span) => row(span, total));
  const legend = h("ul", { class: "legend", "aria-hidden": "true" },
    ...KINDS.map(([kind, text]) => h("li", {}, h("span", { class: `swatch c-${kind}` }), text)));
  return h("div", {}, h("ol", { class: "waterfall" }, ...rows), legend);
}

function row(span, total) {
  const said = span.error ? `${span.name} (${span.error})` : span.name;
  return h("li", {},
    h("span", { class: span.error ? "failed" : "" }, said),
    h("span", { class: "lane", "aria-hidden": "true" }, ...parts(span).map(([kind, start, length]) =>
      h("span", {
        class: `c-${kind}`,
        style: { left: `${(100 * start) / total}%`, width: `${(100 * length) / total}%` },
      }))),
    h("span", { class: "ms", title: detail(span) }, ms(span.duration_ms),
      h("span", { class: "hidden" }, detail(span))));
}

function parts(span) {
  if (span.queue_ms === null) return [["local", span.start_ms, span.duration_ms]];
  const travel = Math.max(0, span.duration_ms - span.queue_ms - span.compute_ms);
  // The way there and the way back are not told apart; most of it is the way there.
  return [
    ["travel", span.start_ms, travel],
    ["queue", span.start_ms + travel, span.queue_ms],
    ["compute", span.start_ms + travel + span.queue_ms, span.compute_ms],
  ];
}

function detail(span) {
  if (span.queue_ms === null) return "";
  const batch = span.batch_size ? `, batch of ${span.batch_size}` : "";
  return ` queue ${ms(span.queue_ms)}, compute ${ms(span.compute_ms)}${batch}`;
}
