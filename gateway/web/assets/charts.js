// Small charts of the dashboard. Each says in words what it shows.

import { count, h, percent, s } from "./dom.js";

/** Draw shares of a whole as one bar with a legend; parts are [colour class, text, value]. */
export function split(parts) {
  const whole = parts.reduce((sum, [, , value]) => sum + value, 0);
  if (!whole) return h("p", { class: "none" }, "Nothing in this window.");
  return h("div", {},
    h("div", { class: "split", "aria-hidden": "true" }, ...parts.filter(([, , value]) => value > 0).map(([kind, , value]) =>
      h("span", { class: `c-${kind}`, style: { width: `${(100 * value) / whole}%` } }))),
    h("ul", { class: "legend" }, ...parts.map(([kind, text, value]) =>
      h("li", {}, h("span", { class: `swatch c-${kind}`, "aria-hidden": "true" }),
        `${text} ${count(value)} (${percent(value, whole)})`))));
}

const WIDTH = 560;
const HEIGHT = 190;
const BASE = 165;

/** Draw the histogram of the gate's scores: `edges` from 0 to 1, one count for each bin. */
export function scoreHistogram({ edges, counts }) {
  const whole = counts.reduce((sum, n) => sum + n, 0);
  if (!whole) return h("p", { class: "none" }, "The gate was not asked in this window.");
  const most = Math.max(...counts);
  const bins = counts.map((n, i) => [edges[i], edges[i + 1], n]);
  // Bins are finer towards both ends, so each gets the same width and its own label.
  const step = WIDTH / bins.length;
  const said = bins.filter(([, , n]) => n).map(([low, high, n]) => `${low} to ${high}: ${count(n)}`).join("; ");
  return s("svg", { class: "histogram", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `Gate scores. ${said}` },
    ...bins.flatMap(([low, , n], i) => {
      const height = n ? Math.max(3, (140 * n) / most) : 0;
      return [
        s("rect", { x: i * step + 3, y: BASE - height, width: step - 6, height, rx: 3 }),
        n ? s("text", { x: (i + 0.5) * step, y: BASE - height - 5, "text-anchor": "middle" }, count(n)) : null,
        s("text", { x: i * step, y: BASE + 18, "text-anchor": i ? "middle" : "start", class: i % 2 ? "fine" : "" }, String(low)),
      ];
    }),
    s("text", { x: WIDTH, y: BASE + 18, "text-anchor": "end" }, "1"),
    s("line", { x1: 0, x2: WIDTH, y1: BASE, y2: BASE }));
}

/** Make a table; cells are texts or elements, and the first of each row is its heading. */
export function table(headings, rows, caption, groups = null) {
  return h("table", {},
    h("caption", { class: "hidden" }, caption),
    h("thead", {}, groups, h("tr", {}, ...headings.map((text) => h("th", { scope: "col" }, text)))),
    h("tbody", {}, ...rows.map(([first, ...rest]) =>
      h("tr", {}, h("th", { scope: "row" }, first), ...rest.map((cell) => (cell instanceof HTMLTableCellElement ? cell : h("td", {}, cell)))))));
}

/** Make a list of facts: [name, value] rows without headings. */
export function facts(rows, empty) {
  if (!rows.length) return h("p", { class: "none" }, empty);
  return h("table", { class: "facts" }, h("tbody", {}, ...rows.map(([name, value]) =>
    h("tr", {}, h("td", {}, name), h("td", {}, value)))));
}
