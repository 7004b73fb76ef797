// All models as a table that sorts, as a chart, and with what it takes to load one.

import { byId, make, readableBytes, readableSeconds } from "./dom.js";
import { Chart, isOnCoco } from "./chart.js";

/** @typedef {import("./api.js").Model} Model */
/**
 * @typedef {object} Column
 * @property {string} title
 * @property {(model: Model) => string | number | null} value  by which is sorted
 * @property {(model: Model) => string} [text]
 * @property {boolean} [number]
 */

const TASKS = { boxes: "boxes", masks: "boxes, masks", panoptic: "boxes, masks, map" };
const STATES = {
  absent: "not loaded",
  downloading: "fetching",
  verifying: "verifying",
  loading: "loading",
  ready: "ready",
  failed: "failed",
};
const STATE_ORDER = Object.keys(STATES);

/** @type {Column[]} */
const COLUMNS = [
  { title: "Name", value: (model) => model.name },
  {
    title: "Finds",
    value: (model) => model.task,
    text: (model) => `${TASKS[model.task]}${isOnCoco(model) ? "" : `; on ${model.dataset}`}`,
  },
  {
    title: "Parameters",
    value: (model) => model.parameters,
    text: (model) => millions(model.parameters),
    number: true,
  },
  metric("Box AP", "box_ap"),
  metric("Mask AP", "mask_ap"),
  metric("PQ", "pq"),
  {
    title: "Time here",
    value: (model) => model.seconds,
    text: (model) => (model.seconds === null ? "" : readableSeconds(model.seconds)),
    number: true,
  },
  {
    title: "File",
    value: (model) => model.bytes,
    text: (model) => (model.bytes ? readableBytes(model.bytes) : ""),
    number: true,
  },
];

export class ModelsView {
  /** @param {(name: string) => Promise<void>} load */
  constructor(load) {
    this.load = load;
    /** @type {Model[]} */
    this.models = [];
    this.sorting = { column: 3, up: false };
    /** @type {Map<string, any>} rows by the model's name */
    this.rows = new Map();
    this.chart = new Chart();
    const [table, find] = [byId("models-table"), byId("find")];
    this.body = table.tBodies[0];
    this.heads = COLUMNS.map((column, index) => {
      const button = make("button", { type: "button", onclick: () => this.sortBy(index) }, column.title);
      return make("th", { scope: "col", class: column.number ? "number" : null }, button);
    });
    const [first, ...others] = this.heads;
    table.tHead.append(
      make("tr", {}, first, make("th", { scope: "col", class: "plain" }, "State"), ...others),
    );
    find.oninput = () => this.arrange();
    for (const radio of document.querySelectorAll('input[name="metric"]'))
      radio.addEventListener("change", () => this.draw());
  }

  show(/** @type {Model[]} */ models) {
    this.models = models;
    if (byId("view-models").hidden) return;
    COLUMNS.forEach((column, index) => {
      const isEmpty = models.every((model) => !cellText(column, model));
      byId("models-table").classList.toggle(`without-${index + 2}`, isEmpty);
    });
    for (const model of models) this.fill(model);
    this.arrange();
    this.draw();
  }

  /** @private */
  draw() {
    const key = /** @type {any} */ (document.querySelector('input[name="metric"]:checked')).value;
    this.chart.show(this.models, key);
  }

  /** @private */
  sortBy(/** @type {number} */ column) {
    const { sorting } = this;
    // Numbers begin with the largest, names with A.
    sorting.up = sorting.column === column ? !sorting.up : !COLUMNS[column].number;
    sorting.column = column;
    this.arrange();
  }

  /** @private */
  arrange() {
    const { column, up } = this.sorting;
    this.heads.forEach((head, index) =>
      head.setAttribute("aria-sort", index !== column ? "none" : up ? "ascending" : "descending"),
    );
    const words = byId("find").value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = this.models.filter((model) =>
      words.every((/** @type {string} */ word) => textOf(model).includes(word)),
    );
    const rows = [...wanted]
      .sort((a, b) => compare(COLUMNS[column].value(a), COLUMNS[column].value(b), up))
      .map((model) => this.rows.get(model.name).root);
    const there = [...this.body.children];
    // Moving rows that stay would take the focus from their buttons.
    if (rows.length !== there.length || rows.some((row, index) => row !== there[index]))
      this.body.replaceChildren(...rows);
    byId("models-count").textContent = `${wanted.length} of ${this.models.length} models`;
  }

