// What was asked in this tab. Pictures stay in the page's memory and go with it.

import { byId, h, ms } from "./dom.js";
import { drawThumbnail } from "./look.js";

const MAX_KEPT = 20;

/** Make the list; `open` is called with a request that the visitor wants to see again. */
export function addRecent(open) {
  const kept = [];
  const list = byId("recent");
  return {
    /** Take a finished request: {picture, question, chosen, text, known, stageMs, record, error}. */
    add(asked) {
      kept.unshift(asked);
      list.prepend(row(asked, open));
      if (kept.length > MAX_KEPT) {
        kept.pop();
        list.lastElementChild.remove();
      }
      byId("recent-none").hidden = true;
    },
  };
}

function row(asked, open) {
  const thumbnail = h("canvas", { "aria-hidden": "true" });
  drawThumbnail(thumbnail, asked.picture);
  const route = asked.known?.route ?? "bad";
  return h("li", {}, h("button", { type: "button", onclick: () => open(asked) },
    thumbnail,
    h("span", { class: "a" }, asked.error ? asked.error.message : asked.text || "(no text)"),
    h("span", { class: `pill ${route}` }, asked.known?.route ?? "error"),
    h("span", { class: "q" }, asked.question),
    h("span", { class: "ms" }, asked.record ? ms(asked.record.duration_ms) : "")));
}
