// Tables that are sorted by a click on a heading and filtered by words, without any library.
// Every table inside an element of class "sortable" becomes one; without scripts it is a plain table.

"use strict";

// What a cell counts as: a number where it is one, "1,052,474" and "43.1 M" too, else its text.
function valueOf(text) {
  const plain = text.trim();
  const number = /^[-+]?[\d,]*\.?\d+( M)?$/.test(plain) ? Number(plain.replace(/,| M/g, "")) : NaN;
  return Number.isNaN(number) ? plain.toLowerCase() : number;
}

// Order of two cells, -1, 0 or 1: numbers before texts, empty cells last whichever way is up.
function compareCells(a, b, direction) {
  const [left, right] = [valueOf(a), valueOf(b)];
  if (left === "" || right === "") return (left === "") - (right === "");
  if (typeof left !== typeof right) return typeof left === "number" ? -direction : direction;
  if (typeof left === "number") return direction * Math.sign(left - right);
  return direction * left.localeCompare(right, "en", { numeric: true });
}

// Whether a row holds every word of a query; "-word" asks for rows without it, "a|b" for either.
function matches(text, query) {
  const row = text.toLowerCase();
  return query
    .toLowerCase()
    .split(/\s+/)
    .filter((word) => word.replace(/[-|]/g, ""))
    .every((word) => {
      const left_out = word.startsWith("-");
      const any = (left_out ? word.slice(1) : word).split("|").some((part) => part && row.includes(part));
      return any !== left_out;
    });
}

function makeSortable(table) {
  const body = table.tBodies[0];
  const headings = [...table.tHead.rows[0].cells];
  const rows = [...body.rows];
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    heading.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const direction = heading.getAttribute("aria-sort") === "descending" ? 1 : -1;
      // The best number first; names from A on.
      const numbers = rows.some((row) => typeof valueOf(row.cells[column].textContent) === "number");
      const first = heading.getAttribute("aria-sort") === "none" ? (numbers ? -1 : 1) : direction;
      headings.forEach((other) => other.setAttribute("aria-sort", "none"));
      heading.setAttribute("aria-sort", first === 1 ? "ascending" : "descending");
      rows.sort((a, b) => compareCells(a.cells[column].textContent, b.cells[column].textContent, first));
      body.append(...rows);
    });
  });
}

function makeFilter(table, place) {
  const label = document.createElement("label");
  const field = document.createElement("input");
  const count = document.createElement("output");
  const rows = [...table.tBodies[0].rows];
  label.className = "filter";
  label.append("Filter ", field, " ", count);
  field.type = "search";
  field.placeholder = "words, -without, this|that";
  const show = () => {
    let shown = 0;
    for (const row of rows) {
      row.hidden = !matches(row.textContent, field.value);
      shown += !row.hidden;
    }
    count.textContent = `${shown} of ${rows.length} rows`;
  };
  field.addEventListener("input", show);
  place.before(label);
  show();
}

function makeTables() {
  for (const place of document.querySelectorAll(".sortable")) {
    for (const table of place.querySelectorAll("table")) {
      makeSortable(table);
      makeFilter(table, place);
    }
  }
}

if (typeof module !== "undefined") {
  module.exports = { compareCells, matches, valueOf, makeTables };
} else if (document.readyState === "loading") {
  document.addEventListener("DOMContentLoaded", makeTables);
} else {
  makeTables();
}
