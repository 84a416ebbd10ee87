"use strict";
(() => {
  const source = document.getElementById("items-index");
  if (!source) return;
  const CODES = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  const $ = (name) => document.getElementById(`items-${name}`);
  const index = JSON.parse(source.textContent);
  const table = $("table"), total = index.ids.length;
  const ROWS = 50;
  const people = index.people.values.length > 0, compared = index.baseline.values.length > 0;
  const columns = 4 + Number(people) + Number(compared);

  const make = (tag, text = "", name = "", ...children) => {
    const element = document.createElement(tag);
    if (name) element.className = name;
    if (text) element.textContent = text;
    element.append(...children);
    return element;
  };
  const bdi = (text) => make("bdi", text);

  // The columns: a code for each item, 0 where there is no value.
  const decode = ({ codes }) => (typeof codes === "string" ? Uint8Array.from(codes, (code) => CODES.indexOf(code)) : Int32Array.from(codes));
  const column = {};
  for (const name of ["state", "verdict", "judge", "people", "group", "failed", "disagrees", "least", "baseline", "changed"]) column[name] = decode(index[name]);
  const value = (name, item) => index[name].values[column[name][item] - 1] ?? "";
  const shownId = (item) => index.shown[item] ?? index.ids[item];
  const short = (text, most) => (text.length > most ? `${text.slice(0, most)} …` : text);
  const score = (item) => {
    const number = index.scores[item];
    return number === null ? "—" : `${column.least[item] ? "≥ " : ""}${(number / 10000).toFixed(4)}`;
  };

  // The details: chunks that are parsed when one of their items is opened or searched.
  const chunks = new Map();
  const chunkOf = (item) => {
    let low = 0, high = index.chunks.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (index.chunks[middle] <= item) low = middle; else high = middle - 1;
    }
    return low;
  };
  const chunk = (number) => {
    if (!chunks.has(number)) chunks.set(number, JSON.parse($(String(number)).textContent));
    return chunks.get(number);
  };
  const detail = (item) => {
    if (item >= index.detailed) return null;
    const number = chunkOf(item);
    return chunk(number)[item - index.chunks[number]];
  };
  const word = (code) => index.words[code];

  // Search in ids and in the texts that are on this page.
  let ids = null, texts = null;
  const strings = (part) => (typeof part === "string" ? [part] : Array.isArray(part) ? part.flatMap(strings) : []);
  const searchable = (item) => {
    ids ??= index.ids.map((id, place) => (index.shown[place] ? `${id}\n${shownId(place)}` : id).toLowerCase());
    texts ??= [];
    if (item < index.detailed) texts[item] ??= strings(detail(item).slice(0, 5)).join("\n").toLowerCase();
    return item;
  };

  // The state of the table: filters, order and the opened item, as they are in the address.
  const NAMES = ["item", "q", "state", "judge", "group", "changed", "disagrees", "failed", "sort"];
  const start = { q: "", state: "", judge: "", group: "", changed: false, disagrees: false, failed: false, sort: "" };
  let view = { ...start }, order = [], page = 0, open = -1;

  const filtered = () => {
    const wanted = view.q.trim().toLowerCase(), group = view.group.trim().toLowerCase();
    const code = (name) => (view[name] ? index[name].values.indexOf(view[name]) + 1 : 0);
    const state = code("state"), judge = code("judge");
    const groups = group ? new Set(index.group.values.flatMap((text, place) => (text.toLowerCase().includes(group) ? [place + 1] : []))) : null;
    const found = [];
    for (let item = 0; item < total; item += 1) {
      if (view.state && column.state[item] !== state) continue;
      if (view.judge && column.judge[item] !== judge) continue;
      if (groups && !groups.has(column.group[item])) continue;
      if (view.changed && !column.changed[item]) continue;
      if (view.disagrees && !column.disagrees[item]) continue;
      if (view.failed && !column.failed[item]) continue;
      if (wanted) {
        searchable(item);
        if (!ids[item].includes(wanted) && !texts[item]?.includes(wanted)) continue;
      }
      found.push(item);
    }
    return found;
  };
  const natural = (text) => text.toLowerCase().replace(/\d+/g, (digits) => digits.padStart(12, "0"));
  const keys = {};
  const keysOf = (name) => {
    if (name === "score") return index.scores;
    if (name === "id") return index.ids.map(natural);
    const ranks = index[name].values.map(natural);
    return Array.from(column[name], (code) => (code ? ranks[code - 1] : null));
  };
  const sorted = (items) => {
    if (!view.sort) return items;
    const down = view.sort.startsWith("-"), name = view.sort.replace("-", "");
    const key = (keys[name] ??= keysOf(name)), sign = down ? -1 : 1;
    // What has no value is last in both directions.
    const blank = (item) => key[item] === null || key[item] === undefined;
    return items.sort((one, two) => blank(one) - blank(two) || (key[one] < key[two] ? -sign : key[one] > key[two] ? sign : one - two));
  };

  // What one row shows, and what it opens.
  const cell = (name, label, ...children) => {
    const td = make("td", "", name, make("span", "", "", ...children));
    td.setAttribute("role", "cell");
    td.dataset.label = label;
    return td;
  };
  const named = (text) => (text ? bdi(short(text, 60)) : make("span", "—", "none"));
  const tag = (text, name) => make("span", text, `tag ${name}`);
  const row = (item, place) => {
    const tr = make("tr", "", "row"), id = make("th"), button = make("button", "", "id"), state = value("state", item);
    tr.setAttribute("role", "row");
    tr.setAttribute("aria-rowindex", String(place + 2));
    tr.dataset.item = String(item);
    tr.dataset.state = state;
    tr.dataset.id = wellFormed(index.ids[item]);
    button.type = "button";
    button.setAttribute("aria-expanded", "false");
    button.append(bdi(short(shownId(item), 200)));
    id.scope = "row";
    id.setAttribute("role", "rowheader");
    id.append(make("div", "", "clip", button));
    const known = detail(item), first = known ? known[1][0][1] : "";
    if (first) id.append(make("div", "", "clip excerpt", bdi(short(first.slice(0, 400).replace(/\s+/g, " "), 110))));
    const verdict = make("span"), text = value("verdict", item), failed = value("failed", item);
    if (text) verdict.append(named(text), " ");
    if (state !== "released") verdict.append(tag(state, state), " ");
    if (column.disagrees[item]) verdict.append(tag("disagrees", "disagrees"), " ");
    if (failed) verdict.append(tag(`${failed} failed vote${failed === "1" ? "" : "s"}`, "failed"));
    tr.append(id, cell("", compared ? "Candidate verdict" : "Verdict", verdict));
    if (compared) {
      const before = make("span", "", "", named(value("baseline", item)), " ");
      if (column.changed[item]) before.append(tag("changed", "disagrees"));
      tr.append(cell("", "Baseline verdict", before));
    }
    tr.append(cell("", "Judge", named(value("judge", item))), cell("number", "Score", score(item)));
    if (people) tr.append(cell("", "Human label", named(value("people", item))));
    return tr;
  };

  const block = ([title, text]) => {
    const p = make("p", text);
    p.dir = "auto";
    return make("div", "", "text", make("h4", title), p);
  };
  const scroll = (label, child) => {
    const box = make("div", "", "scroll", child);
    box.tabIndex = 0;
    box.setAttribute("role", "region");
    box.setAttribute("aria-label", label);
    return box;
  };
  const grid = (name, caption, titles, rows, numeric) => {
    const head = make("tr"), body = make("tbody");
    titles.forEach((title, place) => {
      const th = make("th", title, numeric.includes(place) ? "number" : "");
      th.scope = "col";
      head.append(th);
    });
    for (const cells of rows) body.append(make("tr", "", "", ...cells.map((text, place) => make("td", "", numeric.includes(place) ? "number" : "", bdi(text)))));
    return make("table", "", name, make("caption", caption), make("thead", "", "", head), body);
  };
  const figure = (tag, attributes, ...children) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, text] of Object.entries(attributes)) element.setAttribute(name, String(text));
    element.append(...children);
    return element;
  };
  const axis = (low, high, threshold, texts, outcome) => {
    const at = (number) => 10 + 280 * Math.min(1, Math.max(0, number));
    const written = (x, y, text, name = "small") => figure("text", { x: Math.min(286, Math.max(14, x)), y, class: name, "text-anchor": "middle" }, text);
    const alt = `Score ${texts[0]}${threshold === null ? ", no threshold" : `, threshold ${texts[1]}`}: ${outcome}.`;
    const svg = figure("svg", { class: "plot axis", viewBox: "0 0 300 50", role: "img", "aria-label": alt }, figure("title", {}, alt));
    svg.append(figure("line", { x1: 10, x2: 290, y1: 26, y2: 26 }));
    for (const end of [0, 0.5, 1]) svg.append(figure("line", { x1: at(end), x2: at(end), y1: 26, y2: 30 }), written(at(end), 42, String(end)));
    if (threshold !== null) svg.append(figure("line", { class: "alpha-line", x1: at(threshold), x2: at(threshold), y1: 14, y2: 34 }), written(at(threshold), 9, `threshold ${texts[1]}`, "small alpha"));
    if (high > low) svg.append(figure("rect", { class: "bar", x: at(low), y: 22, width: at(high) - at(low), height: 8, rx: 3 }));
    else if (low !== null) svg.append(figure("circle", { class: "dot", cx: at(low), cy: 26, r: 5 }));
    return svg;
  };
  const tier = ([judge, verdict, scored, limit, threshold, low, high, outcome, votes, failures, cast], place) => {
    const part = make("section", "", "tier"), title = make("h4", `${place + 1}. `), facts = make("p");
    title.append(bdi(word(judge)));
    facts.append("Verdict ", make("b", "", "", bdi(word(verdict))), `, score ${scored}, threshold ${limit}: ${word(outcome)}. Votes: ${votes}.`);
    if (word(failures)) facts.append(" Failed: ", bdi(word(failures)), ".");
    const left = make("div", "", "step", title, facts, axis(low, high, threshold, [scored, limit], word(outcome)));
    part.append(left);
    if (!cast.length) return part;
    const rows = [];
    for (let vote = 0; vote < cast.length; vote += 6) {
      const [examples, ...codes] = cast.slice(vote, vote + 6);
      const [shown, label, probability, failure, cost] = codes.map(word);
      rows.push([shown || "—", String(examples), label || "—", probability, index.failures[failure] ?? failure, cost]);
    }
    const caption = `Votes of ${word(judge)}`;
    part.append(scroll(caption, grid("votes", caption, ["Order", "Examples", "Label", "Probability", "Failure", "Cost"], rows, [1, 3, 5])));
    return part;
  };

  // The words that two responses do not share are marked by `wordDiff`, which html.py puts before this script.
  const compare = (sides, on) => {
    const places = sides.map((side) => [...side.querySelectorAll("p")]);
    if (!on) {
      for (const p of places.flat()) p.textContent = p.textContent;
      return "";
    }
    const words = places.map((each) => each.map((p) => wordDiff.words(p.textContent)));
    const [first, second] = words.map((each) => each.flatMap(({ parts }) => parts));
    if (!wordDiff.compare(first, second)) {
      return "These responses are too long to compare word by word on this page.";
    }
    const only = [first, second].map((parts) => parts.filter((part) => !part.common).length);
    places.forEach((each, side) => {
      each.forEach((p, number) => {
        p.replaceChildren();
        let mark = null;
        for (const { space, word, common } of words[side][number].parts) {
          if (common) {
            mark = null;
            p.append(space + word);
          } else if (mark) {
            mark.append(space + word);
          } else {
            mark = make(side ? "ins" : "del", word);
            p.append(space, mark);
          }
        }
        p.append(words[side][number].end);
      });
    });
    if (!only[0] && !only[1]) return "The two responses have the same words.";
    const [one, two] = compared ? ["baseline's response", "candidate's"] : ["first response", "second"];
    return `Struck through: ${only[0]} words only in the ${one}. Underlined: ${only[1]} only in the ${two}.`;
  };

  // Copying, and the command that queues an item.
  const wellFormed = (text) => text.replace(/\p{Cs}/gu, "\ufffd");
  const quoted = (text) => {
    if (/^[\w@%+=:,./-]+$/.test(text)) return text;
    const plain = !/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u.test(text) && text === wellFormed(text);
    if (plain) return `'${text.replaceAll("'", `'"'"'`)}'`;
    const bytes = [...new TextEncoder().encode(text)];
    return `$'${bytes.map((byte) => (byte > 31 && byte < 127 && byte !== 39 && byte !== 92 ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, "0")}`)).join("")}'`;
  };
  const command = (item) => `trustescalate label queue ${[...index.options, index.run].map(quoted).join(" ")} --item=${quoted(index.ids[item])}`;
  const copy = async (text, what, status) => {
    status.replaceChildren();
    try {
      await navigator.clipboard.writeText(text);
      status.textContent = `${what} copied.`;
    } catch {
      const field = make("textarea");
      field.readOnly = true;
      field.rows = 2;
      field.value = text;
      field.setAttribute("aria-label", what);
      status.append(make("span", "The browser does not let this page copy. It is selected: press Ctrl+C or ⌘C."), field);
      field.focus();
      field.select();
    }
  };
  const button = (text, act) => {
    const each = make("button", text);
    each.type = "button";
    each.addEventListener("click", () => act(each));
    return each;
  };

  const panel = (item) => {
    const known = detail(item), box = make("div", "", "panel"), actions = make("div", "", "actions"), status = make("div", "", "status");
    status.setAttribute("role", "status");
    actions.append(
      button("Copy link", () => copy(address(item), "Link", status)),
      button("Add to review queue", () => copy(command(item), "Command", status)),
    );
    box.append(actions, status);
    if (!known) {
      box.append(make("p", `The texts and votes of this item are not on this page. ${compared ? "They are in report.items.jsonl of each run." : `They are line ${(item + 1).toLocaleString("en")} of report.items.jsonl beside it.`}`));
      return box;
    }
    const [reason, prompt, responses, reference, labels, trail, changes] = known;
    if (reason) box.append(make("p", reason, "reason"));
    for (const each of prompt) box.append(block(each));
    const sides = responses.map((blocks) => make("div", "", "response", ...blocks.map(block)));
    const pairs = changes.length || compared || sides.length !== 2 ? changes : [[0, 1]];
    if (pairs.length) {
      const note = make("span", "", "note");
      note.setAttribute("role", "status");
      const diff = button("Compare word by word", (each) => {
        const on = each.getAttribute("aria-pressed") !== "true";
        each.setAttribute("aria-pressed", String(on));
        note.textContent = pairs.map((pair) => compare(pair.map((side) => sides[side]), on)).filter(Boolean).join(" ");
      });
      diff.setAttribute("aria-pressed", "false");
      box.append(make("div", "", "actions", diff, note));
    }
    box.append(make("div", "", "responses", ...sides));
    if (reference !== null) box.append(block(["Reference", reference]));
    if (labels.length) {
      const line = make("p", "Human labels: ", "labels");
      labels.forEach(([annotator, label], place) => line.append(place ? ", " : "", bdi(annotator), " ", make("b", "", "", bdi(label))));
      box.append(line);
    }
    if (trail.length) box.append(make("h3", "Decision trail, tier by tier"), ...trail.map(tier));
    return box;
  };

  // The address: the opened item and the filters stand behind the "#".
  const parts = (item) => {
    const given = item < 0 ? [] : [["item", wellFormed(index.ids[item])]];
    for (const name of NAMES.slice(1)) if (view[name]) given.push([name, view[name] === true ? "1" : wellFormed(view[name])]);
    return given.map(([name, text]) => `${name}=${encodeURIComponent(text)}`).join("&");
  };
  const base = () => location.href.split("#")[0];
  const address = (item) => `${base()}#item=${encodeURIComponent(wellFormed(index.ids[item]))}`;
  let waiting = 0;
  const write = () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => history.replaceState(null, "", `${base()}#${parts(open) || "items"}`), 250);
  };
  const decoded = (text) => {
    try { return decodeURIComponent(text); } catch { return text; }
  };

  const body = make("tbody");
  body.setAttribute("role", "rowgroup");
  const buttonOf = (tr) => tr.querySelector("button.id");
  const rowOf = (item) => body.querySelector(`tr[data-item="${item}"]`);
  const close = () => {
    body.querySelector("tr.inside")?.remove();
    const tr = rowOf(open);
    if (tr) {
      buttonOf(tr).setAttribute("aria-expanded", "false");
      tr.classList.remove("open");
    }
    open = -1;
  };
  const show = (item) => {
    close();
    const tr = rowOf(item), td = make("td", "", "", panel(item)), inside = make("tr", "", "inside");
    open = item;
    td.colSpan = columns;
    td.setAttribute("role", "cell");
    inside.setAttribute("role", "row");
    inside.setAttribute("aria-rowindex", tr.getAttribute("aria-rowindex"));
    inside.append(td);
    tr.after(inside);
    tr.classList.add("open");
    buttonOf(tr).setAttribute("aria-expanded", "true");
  };
  const toggle = (item) => {
    if (open === item) close(); else show(item);
    write();
  };
  const nothing = () => {
    const tr = make("tr", "", "nothing"), td = make("td", "No item matches. Clear the filters.");
    tr.setAttribute("role", "row");
    td.colSpan = columns;
    td.setAttribute("role", "cell");
    tr.append(td);
    return tr;
  };
  const pages = () => Math.max(1, Math.ceil(order.length / ROWS));
  const draw = () => {
    const opened = open;
    open = -1;
    page = Math.min(page, pages() - 1);
    const from = page * ROWS;
    const shown = order.slice(from, from + ROWS).map((item, place) => row(item, from + place));
    body.replaceChildren(...(shown.length ? shown : [nothing()]));
    if (opened >= 0 && rowOf(opened)) show(opened);
    table.setAttribute("aria-rowcount", String(order.length + 1));
    const to = Math.min(from + ROWS, order.length);
    $("printed").textContent = to - from < index.total ? `Printed here: ${to - from} of ${index.total.toLocaleString("en")} items. ${compared ? "The items of each run are" : "The others are"} in ${compared ? "its own " : ""}report.items.jsonl.` : "";
    $("pages").hidden = order.length <= ROWS;
    $("page").value = String(page + 1);
    $("of").textContent = `of ${pages().toLocaleString("en")}`;
    $("before").disabled = page === 0;
    $("after").disabled = page === pages() - 1;
  };
  const apply = () => {
    order = sorted(filtered());
    page = 0;
    draw();
    const all = total.toLocaleString("en");
    $("shown").textContent = order.length === total ? `${all} items` : `${order.length.toLocaleString("en")} of ${all} items`;
    $("clear").disabled = NAMES.slice(1, -1).every((name) => !view[name]);
    for (const heading of table.querySelectorAll("th[data-key]")) {
      const name = view.sort.replace("-", "");
      if (heading.dataset.key === name) heading.setAttribute("aria-sort", view.sort.startsWith("-") ? "descending" : "ascending");
      else heading.removeAttribute("aria-sort");
    }
  };
  const turn = (to) => {
    page = Math.min(Math.max(0, to), pages() - 1);
    draw();
    table.scrollIntoView({ block: "nearest" });
  };

  const controls = ["q", "state", "judge", "group", "changed", "disagrees", "failed"];
  const control = (name) => $(name === "q" ? "search" : name);
  const fill = () => {
    for (const name of controls) {
      const field = control(name);
      if (field.type === "checkbox") field.checked = view[name]; else field.value = view[name];
    }
  };
  const say = (text) => { $("message").textContent = text; };
  const places = () => (places.known ??= new Map(index.ids.map((id, item) => [wellFormed(id), item])));
  const follow = () => {
    const given = new Map();
    for (const part of location.hash.slice(1).split("&")) {
      const at = part.indexOf("=");
      if (at > 0 && NAMES.includes(part.slice(0, at))) given.set(part.slice(0, at), decoded(part.slice(at + 1)));
    }
    if (!given.size) return;
    const text = (name, values) => (values.includes(given.get(name)) ? given.get(name) : "");
    view = {
      q: given.get("q") ?? "",
      state: text("state", index.state.values),
      judge: text("judge", index.judge.values),
      group: given.get("group") ?? "",
      changed: given.get("changed") === "1",
      disagrees: given.get("disagrees") === "1",
      failed: given.get("failed") === "1",
      sort: /^-?(id|verdict|baseline|judge|score|people)$/.test(given.get("sort") ?? "") ? given.get("sort") : "",
    };
    close();
    fill();
    apply();
    say("");
    if (!given.has("item")) return;
    const id = given.get("item"), item = places().get(wellFormed(id));
    if (item === undefined) {
      const where = total < index.total ? " It may be in report.items.jsonl." : "";
      say(`No item with the id “${short(id, 120)}” is on this page.${where}`);
      $("message").scrollIntoView({ block: "center" });
      return;
    }
    if (!order.includes(item)) {
      view = { ...start };
      fill();
      apply();
      say("The filters were cleared to show this item.");
    }
    page = Math.floor(order.indexOf(item) / ROWS);
    draw();
    show(item);
    const tr = rowOf(item);
    buttonOf(tr).focus({ preventScroll: true });
    tr.scrollIntoView({ block: "start" });
  };

  // Controls, keys and headings.
  const changed = () => {
    for (const name of controls) view[name] = control(name).type === "checkbox" ? control(name).checked : control(name).value;
    say("");
    close();
    apply();
    write();
  };
  let typing = 0;
  const soon = () => {
    clearTimeout(typing);
    typing = setTimeout(changed, 120);
  };
  for (const name of controls) control(name).addEventListener(["q", "group"].includes(name) ? "input" : "change", ["q", "group"].includes(name) ? soon : changed);
  $("controls").addEventListener("submit", (event) => event.preventDefault());
  $("clear").addEventListener("click", () => {
    view = { ...start, sort: view.sort };
    fill();
    changed();
    control("q").focus();
  });
  $("before").addEventListener("click", () => turn(page - 1));
  $("after").addEventListener("click", () => turn(page + 1));
  $("page").addEventListener("change", () => turn((Number.parseInt($("page").value, 10) || 1) - 1));
  body.addEventListener("click", (event) => {
    const tr = event.target.closest("tr.row");
    if (tr && !String(getSelection())) toggle(Number(tr.dataset.item));
  });
  const move = (to) => {
    const at = Math.min(Math.max(0, to), order.length - 1);
    if (Math.floor(at / ROWS) !== page) turn(Math.floor(at / ROWS));
    const target = buttonOf(rowOf(order[at]));
    target.focus();
    target.scrollIntoView({ block: "nearest" });
  };
  body.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && open >= 0) {
      const tr = rowOf(open);
      close();
      write();
      buttonOf(tr).focus();
      return;
    }
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: ROWS, PageUp: -ROWS };
    if (!event.target.matches("button.id") || event.altKey || event.ctrlKey || event.metaKey) return;
    const at = Number(event.target.closest("tr").getAttribute("aria-rowindex")) - 2;
    if (event.key in steps) move(at + steps[event.key]);
    else if (event.key === "Home") move(page * ROWS);
    else if (event.key === "End") move(page * ROWS + ROWS - 1);
    else return;
    event.preventDefault();
  });

  const options = (name) => {
    index[name].values.forEach((text) => {
      const option = make("option", short(text, 40));
      option.value = text;
      $(name).append(option);
    });
    $(name).closest("label").hidden = index[name].values.length < 2;
  };
  options("state");
  options("judge");
  for (const text of index.group.values.slice(0, 200)) {
    const option = make("option");
    option.value = text;
    $("groups").append(option);
  }
  $("group").closest("label").hidden = index.group.values.length < 2;
  $("changed").closest("label").hidden = !index.changed.values.length;
  $("disagrees").closest("label").hidden = !index.disagrees.values.length;
  $("failed").closest("label").hidden = !index.failed.values.length;
  for (const part of [table.tHead]) part.setAttribute("role", "rowgroup");
  table.setAttribute("role", "table");
  table.classList.add("live");
  table.tHead.rows[0].setAttribute("role", "row");
  table.tHead.rows[0].setAttribute("aria-rowindex", "1");
  if (people && table.tHead.rows[0].cells.length < columns) {
    const heading = make("th", "Human label");
    heading.scope = "col";
    heading.dataset.key = "people";
    table.tHead.rows[0].append(heading);
  }
  for (const heading of table.querySelectorAll("th[data-key]")) {
    heading.setAttribute("role", "columnheader");
    heading.replaceChildren(button(heading.textContent, () => {
      const name = heading.dataset.key;
      view.sort = view.sort === name ? `-${name}` : view.sort === `-${name}` ? "" : name;
      apply();
      write();
    }));
  }
  for (const old of [...table.tBodies]) old.remove();
  table.append(body);
  $("controls").hidden = false;
  const left = index.total - total, bare = total - index.detailed;
  $("note").textContent = [
    left ? `${left.toLocaleString("en")} of ${index.total.toLocaleString("en")} items are not on this page, which is kept below 5 MB.` : "",
    bare ? `${bare.toLocaleString("en")} items are listed without their texts and votes, to keep this page below 5 MB.` : "",
    compared ? "The items of each run are in its own report.items.jsonl." : "All are in report.items.jsonl beside this page, one on each line, in the order of this table.",
  ].filter(Boolean).join(" ");
  apply();
  follow();
  addEventListener("hashchange", follow);
})();
