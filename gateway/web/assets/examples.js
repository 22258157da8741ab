// Pictures to begin with, drawn by the project's own generator.

import { byId, h } from "./dom.js";

/** Fill the list; `use` is called with the file and the question of the chosen example. */
export async function addExamples(use, failed) {
  const response = await fetch("/web/examples.json");
  const examples = await response.json();
  byId("examples").replaceChildren(...examples.map(({ file, question, hint }) =>
    h("li", {}, h("button", { type: "button", onclick: () => load(file, question).then(use, failed) },
      h("img", { src: `/web/${file}`, alt: "", loading: "lazy" }),
      h("span", {}, question), h("small", {}, hint)))));
}

async function load(file, question) {
  const response = await fetch(`/web/${file}`);
  if (!response.ok) throw new Error(`The example ${file} cannot be loaded.`);
  const blob = await response.blob();
  return { file: new File([blob], file.split("/").pop(), { type: blob.type }), question };
}
