"use strict";
// Pages are whole without this script. It adds to a table a button in every column's heading that sorts by it, and above
// it a list for each column that a reader may choose by; and it opens what is folded around a place that a link names.
const words = (row, column) => row.cells[column].innerText.split(/[,;\n]/).map(word => word.replace(/^\W+|†.*$/gu, "").trim()).filter(Boolean);
function choose(table, body, headings) {
  const chosen = headings.map((heading, column) => ({ heading, column })).filter(({ heading }) => "chosen" in heading.dataset);
  if (!chosen.length) return;
  const line = document.createElement("div");
  line.className = "choices";
  const count = document.createElement("span");
  count.setAttribute("role", "status");
  const lists = chosen.map(({ heading, column }) => {
    const found = new Map();
    for (const row of body.rows) for (const word of new Set(words(row, column))) found.set(word, (found.get(word) ?? 0) + 1);
    const [label, list] = [document.createElement("label"), document.createElement("select")];
    list.add(new Option("all", ""));
    for (const [word, times] of found) list.add(new Option(`${word} (${times})`, word));
    label.append(heading.innerText.trim(), list);
    line.append(label);
    list.addEventListener("change", show);
    return { column, list };
  });
  function show() {
    let shown = 0;
    for (const row of body.rows) {
      row.hidden = lists.some(({ column, list }) => list.value && !words(row, column).includes(list.value));
      shown += !row.hidden;
    }
    count.textContent = `${shown} of ${body.rows.length} lines`;
  }
  line.append(count);
  table.closest(".scroll").before(line);
  show();
}
function unfold() {
  for (let place = document.getElementById(decodeURIComponent(location.hash.slice(1))); place; place = place.parentElement)
    if (place instanceof HTMLDetailsElement) place.open = true;
  document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
}
addEventListener("hashchange", unfold);
if (location.hash) unfold();
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const groups = []; // a row and those that belong under it, in the paper's order
  for (const row of body.rows) row.classList.contains("under") ? groups.at(-1).push(row) : groups.push([row]);
  const headings = [...table.tHead.rows].at(-1).cells;
  const key = (group, column) => {
    const text = group[0].cells[column].innerText.trim();
    if (text === "" || text === "–" || group[0].cells[column].querySelector(".pending")) return null;
    const number = parseFloat(text.replace("−", "-").replaceAll(",", ""));
    return Number.isNaN(number) ? text : number;
  };
  const compare = (a, b) =>
    typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
  choose(table, body, [...headings]);
  for (const [column, heading] of [...headings].entries()) {
    const button = document.createElement("button");
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const next = { none: "ascending", ascending: "descending", descending: "none" }[heading.ariaSort ?? "none"];
      for (const other of headings) other.removeAttribute("aria-sort");
      const sorted = [...groups];
      if (next !== "none") {
        heading.ariaSort = next;
        const sign = next === "ascending" ? 1 : -1;
        sorted.sort((a, b) => {
          const [first, second] = [key(a, column), key(b, column)];
          if (first === null || second === null) return (first === null) - (second === null); // unknown last
          return sign * compare(first, second);
        });
      }
      body.append(...sorted.flat());
    });
  }
}
