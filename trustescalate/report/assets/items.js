"use strict";
(() => {
  const table = document.getElementById("items-table");
  if (!table) return;
  const rows = [...table.tBodies];
  const controls = document.getElementById("items-controls");
  const [search, state, judge] = ["items-search", "items-state", "items-judge"].map((id) => document.getElementById(id));
  const shown = document.getElementById("items-shown");

  const filter = () => {
    const wanted = search.value.trim().toLowerCase();
    let count = 0;
    for (const row of rows) {
      const fits = (!state.value || row.dataset.state === state.value)
        && (!judge.value || row.dataset.judge === judge.value)
        && (!wanted || row.textContent.toLowerCase().includes(wanted));
      row.hidden = !fits;
      count += fits ? 1 : 0;
    }
    shown.textContent = `${count} of ${rows.length} rows shown`;
  };

  const sort = (heading, key) => {
    const down = heading.getAttribute("aria-sort") === "ascending";
    for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = (row) => row.dataset[key] ?? "";
    const compare = (one, two) => value(one).localeCompare(value(two), "en", { numeric: true });
    const ordered = [...rows].sort((one, two) => (down ? compare(two, one) : compare(one, two)));
    table.append(...ordered);
  };

  for (const heading of table.querySelectorAll("th[data-key]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = heading.textContent;
    button.addEventListener("click", () => sort(heading, heading.dataset.key));
    heading.replaceChildren(button);
  }
  for (const control of [search, state, judge]) {
    control.addEventListener("input", filter);
    control.addEventListener("change", filter);
  }
  controls.hidden = false;
  filter();
})();
