// Builds nodes for texts. Everything goes in by textContent, and only these tags are made: never HTML.

import { compare, words } from "./diff.js";

const TAGS = new Set(["p", "em", "strong", "s", "code", "pre", "blockquote", "ul", "ol", "li", "hr",
  "table", "thead", "tbody", "tr", "th", "td"]);
const FOLDED = 1.25;  // a text is folded where it is longer than its limit by this factor

const isCode = (turn) => /\btool\b/.test(turn.role);

export const at = (id) => document.getElementById(id);

export function node(tag, className, text) {
  const built = document.createElement(tag);
  if (className) built.className = className;
  if (text !== undefined) built.textContent = text;
  return built;
}

// A Markdown tree as the server parsed it.
function tree(into, nodes) {
  for (const each of nodes) {
    if (typeof each === "string") {
      into.append(each);
      continue;
    }
    let part;
    if (/^h[1-6]$/.test(each.tag)) {
      part = node("div", "heading " + each.tag);
      part.setAttribute("role", "heading");
      part.setAttribute("aria-level", String(Math.min(6, Number(each.tag[1]) + 3)));
    } else if (each.tag === "link" || !TAGS.has(each.tag)) {
      part = node("span");
    } else {
      part = node(each.tag);
    }
    if (each.tag === "li" && /^\d{1,9}$/.test(each.value || "")) part.value = Number(each.value);
    if (each.info) into.append(node("div", "language", each.info));
    if (each.tag === "pre" || each.tag === "table") part.tabIndex = 0;  // scrolls by keyboard
    tree(part, each.children);
    into.append(part);
  }
}

function body(turn, raw) {
  const formatted = turn.tree && !raw;
  const text = node("div", formatted ? "text formatted" : isCode(turn) ? "text code" : "text");
  text.dir = "auto";
  if (formatted) tree(text, turn.tree);
  else text.textContent = turn.text;
  return text;
}

// The turns of a conversation, or one text. `marked` holds the compared words of each turn.
export function turns(into, given, raw, marked) {
  into.replaceChildren(...given.map((turn, place) => {
    const part = node("div", "turn" + (turn.role === "user" ? " user" : isCode(turn) ? " tool" : ""));
    if (turn.role) part.append(node("h4", "", turn.role));
    part.append(marked ? differences(turn, marked[place]) : body(turn, raw));
    return part;
  }));
}

function differences(turn, { parts, end }) {
  const text = node("div", isCode(turn) ? "text code" : "text");
  text.dir = "auto";
  let run = "";
  let own = false;
  const flush = () => {
    if (run) text.append(own ? node("mark", "", run) : run);
    run = "";
  };
  for (const { space, word, common } of parts) {
    if (own === common) {
      flush();
      text.append(space);
      own = !common;
      run = word;
    } else {
      run += space + word;
    }
  }
  flush();
  text.append(end);
  return text;
}

// Compares two responses word by word: what to mark in each turn of both, and a sentence.
export function comparison(responses) {
  const lists = responses.map((given) => given.map((turn) => words(turn.text)));
  const [first, second] = lists.map((each) => each.flatMap(({ parts }) => parts));
  if (!compare(first, second)) {
    const counts = [first.length, second.length].map((count) => count.toLocaleString("en-GB"));
    return { note: `Too long to compare: ${counts.join(" and ")} words.` };
  }
  const [one, two] = [first, second].map((list) => list.filter(({ common }) => !common).length);
  const note = one + two === 0 ? "Both responses have the same words in the same order."
    : `Marked: words only in response 1 (${one.toLocaleString("en-GB")}) or only in response 2 ` +
      `(${two.toLocaleString("en-GB")}). Texts are shown as written.`;
  return { note, marked: lists };
}

// Folds a long text behind a button. Returns whether it is long.
export function fold(box, opened) {
  const after = box.nextElementSibling;
  if (after && after.classList.contains("more")) after.remove();
  box.classList.add("folded");
  const long = box.scrollHeight > FOLDED * box.clientHeight;
  box.classList.toggle("folded", long && !opened);
  if (long) {
    const count = box.textContent.length.toLocaleString("en-GB");
    const button = node("button", "more");
    button.type = "button";
    const name = (open) => {
      button.textContent = open ? "Show less" : "Show all (" + count + " characters)";
      button.setAttribute("aria-expanded", String(open));
    };
    name(opened);
    button.addEventListener("click", () => name(!box.classList.toggle("folded")));
    box.after(button);
  }
  return long;
}
