// Asks for items, sends answers, waits until each is saved.

import { at, comparison, fold, node, turns } from "./texts.js";

const state = {
  task: null, options: [], who: "", given: new Map(), reasons: new Map(), draft: null, item: null, row: null,
  raw: false, compare: false, opened: false, shown: 0, hidden: 0, busy: false, failed: null,
};
const LOST = "The server cannot be reached. Start it again (trustescalate label serve) and open its new " +
  "address; every answer before this one is kept.";
const WIDE = matchMedia("(min-width: 62em)");  // instructions stand beside the item
const number = (value) => value.toLocaleString("en-GB");
const noun = () => state.task.by_criterion ? "question" : "item";
const counted = (count) => number(count) + " " + noun() + (count === 1 ? "" : "s");
const titled = (text) => text[0].toUpperCase() + text.slice(1);
const place = (row) => noun() + " " + number(row + 1);

async function ask(path, body) {
  let reply;
  try {
    reply = await fetch("api/" + path, body === undefined ? {} : {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
    });
  } catch {
    throw new Error(LOST);
  }
  if (reply.status === 404) throw new Error(LOST);
  let content = {};
  try { content = await reply.json(); } catch { /* an empty body */ }
  if (!reply.ok) throw new Error(content.error || "The server refused the request (" + reply.status + ").");
  return content;
}

async function busy(work) {
  if (state.busy) return;
  state.busy = true;
  try {
    await work();
    state.failed = null;
    at("error").hidden = true;
  } catch (error) {
    state.failed = work;
    at("error-text").textContent = error.message;
    at("retry").hidden = false;
    at("error").hidden = false;
  } finally {
    state.busy = false;
    document.body.dataset.ready = String(Number(document.body.dataset.ready || 0) + 1);
  }
}

function only(id) {
  for (const part of ["welcome", "desk", "done"]) at(part).hidden = part !== id;
}

// ── annotators ──

function welcome() {
  const { task } = state;
  at("welcome-question").textContent = task.question;
  at("welcome-rows").textContent = counted(task.rows) + " to label.";
  at("people").hidden = task.people.length === 0;
  at("people-names").replaceChildren(...task.people.map((person) => {
    const button = node("button");
    button.type = "button";
    button.append(node("bdi", "", person.name), node("small", "", person.done + " of " + task.rows));
    button.addEventListener("click", () => busy(() => begin(person.name)));
    return button;
  }));
  document.title = "Labelling";
  only("welcome");
  at("name").focus();
}

// The name stands in the address, so that a reload continues; the server knows where.
async function begin(name) {
  await load(name);
  history.replaceState(null, "", "#" + encodeURIComponent(state.who));
  at("who").textContent = state.who;
  at("guide").open = WIDE.matches || state.given.size === 0;
  await next();
}

async function load(name) {
  const { annotator, answers, reasons, draft, agreement } = await ask("start", { annotator: name });
  const byRow = (given) => new Map(Object.entries(given || {}).map(([row, value]) => [Number(row), value]));
  state.who = annotator;
  state.given = byRow(answers);
  state.reasons = byRow(reasons);
  state.draft = draft || null;
  soFar(agreement);
}

function soFar(agreement) {
  at("so-far").hidden = !agreement;
  if (agreement) {
    at("so-far").textContent = "same label as others: " + agreement.agreed + " of " + agreement.compared;
    at("so-far").title = "Over the first labels of items that others labelled too, updated every ten items.";
  }
}

function instructions() {
  const { rubric, criteria } = state.task;
  at("guide").hidden = rubric === null && criteria.length === 0;
  if (rubric) turns(at("rubric"), [rubric], state.raw);
  at("criteria").hidden = criteria.length === 0;
  at("criteria").replaceChildren(...criteria.map((each) => {
    const line = node("li", "", each);
    line.dir = "auto";
    return line;
  }));
}

// ── an item ──

