// Is the system ready, and which model does it serve?

import { getJson } from "./api.js";

const PERIOD_MS = 15_000;

/** Keep the mark in the page's bar up to date; `known` is told the model's name and its `qzoom` object. */
export function watchHealth(mark, known = () => {}) {
  const look = async () => {
    try {
      const listed = (await getJson("/v1/models")).data[0];
      const model = listed?.id ?? "";
      known(model, listed?.qzoom ?? null);
      await getJson("/readyz");
      show(mark, "ready", `${model} is ready`);
    } catch (error) {
      show(mark, "down", error.status === 401 ? "an API key is needed" : error.message);
    }
  };
  look();
  setInterval(() => document.hidden || look(), PERIOD_MS);
  return look;
}

function show(mark, state, text) {
  // Written only when it changes, or a screen reader would say it every time.
  if (mark.textContent !== text) mark.textContent = text;
  mark.dataset.state = state;
}
