// The playground: puts the parts together.

import { ApiError, ask, trace } from "./api.js";
import { byId } from "./dom.js";
import { addExamples } from "./examples.js";
import { watchHealth } from "./health.js";
import { addKeyField, apiKey } from "./key.js";
import { drawHeat, drawPicture, placeBox } from "./look.js";
import { addOptions } from "./options.js";
import { pictureIn, readPicture } from "./picture.js";
import { addRecent } from "./recent.js";
import { hideProblem, showGate, showNotes, showProblem, showStarted, showTimes } from "./result.js";
import { LANGUAGES } from "./snippet.js";
import { addTabs } from "./tabs.js";
import { addTheme } from "./theme.js";

const state = { model: "", picture: null, known: null, language: 0, running: null };
const question = byId("question");
const answer = byId("answer");

const options = addOptions(() => {
  showSnippet();
  if (state.known && !state.running) showGate(state.known, options.tau());
});
const recent = addRecent(reopen);
addTheme(byId("theme"));
const lookAtHealth = watchHealth(byId("health"), (model, told) => {
  options.setUsual(told);
  if (state.model === model) return;
  state.model = model;
  showSnippet();
});
addKeyField(byId("key"), () => {
  lookAtHealth();
  showSnippet();
});
addTabs(byId("tabs"), byId("code-panel"), LANGUAGES.map(([name]) => name), (chosen) => {
  state.language = chosen;
  showSnippet();
});
addExamples(useExample, showProblem).catch(showProblem);
question.addEventListener("input", showSnippet);
for (const id of ["show-heat", "show-box"]) byId(id).addEventListener("change", showLayers);

byId("file").addEventListener("change", (event) => {
  const file = event.target.files[0];
  event.target.value = ""; // The same file may be chosen again.
  if (file) takePicture(file);
});
byId("other").addEventListener("click", () => byId("file").click());
document.addEventListener("paste", (event) => {
  const file = pictureIn(event.clipboardData);
  if (!file) return;
  event.preventDefault();
  takePicture(file);
});
const stage = byId("stage");
for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    stage.classList.add("over");
  });
}
document.addEventListener("dragleave", (event) => event.relatedTarget || stage.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  stage.classList.remove("over");
  const file = pictureIn(event.dataTransfer);
  if (file) takePicture(file);
});

byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  run();
});
byId("stop").addEventListener("click", () => state.running?.abort());
byId("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(byId("code").textContent);
    say("Copied.");
    byId("copy").textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(byId("code"));
    byId("copy").textContent = "Selected: copy it with the keyboard";
  }
  setTimeout(() => (byId("copy").textContent = "Copy"), 2000);
});

async function takePicture(file) {
  hideProblem();
  try {
    showPicture(await readPicture(file));
    question.focus();
    return true;
  } catch (error) {
    showProblem(error);
    return false;
  }
}

async function useExample({ file, question: text }) {
  question.value = text;
  if (await takePicture(file)) run();
}

function showPicture(picture) {
  state.picture = picture;
  state.known = null;
  byId("drop").hidden = true;
  byId("look").hidden = false;
  byId("picture-name").textContent = picture.bitmap
    ? `${picture.name}, ${picture.bitmap.width} × ${picture.bitmap.height} px` : picture.name;
  for (const id of ["show-heat", "show-box"]) byId(id).parentElement.hidden = !picture.bitmap;
  drawPicture(byId("picture"), picture);
  showLayers();
  showSnippet();
}

function showLayers() {
  const known = state.known;
  drawHeat(byId("heat"), byId("show-heat").checked ? known?.heatmap : null);
  placeBox(byId("roi"), byId("show-box").checked ? known?.boxes[0]?.box : null, state.picture?.bitmap);
}

function showSnippet() {
  const [, write] = LANGUAGES[state.language];
  byId("code").textContent = write({
    origin: location.origin,
    model: state.model || "MODEL",
    file: state.picture?.name ?? "picture.png",
    type: state.picture?.type ?? "image/png",
    question: question.value || "What is in the picture?",
    qzoom: { ...options.read(), explain: true },
    hasKey: apiKey() !== "",
  });
}

function say(text) {
  byId("status").textContent = text;
}

function showAnswer(text, isEmpty = false) {
  answer.textContent = text;
  answer.classList.toggle("empty", isEmpty);
}

function showAnswerCard() {
  // On a phone the answer lies below what was just touched, and grows downwards.
  const card = byId("answer-card");
  const isLow = card.getBoundingClientRect().top > innerHeight / 2;
  card.scrollIntoView({ block: isLow ? "start" : "nearest" });
}

function setRunning(controller) {
  state.running = controller;
  byId("ask").disabled = controller !== null;
  byId("stop").hidden = controller === null;
  byId("answer-card").setAttribute("aria-busy", String(controller !== null));
}

async function run() {
  if (state.running) return;
  hideProblem();
  if (!state.picture) {
    showProblem(new ApiError("Choose a picture first: the question needs one."));
    byId("file").focus();
    return;
  }
  const asked = { picture: state.picture, question: question.value, chosen: options.read(), text: "", known: null, stageMs: {}, record: null, error: null };
  const controller = new AbortController();
  state.known = null;
  setRunning(controller);
  showLayers();
  showAnswer("");
  byId("result").hidden = true;
  say("Asking.");
  showAnswerCard();
  try {
    await follow(asked, controller.signal);
    say(`Answer: ${asked.text}. Route ${asked.known.route}.`);
  } catch (error) {
    asked.error = error.name === "AbortError" ? new ApiError("You stopped it.", { code: "cancelled" }) : error;
    if (!asked.text) showAnswer("No answer.", true);
    showProblem(asked.error);
    if (asked.error.status === 401) byId("options").open = true; // The field for the key is there.
    say("");
  } finally {
    setRunning(null);
    recent.add(asked);
  }
}

async function follow(asked, signal) {
  const content = [
    { type: "image_url", image_url: { url: asked.picture.url } },
    { type: "text", text: asked.question },
  ];
  const body = { model: state.model, messages: [{ role: "user", content }], qzoom: { ...asked.chosen, explain: true } };
  for await (const chunk of ask(body, signal)) {
    if (chunk.qzoom?.route) {
      asked.known = state.known = chunk.qzoom;
      showStarted(asked.known, asked.picture, null);
      showLayers();
    }
    asked.text += chunk.choices[0]?.delta.content ?? "";
    showAnswer(asked.text);
    if (chunk.qzoom?.stage_ms) {
      asked.stageMs = chunk.qzoom.stage_ms;
      asked.degraded = chunk.qzoom.degraded;
    }
  }
  asked.record = await trace(asked.known.trace_id, signal).catch(() => null);
  showRest(asked);
}

function showRest(asked) {
  showTimes(asked.record, asked.stageMs);
  showNotes(asked.known, asked.degraded);
}

function reopen(asked) {
  if (state.running) return;
  hideProblem();
  showPicture(asked.picture);
  question.value = asked.question;
  options.write(asked.chosen);
  showAnswer(asked.text || "No answer.", !asked.text);
  byId("result").hidden = asked.known === null;
  if (asked.known) {
    state.known = asked.known;
    showStarted(asked.known, asked.picture, null);
    showRest(asked);
    showLayers();
  }
  if (asked.error) showProblem(asked.error);
  showAnswerCard();
  say(`Shown again: ${asked.question}`);
}