function buttons(options) {
  const bar = at("answers");
  state.options = options;
  bar.replaceChildren(...options.map((option) => {
    const button = node("button", option.answer === "skip" ? "skip" : "");
    button.type = "button";
    button.dataset.answer = option.answer;
    const key = option.keys[0];
    if (option.keys.length) button.setAttribute("aria-keyshortcuts", option.keys.join(" "));
    if (key && key !== option.title) button.append(node("kbd", "", key.toUpperCase()));
    const title = node("span", "", option.answer === "skip" ? "Skip…" : option.title);
    title.dir = "auto";
    button.append(title);
    button.addEventListener("click", () => busy(() => choose(option.answer)));
    return button;
  }));
  bar.classList.toggle("many", options.length > 7);
}

async function show(row) {
  state.item = await ask("row/" + row);
  state.row = row;
  state.opened = false;
  const { question, options } = state.item;
  at("question").textContent = question || state.task.question;
  buttons(options || state.task.options);
  only("desk");
  draw();
  mark();
  state.shown = performance.now();
  state.hidden = 0;
  scrollTo(0, 0);
  at("row").focus({ preventScroll: true });
}

function draw() {
  const { prompt, responses, reference } = state.item;
  const passages = prompt.filter((turn) => turn.role.startsWith("passage "));
  const pair = responses.length === 2;
  turns(at("prompt"), prompt.filter((turn) => !passages.includes(turn)), state.raw);
  turns(at("passages"), passages, state.raw);
  turns(at("reference"), reference || [], state.raw);
  at("passages-part").hidden = passages.length === 0;
  at("passages-title").textContent = "Context: " + (passages.length === 1 ? "one passage" : passages.length + " passages");
  at("reference-part").hidden = reference === null;
  instructions();
  const { note, marked } = pair && state.compare ? comparison(responses) : { note: "" };
  at("compared").textContent = note;
  at("responses").className = pair ? "two" : "";
  at("responses").replaceChildren(...responses.map((given, side) => {
    const part = node("section", "card response");
    const title = node("h3", "", pair ? "Response " + (side + 1) : "Response");
    title.append(node("span", "choice", "your answer"));
    const box = node("div", "fold");
    turns(box, given, state.raw, marked && marked[side]);
    part.append(title, box);
    return part;
  }));
  const texts = [...prompt, ...(reference || []), ...responses.flat()];
  at("compare").hidden = !pair;
  at("compare").setAttribute("aria-pressed", String(state.compare));
  at("raw").hidden = !texts.some((turn) => turn.tree) && !(state.task.rubric && state.task.rubric.tree);
  at("raw").setAttribute("aria-pressed", String(state.raw));
  folds();
}

function folds() {
  const boxes = ["question", "prompt", "passages", "reference", "rubric"].map(at);
  const long = [...boxes, ...document.querySelectorAll("#responses .fold")].map((box) => fold(box, state.opened));
  at("unfold").hidden = !long.includes(true);
  at("unfold").setAttribute("aria-pressed", String(state.opened));
}

function mark() {
  const { rows } = state.task;
  const own = state.given.get(state.row);
  for (const button of at("answers").children) {
    button.setAttribute("aria-pressed", String(button.dataset.answer === own));
  }
  const chosen = ["first", "second"].indexOf(own);
  [...at("responses").children].forEach((part, side) => {
    part.classList.toggle("chosen", state.task.kind === "pairwise" && side === chosen);
  });
  const reason = own === "skip" && state.reasons.get(state.row);
  at("place").textContent = titled(place(state.row)) + " of " + number(rows) + (reason ? " · skipped: " + reason : "");
  at("count").textContent = number(state.given.size) + " of " + number(rows) + " answered";
  at("progress").max = rows;
  at("progress").value = state.given.size;
  at("back").disabled = state.row === 0;
  at("on").disabled = own === undefined;
  at("undo").disabled = state.given.size === 0;
  document.title = at("count").textContent + " · Labelling";
}

async function next() {
  for (let row = 0; row < state.task.rows; row += 1) {
    if (!state.given.has(row)) return show(row);
  }
  return finish();
}

