// Threshold and budgets: sliders whose first position is the model's own choice.

import { byId } from "./dom.js";

const TAUS = Array.from({ length: 51 }, (_, i) => i / 50);
const BUDGETS = [4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096];

function slider(id, values, write, changed) {
  const input = byId(id);
  const shown = byId(`${id}-shown`);
  Object.assign(input, { min: 0, max: values.length, step: 1, value: 0 });
  let usual = null;
  const get = () => (Number(input.value) === 0 ? null : values[Number(input.value) - 1]);
  const show = () => {
    const own = usual === null ? "the model's" : `the model's, ${write(usual)}`;
    const text = get() === null ? own : write(get());
    shown.textContent = text;
    input.setAttribute("aria-valuetext", text);
  };
  const set = (value) => {
    input.value = value === null || value === undefined ? 0 : values.indexOf(value) + 1;
    show();
  };
  input.addEventListener("input", () => {
    show();
    changed();
  });
  const setUsual = (value) => {
    usual = value ?? null;
    show();
  };
  show();
  return { get, set, setUsual };
}

/** Bind the fields; `changed` runs after every change. */
export function addOptions(changed) {
  const tau = slider("tau", TAUS, (value) => value.toFixed(2), changed);
  const coarse = slider("coarse", BUDGETS, (value) => `${value} tokens`, changed);
  const crop = slider("crop", BUDGETS, (value) => `${value} tokens`, changed);
  const routes = [...document.querySelectorAll("input[name=route]")];
  for (const route of routes) route.addEventListener("change", changed);
  return {
    tau: tau.get,
    /** Tell what the model does by itself: the `qzoom` object of `/v1/models`, null if unknown. */
    setUsual(told) {
      tau.setUsual(told?.tau_gate);
      coarse.setUsual(told?.budgets.max_visual_tokens);
      crop.setUsual(told?.budgets.max_roi_tokens);
    },
    /** Give the `qzoom` object of the request, without what was left to the model. */
    read() {
      const chosen = {
        route: routes.find((route) => route.checked).value,
        tau_gate: tau.get(),
        max_visual_tokens: coarse.get(),
        max_roi_tokens: crop.get(),
      };
      return Object.fromEntries(Object.entries(chosen).filter(([, value]) => value !== null));
    },
    /** Set the fields as an earlier request had them. */
    write(chosen) {
      for (const route of routes) route.checked = route.value === chosen.route;
      tau.set(chosen.tau_gate);
      coarse.set(chosen.max_visual_tokens);
      crop.set(chosen.max_roi_tokens);
      changed();
    },
  };
}
