"use strict";
// Asks for rows, sends answers, waits until each is saved. All texts go in by textContent: never as HTML.

const at = (id) => document.getElementById(id);
const state = { task: null, options: [], who: "", given: new Map(), row: null, shown: 0, hidden: 0, busy: false };
const LOST = "The server cannot be reached; your last answer may not be saved. Start it again " +
  "(trustescalate label serve) and open the new address: everything before is kept.";

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
  let said = {};
  try { said = await reply.json(); } catch { /* an empty body says nothing */ }
  if (!reply.ok) throw new Error(said.error || "The server refused (" + reply.status + ").");
  return said;
}

async function busy(work) {
  if (state.busy) return;
  state.busy = true;
  try {
    await work();
    at("error").hidden = true;
  } catch (error) {
    at("error").textContent = error.message;
    at("error").hidden = false;
  } finally {
    state.busy = false;
    document.body.dataset.ready = String(Number(document.body.dataset.ready || 0) + 1);
  }
}

function only(id) {
  for (const part of ["welcome", "desk", "done"]) at(part).hidden = part !== id;
}

function node(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// ── who ──

function welcome() {
  const { task } = state;
  at("welcome-question").textContent = task.question;
  at("welcome-rows").textContent = task.rows === 1 ? "One row to answer." : task.rows + " rows to answer.";
  at("people").hidden = task.people.length === 0;
  for (const person of task.people) {
    const button = node("button");
    button.type = "button";
    const name = node("bdi", "", person.name);
    button.append(name, node("small", "", person.done + " of " + task.rows));
    button.addEventListener("click", () => busy(() => begin(person.name)));
    at("people-names").append(button);
  }
  only("welcome");
  at("name").focus();
}

async function begin(name) {
  const { annotator, answers } = await ask("start", { annotator: name });
  state.who = annotator;
  state.given = new Map(Object.entries(answers).map(([row, answer]) => [Number(row), answer]));
  at("question").textContent = state.task.question;
  at("who").textContent = annotator;
  buttons(state.task.options);
  await next();
}

// ── a row ──

function buttons(options) {
  const bar = at("answers");
  state.options = options;
  bar.replaceChildren();
  bar.classList.toggle("many", options.length > 7);
  for (const option of options) {
    const button = node("button", option.answer === "skip" ? "skip" : "");
    button.type = "button";
    button.dataset.answer = option.answer;
    const key = option.keys[0];
    if (key && key !== option.title) button.append(node("kbd", "", key.toUpperCase()));
    const title = node("span", "", option.title);
    title.dir = "auto";
    button.append(title);
    button.addEventListener("click", () => busy(() => answer(option.answer)));
    bar.append(button);
  }
}

function turns(into, said) {
  into.replaceChildren();
  for (const turn of said) {
    const part = node("div", "turn" + (turn.role === "user" ? " user" : ""));
    if (turn.role) part.append(node("h3", "", turn.role));
    const text = node("div", "text", turn.text);
    text.dir = "auto";
    part.append(text);
    into.append(part);
  }
}

async function show(row) {
  const { prompt, responses, reference, question, options } = await ask("row/" + row);
  state.row = row;
  if (options) {
    at("question").textContent = question;
    buttons(options);
  }
  turns(at("prompt"), prompt);
  at("reference-part").hidden = reference === null;
  at("reference").textContent = reference === null ? "" : reference;
  const pair = responses.length === 2;
  at("responses").className = pair ? "two" : "";
  at("responses").replaceChildren(...responses.map((said, place) => {
    const part = node("section", "response");
    part.append(node("h2", "", pair ? "Response " + (place + 1) : "Response"));
    const body = node("div");
    turns(body, said);
    part.append(body);
    return part;
  }));
  only("desk");
  mark();
  state.shown = performance.now();
  state.hidden = 0;
  scrollTo(0, 0);
  at("row").focus({ preventScroll: true });
}

function mark() {
  const { rows } = state.task;
  const own = state.given.get(state.row);
  for (const button of at("answers").children) {
    button.setAttribute("aria-pressed", String(button.dataset.answer === own));
  }
  const chosen = ["first", "second"].indexOf(own);
  [...at("responses").children].forEach((part, place) => {
    part.classList.toggle("chosen", state.task.kind === "pairwise" && place === chosen);
  });
  at("count").textContent = " · " + (state.row + 1) + " of " + rows + " · " + state.given.size + " answered";
  at("bar-done").style.width = (100 * state.given.size / rows) + "%";
  at("back").disabled = state.row === 0;
  at("on").disabled = !state.given.has(state.row);
  at("undo").disabled = state.given.size === 0;
}

async function next() {
  for (let row = 0; row < state.task.rows; row += 1) {
    if (!state.given.has(row)) return show(row);
  }
  return finish();
}

async function finish() {
  state.row = null;
  at("done-who").textContent = state.who;
  at("done-count").textContent = state.given.size === 1 ? "one row" : state.given.size + " rows";
  const { pairs, alpha } = await ask("agreement", { annotator: state.who });
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
    "Krippendorff's α over all: " + alpha.toFixed(2) + ". 1 is full agreement, 0 is what chance would give.";
  only("done");
  at("done").focus();
}

// ── what a person does ──

async function answer(said) {
  if (state.row === null) return;
  const seconds = Math.max(0, (performance.now() - state.shown - state.hidden) / 1000);
  const row = state.row;
  const known = state.given.has(row);
  await ask("answer", { annotator: state.who, row, answer: said, seconds });
  state.given.set(row, said);
  at("status").textContent = "Saved";
  await (known && row + 1 < state.task.rows && state.given.has(row + 1) ? show(row + 1) : next());
}

async function undo() {
  const { row } = await ask("undo", { annotator: state.who });
  if (row === null) return;
  state.given.delete(row);
  at("status").textContent = "Taken back";
  await show(row);
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

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.isComposing) return;
  if (!at("welcome").hidden || !state.who) return;
  const key = event.key.toLowerCase();
  const option = state.options.find((each) => each.keys.includes(key));
  let work = null;
  if (key === "u") work = undo;
  else if (key === "arrowleft") work = () => step(-1);
  else if (key === "arrowright") work = () => step(1);
  else if (option && state.row !== null) work = () => answer(option.answer);
  if (work === null) return;
  event.preventDefault();
  busy(work);
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
for (const id of ["undo", "done-undo"]) at(id).addEventListener("click", () => busy(undo));
for (const id of ["back", "done-back"]) at(id).addEventListener("click", () => busy(() => step(-1)));
at("on").addEventListener("click", () => busy(() => step(1)));
busy(async () => {
  state.task = await ask("task");
  welcome();
});
