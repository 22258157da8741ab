// What came of a question: route, gate, crop, tokens, times.

import { byId, count, h, ms, percent } from "./dom.js";
import { drawCrop } from "./look.js";
import { waterfall } from "./waterfall.js";

/** Show what is known when the first token comes. `tau` is what the slider says, or null. */
export function showStarted(known, picture, tau) {
  byId("result").hidden = false;
  byId("route").textContent = known.route;
  byId("route").className = `pill ${known.route}`;
  showGate(known, tau);
  showTokens(known.visual_tokens, known.budgets);
  const box = known.boxes[0];
  const figure = byId("crop-figure");
  figure.hidden = !box || !picture.bitmap || box.image !== 0;
  if (!figure.hidden) {
    const [x0, y0, x1, y1] = box.box;
    drawCrop(byId("crop-view"), box.box, picture.bitmap);
    byId("crop-caption").textContent =
      `The second look: ${x1 - x0} × ${y1 - y0} px at (${x0}, ${y0}), score ${box.score.toFixed(2)}`;
  }
  showNotes(known, null);
  byId("times").replaceChildren();
}

/** Show the gate's score against the threshold: the one that decided, or the slider's. */
export function showGate(known, slider) {
  const gauge = byId("gauge");
  const p = known.p_refine;
  gauge.hidden = p === null;
  if (p === null) {
    byId("why").textContent = "This route was asked for, so the gate was not.";
    return;
  }
  const tau = slider ?? known.tau_gate;
  byId("gauge-fill").style.width = `${100 * p}%`;
  byId("gauge-fill").classList.toggle("zoom", p >= tau);
  byId("gauge-tau").style.left = `${100 * tau}%`;
  const decided = tau === known.tau_gate;
  const side = p >= tau ? "≥" : "<";
  const numbers = `p(refine) ${probability(p)} ${side} τ ${tau.toFixed(2)}`;
  const then = p >= tau ? "would look closer" : "would go direct";
  byId("why").textContent = decided ? numbers : `${numbers}: ${then} if asked again`;
  gauge.setAttribute("aria-label", numbers);
}

function probability(p) {
  if (p > 0 && p < 0.001) return "< 0.001";
  return p < 1 && p > 0.999 ? "> 0.999" : p.toFixed(3);
}

function showTokens({ coarse, roi, spared }, budgets) {
  const whole = coarse + roi + spared;
  const kinds = [["coarse", "coarse picture", coarse], ["roi", "second look", roi], ["spared", "spared", spared]];
  byId("tokens").replaceChildren(
    h("p", {}, `${count(coarse + roi)} of ${count(whole)} spent, ${percent(spared, whole)} spared`,
      budgets ? h("small", {}, ` (at most ${count(budgets.max_visual_tokens)} for a coarse picture, ${count(budgets.max_roi_tokens)} for the second look)`) : ""),
    h("div", { class: "split", "aria-hidden": "true" }, ...kinds.filter(([, , n]) => n > 0).map(([kind, , n]) =>
      h("span", { class: `c-${kind}`, style: { width: `${(100 * n) / whole}%` } }))),
    h("ul", { class: "legend" }, ...kinds.map(([kind, text, n]) =>
      h("li", {}, h("span", { class: `swatch c-${kind}`, "aria-hidden": "true" }), `${text} ${count(n)}`))));
}

/** Say what load or failures changed about the answer. */
export function showNotes(known, degraded) {
  const notes = [];
  if (degraded) notes.push(`This is the coarse answer: looking closer failed (${degraded}).`);
  if (known.brownout) {
    const changed = known.brownout.changed.join(" and ");
    notes.push(`The system is under load (level ${known.brownout.level})${changed && ` and chose ${changed} itself`}.`);
  }
  byId("notes").textContent = notes.join(" ");
  byId("notes").hidden = notes.length === 0;
}

/** Show where the time went: the trace, or where it is gone, the sums of the answer. */
export function showTimes(record, stageMs) {
  const shown = record
    ? [waterfall(record), h("p", {}, h("small", {}, `${ms(record.duration_ms)} in all; trace ${record.trace_id}`))]
    : Object.entries(stageMs).map(([stage, spent]) =>
        h("p", {}, `${stage}: queue ${ms(spent.queue)}, compute ${ms(spent.compute)}`));
  byId("times").replaceChildren(...shown);
}

/** Show what went wrong, and what the visitor can do. */
export function showProblem(error) {
  const todo = {
    401: "Enter an API key under “Threshold, budgets, API key”.",
    429: error.retryAfter ? `Try again in ${error.retryAfter} s.` : "Try again in a moment.",
    503: error.retryAfter ? `Try again in ${error.retryAfter} s.` : "Try again in a moment.",
  }[error.status];
  const where = [error.code && `code ${error.code}`, error.param && `field ${error.param}`,
    error.requestId && `request ${error.requestId}`].filter(Boolean).join(" · ");
  byId("problem").replaceChildren(
    h("p", {}, h("strong", {}, "That did not work. "), error.message),
    todo ? h("p", {}, todo) : "",
    where ? h("p", {}, h("small", {}, where)) : "");
  byId("problem").hidden = false;
  byId("problem").scrollIntoView({ block: "nearest" });
}

/** Take the complaint away. */
export function hideProblem() {
  byId("problem").hidden = true;
  byId("problem").replaceChildren();
}