  /** @private */
  fill(/** @type {Model} */ model) {
    let row = this.rows.get(model.name);
    if (!row) {
      const cells = COLUMNS.map((column, index) =>
        make(index ? "td" : "th", { scope: index ? null : "row", class: column.number ? "number" : null }),
      );
      row = { cells, state: make("td", { class: "state-cell" }) };
      // The state second, so that it is seen on a phone.
      row.root = make("tr", {}, cells[0], row.state, ...cells.slice(1));
      this.rows.set(model.name, row);
    }
    COLUMNS.forEach((column, index) => {
      const text = cellText(column, model);
      if (row.cells[index].textContent !== text) row.cells[index].textContent = text;
    });
    this.fillState(row.state, model);
  }

  /** @private */
  fillState(/** @type {any} */ cell, /** @type {Model} */ model) {
    const text = progressOf(model);
    if (cell.dataset.state !== model.state) {
      const hadFocus = cell.contains(document.activeElement);
      const canLoad = model.state === "absent" || model.state === "failed";
      const busy = ["downloading", "verifying", "loading"].includes(model.state);
      cell.dataset.state = model.state;
      cell.replaceChildren(
        make("span", { class: `badge is-${model.state}` }),
        ...(busy
          ? [make("progress", { max: 1, "aria-label": `${model.name}, ${STATES[model.state]}` })]
          : []),
        ...(canLoad
          ? [
              make(
                "button",
                {
                  type: "button",
                  class: "small",
                  "aria-label": `Load ${model.name}`,
                  onclick: () => this.start(cell, model.name),
                },
                "Load",
              ),
            ]
          : []),
        make("p", { class: "why", role: "alert" }),
      );
      if (hadFocus && canLoad) cell.querySelector("button").focus();
    }
    cell.firstElementChild.textContent = text;
    const bar = cell.querySelector("progress");
    if (bar && model.done && model.total) bar.value = model.done / model.total;
    else bar?.removeAttribute("value");
    const why = model.state === "failed" ? (model.message ?? "") : "";
    if (why || model.state !== "absent") cell.querySelector(".why").textContent = why;
  }

  /** @private */
  async start(/** @type {any} */ cell, /** @type {string} */ name) {
    try {
      cell.querySelector("button").disabled = true;
      await this.load(name);
    } catch (error) {
      const button = cell.querySelector("button");
      if (button) button.disabled = false;
      cell.querySelector(".why").textContent = /** @type {Error} */ (error).message;
    }
  }
}

function cellText(/** @type {Column} */ column, /** @type {Model} */ model) {
  return column.text ? column.text(model) : String(column.value(model) ?? "");
}

/** @returns {Column} as reported */
function metric(/** @type {string} */ title, /** @type {"box_ap" | "mask_ap" | "pq"} */ key) {
  const text = (/** @type {Model} */ model) => model.reported[key]?.toFixed(2) ?? "";
  // Numbers of another data set are no match for the others.
  const value = (/** @type {Model} */ model) => (isOnCoco(model) ? model.reported[key] : null);
  return { title, value, text, number: true };
}

function millions(/** @type {number | null} */ parameters) {
  return parameters === null ? "" : `${(parameters / 1e6).toFixed(1)} M`;
}

/** "fetching, 12 % of 180 MB" */
export function progressOf(/** @type {Model} */ model) {
  return `${STATES[model.state]}${amount(model)}`;
}

function amount(/** @type {Model} */ model) {
  if (!model.done) return "";
  return model.total
    ? `, ${Math.floor((100 * model.done) / model.total)} % of ${readableBytes(model.total)}`
    : `, ${readableBytes(model.done)}`;
}

function textOf(/** @type {Model} */ model) {
  return [model.name, TASKS[model.task], model.method, model.backbone].join(" ").toLowerCase();
}

/** Rows without a value last, whichever way is sorted. */
function compare(
  /** @type {string | number | null} */ a,
  /** @type {string | number | null} */ b,
  /** @type {boolean} */ up,
) {
  if (a === null || b === null) return Number(a === null) - Number(b === null);
  const order =
    typeof a === "number" && typeof b === "number"
      ? a - b
      : String(a).localeCompare(String(b), "en", { numeric: true });
  return up ? order : -order;
}
