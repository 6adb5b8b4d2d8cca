"use strict";
// Tables are whole without this script: it adds a button to every column's heading that sorts by it.
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