async function finish() {
  const { pairs, alpha } = await ask("agreement", { annotator: state.who });
  state.row = null;
  const skipped = [...state.given.values()].filter((answer) => answer === "skip").length;
  at("done-who").textContent = state.who;
  at("done-count").textContent = counted(state.given.size) +
    (skipped ? ", " + number(skipped) + " of them skipped" : "");
  const shared = pairs.filter((pair) => pair.compared > 0);
  at("agreement").hidden = shared.length === 0;
  at("pairs").replaceChildren(...shared.map((pair) => {
    const line = node("tr");
    const names = node("td");
    names.append(node("bdi", "", pair.first), " and ", node("bdi", "", pair.second));
    const share = Math.round(100 * pair.agreed / pair.compared);
    line.append(names, node("td", "number", pair.compared), node("td", "number", pair.agreed + " (" + share + " %)"));
    return line;
  }));
  at("alpha").textContent = alpha === null ? "" :
    "Krippendorff's α over all annotators: " + alpha.toFixed(2) + ". 1 is full agreement, 0 is agreement by chance.";
  document.title = "Done · Labelling";
  only("done");
  at("done").focus();
}

// ── what an annotator does ──

async function choose(answer) {
  if (state.row === null) return;
  if (answer === "skip") skip();
  else await record(state.row, answer);
}

async function record(row, answer, reason) {
  const seconds = Math.max(0, (performance.now() - state.shown - state.hidden) / 1000);
  const known = state.given.has(row);
  const title = reason ? "skip" : state.options.find((option) => option.answer === answer).title;
  const body = { annotator: state.who, row, answer, seconds, ...(reason ? { reason } : {}) };
  try {
    if (state.failed) await load(state.who);
    soFar((await ask("answer", body)).agreement);
  } catch (error) {
    throw new Error(titled(place(row)) + " is not saved (" + title + "). " + error.message);
  }
  state.given.set(row, answer);
  if (state.given.size === 1 && !WIDE.matches) at("guide").open = false;
  if (reason) state.reasons.set(row, reason);
  else state.reasons.delete(row);
  if (state.draft && state.draft.row === row) state.draft = null;
  at("status").textContent = "Saved " + place(row) + ": " + title;
  await (known && row + 1 < state.task.rows && state.given.has(row + 1) ? show(row + 1) : next());
}

async function undo() {
  if (state.failed) {
    await load(state.who);
    if (state.row !== null) mark();
    at("status").textContent = "Connected again. Undo again to withdraw the last recorded answer.";
    return;
  }
  const { row, agreement } = await ask("undo", { annotator: state.who });
  if (row === null) return;
  const title = at("answers").querySelector('[data-answer="' + CSS.escape(state.given.get(row)) + '"] span');
  state.given.delete(row);
  state.reasons.delete(row);
  soFar(agreement);
  await show(row);
  at("status").textContent = "Withdrawn from " + place(row) + (title ? ": " + title.textContent : "");
}

async function step(by) {
  if (state.row === null) {
    if (by < 0) await show(state.task.rows - 1);
    return;
  }
  if (by > 0 && !state.given.has(state.row)) return;
  const row = state.row + by;
  if (row >= state.task.rows) await next();
  else if (row >= 0) await show(row);
}

function toggle(name) {
  if (at({ raw: "raw", compare: "compare", opened: "unfold" }[name]).hidden) return;
  state[name] = !state[name];
  if (name === "opened") folds();
  else draw();
  mark();
}

// ── skipping, and its reason ──

function skip() {
  const { draft, row } = state;
  at("reason").value = draft && draft.row === row ? draft.text : "";
  at("reasons").replaceChildren(...state.task.reasons.map((reason, order) => {
    const button = node("button");
    button.type = "button";
    button.append(node("kbd", "", order + 1), node("span", "", reason));
    button.addEventListener("click", () => skipped(reason));
    return button;
  }));
  at("skip").showModal();
  if (at("reason").value) at("reason").focus();
}

function skipped(reason) {
  const { row } = state;
  clearTimeout(pending);
  at("reason").value = "";
  at("skip").close();
  busy(() => record(row, "skip", reason));
}

let pending = 0;
function typing() {
  clearTimeout(pending);
  pending = setTimeout(keepDraft, 300);
}

