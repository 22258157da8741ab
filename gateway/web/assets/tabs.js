// Tabs with the keys that people expect: arrows, Home, End.

import { h } from "./dom.js";

/** Fill a tablist; `choose` is called with the index of the tab that was chosen. */
export function addTabs(list, panel, names, choose) {
  const tabs = names.map((name, i) =>
    h("button", { type: "button", role: "tab", id: `tab-${i}`, "aria-controls": panel.id, onclick: () => select(i) }, name));
  const select = (chosen) => {
    tabs.forEach((tab, i) => {
      tab.setAttribute("aria-selected", String(i === chosen));
      tab.tabIndex = i === chosen ? 0 : -1;
    });
    panel.setAttribute("aria-labelledby", tabs[chosen].id);
    choose(chosen);
  };
  list.addEventListener("keydown", (event) => {
    const now = tabs.indexOf(document.activeElement);
    const last = tabs.length - 1;
    const next = { ArrowRight: now === last ? 0 : now + 1, ArrowLeft: now === 0 ? last : now - 1, Home: 0, End: last }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    select(next);
    tabs[next].focus();
  });
  list.replaceChildren(...tabs);
  select(0);
}
