// The dashboard: asks every two seconds, while somebody looks.

import { getJson } from "./api.js";
import { byId, h } from "./dom.js";
import { showFigures } from "./figures.js";
import { watchHealth } from "./health.js";
import { addKeyField } from "./key.js";
import { addTheme } from "./theme.js";
import { showTraces } from "./traces.js";

const PERIOD_MS = 2000;
const SHOWN_TRACES = 25;
let paused = false;
let asking = null;

addTheme(byId("theme"));
const lookAtHealth = watchHealth(byId("health"));
addKeyField(byId("key"), () => {
  lookAtHealth();
  refresh();
});
byId("window").addEventListener("change", () => {
  asking?.abort(); // Its answer would be of the old window.
  refresh();
});
byId("pause").addEventListener("click", () => {
  paused = !paused;
  byId("pause").setAttribute("aria-pressed", String(paused));
  byId("pause").textContent = paused ? "Go on" : "Pause";
  if (!paused) refresh();
});
document.addEventListener("visibilitychange", () => document.hidden || paused || refresh());

async function refresh() {
  const mine = new AbortController();
  asking = mine;
  try {
    const [stats, traces] = await Promise.all([
      getJson(`/v1/stats?window=${byId("window").value}`, mine.signal),
      getJson(`/v1/traces?limit=${SHOWN_TRACES}`, mine.signal),
    ]);
    showFigures(stats);
    showTraces(traces.data);
    byId("asof").textContent = `${new Date(stats.time * 1000).toLocaleTimeString("en-GB")}, ${length(stats.window_s)}`;
    byId("problem").hidden = true;
  } catch (error) {
    if (error.name === "AbortError") return;
    if (byId("problem").textContent !== error.message) byId("problem").replaceChildren(h("p", {}, error.message));
    byId("problem").hidden = false;
  } finally {
    if (asking === mine) asking = null;
  }
}

function length(seconds) {
  return seconds < 90 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`;
}

async function loop() {
  for (;;) {
    if (!paused && !document.hidden && !asking) await refresh();
    await new Promise((resolve) => setTimeout(resolve, PERIOD_MS));
  }
}
loop();