function keepDraft() {
  clearTimeout(pending);
  const { who, row } = state;
  const text = at("reason").value;
  state.draft = { row, text };
  return ask("draft", { annotator: who, row, text }).catch(() => { /* the answer itself reports a lost server */ });
}

function shortcuts() {
  const rows = [
    ...state.options.map((option) => [option.keys, option.answer === "skip" ? "Skip, with a reason" : option.title]),
    [["u"], "Undo the last answer; again for the one before"],
    [["←"], "Previous item"], [["→"], "Next item, once this one is answered"],
    [["="], "Mark the words that differ between two responses"],
    [["/"], "Raw text instead of formatted Markdown"],
    [["."], "Unfold all long texts"],
    [["?"], "This list"],
  ].filter(([keys]) => keys.length);
  at("keys-list").replaceChildren(...rows.flatMap(([keys, title]) => {
    const term = node("dt");
    term.append(...keys.map((key) => node("kbd", "", key.toUpperCase())));
    const text = node("dd", "", title);
    text.dir = "auto";
    return [term, text];
  }));
  at("keys").showModal();
}

const KEYS = {
  u: undo, arrowleft: () => step(-1), arrowright: () => step(1), "?": shortcuts,
  "=": () => toggle("compare"), "/": () => toggle("raw"), ".": () => toggle("opened"),
};

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.isComposing) return;
  if (!at("welcome").hidden || !state.who || event.target.matches("input")) return;
  const key = event.key.toLowerCase();
  if (at("skip").open) {
    const button = at("reasons").children[Number(key) - 1];
    if (button) { event.preventDefault(); button.click(); }
    return;
  }
  if (at("keys").open) {
    if (key === "?") { event.preventDefault(); at("keys").close(); }
    return;
  }
  if (event.target.closest("pre, table") && key.startsWith("arrow")) return;  // scrolls
  const option = state.row === null ? undefined : state.options.find((each) => each.keys.includes(key));
  let work = option ? () => choose(option.answer) : KEYS[key];
  if (state.row === null && ["=", "/", "."].includes(key)) work = undefined;
  if (!work) return;
  event.preventDefault();
  busy(async () => work());
}

let away = 0;
document.addEventListener("visibilitychange", () => {
  if (document.hidden) away = performance.now();
  else if (away) state.hidden += performance.now() - Math.max(away, state.shown);
});
document.addEventListener("keydown", pressed);
at("name-form").addEventListener("submit", (event) => {
  event.preventDefault();
  busy(() => begin(at("name").value));
});
at("reason-form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (at("reason").value.trim()) skipped(at("reason").value.trim());
});
at("reason").addEventListener("input", typing);
at("skip").addEventListener("close", () => { if (at("reason").value) keepDraft(); });
at("leave").addEventListener("click", (event) => {
  event.preventDefault();
  history.replaceState(null, "", location.pathname);
  location.reload();
});
const CLICKS = {
  "skip-cancel": () => at("skip").close(), "keys-close": () => at("keys").close(),
  retry: () => state.failed && busy(state.failed),
  undo: () => busy(undo), "done-undo": () => busy(undo), help: () => busy(async () => shortcuts()),
  back: () => busy(() => step(-1)), "done-back": () => busy(() => step(-1)), on: () => busy(() => step(1)),
  compare: () => busy(async () => toggle("compare")), raw: () => busy(async () => toggle("raw")),
  unfold: () => busy(async () => toggle("opened")),
};
for (const [id, work] of Object.entries(CLICKS)) at(id).addEventListener("click", work);
let width = innerWidth;
at("guide").addEventListener("toggle", () => fold(at("rubric"), state.opened));
addEventListener("resize", () => {
  if (innerWidth !== width && !at("desk").hidden && state.item) folds();
  width = innerWidth;
});
busy(async () => {
  state.task = await ask("task");
  let name = "";
  try { name = decodeURIComponent(location.hash.slice(1)); } catch { /* not a name */ }
  if (!name) return welcome();
  try {
    await begin(name);
  } catch (error) {
    welcome();
    throw error;
  }
});
