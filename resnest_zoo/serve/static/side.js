// Beside the pictures: score, layer, classes, and the list of what was found.

import { byId, make } from "./dom.js";
import { classColour, css } from "./colours.js";
import { layersOf, thingsOf } from "./result.js";
import { percent } from "./pane.js";

/** @typedef {import("./pane.js").Pane} Pane */
/** @typedef {import("./result.js").Thing} Thing */

export class Side {
  /**
   * @param {import("./pane.js").Look} look  changed in place
   * @param {import("./result.js").Filter} filter  changed in place
   * @param {() => void} onChange
   */
  constructor(look, filter, onChange) {
    this.look = look;
    this.filter = filter;
    this.onChange = onChange;
    /** @type {string} what the list of classes was made of */
    this.listed = "";
    const score = byId("score");
    score.oninput = () => {
      filter.threshold = Number(score.value);
      byId("score-out").value = filter.threshold.toFixed(2);
      onChange();
    };
    const opacity = byId("opacity");
    opacity.oninput = () => {
      look.opacity = Number(opacity.value);
      byId("opacity-out").value = `${Math.round(100 * look.opacity)} %`;
      onChange();
    };
    byId("labels").onchange = (/** @type {any} */ event) => {
      look.labels = event.target.checked;
      onChange();
    };
    byId("layers").onchange = (/** @type {any} */ event) => {
      look.layer = event.target.value;
      onChange();
    };
    byId("all-classes").onclick = () => this.hideAll(false);
    byId("no-classes").onclick = () => this.hideAll(true);
  }

  /** Bring the controls in line with what the panes hold. */
  show(/** @type {Pane[]} */ panes) {
    const there = new Set(panes.flatMap((pane) => (pane.result ? layersOf(pane.result) : [])));
    const drawn = new Set(panes.filter((pane) => pane.result).map((pane) => pane.layer));
    for (const radio of byId("layers").querySelectorAll("input")) {
      radio.disabled = !there.has(radio.value);
      radio.checked = drawn.has(radio.value) && (drawn.size === 1 || radio.value === this.look.layer);
    }
    byId("score").disabled = drawn.size === 1 && drawn.has("panoptic");
    byId("opacity").disabled = drawn.size === 1 && drawn.has("boxes");
    this.showClasses(panes);
  }

  /** @private */
  showClasses(/** @type {Pane[]} */ panes) {
    const found = panes.flatMap((pane) => (pane.result ? thingsOf(pane.result, pane.layer) : []));
    const counts = new Map();
    for (const thing of found) {
      const passes = (thing.score ?? 1) >= this.filter.threshold;
      const known = counts.get(thing.name) ?? { colour: thing.colour, count: 0 };
      counts.set(thing.name, { ...known, count: known.count + Number(passes) });
    }
    const rows = [...counts].sort((a, b) => a[0].localeCompare(b[0]));
    const names = JSON.stringify(rows.map(([name]) => name));
    const list = byId("classes");
    if (names !== this.listed) {
      this.listed = names;
      list.replaceChildren(...rows.map(([name, { colour }]) => this.classRow(name, colour)));
    }
    rows.forEach(([name, { count }], index) => {
      const row = list.children[index];
      row.querySelector("input").checked = !this.filter.hidden.has(name);
      row.querySelector(".count").textContent = String(count);
    });
  }

  /** @private */
  classRow(/** @type {string} */ name, /** @type {number} */ colour) {
    const onchange = (/** @type {any} */ event) => {
      if (event.target.checked) this.filter.hidden.delete(name);
      else this.filter.hidden.add(name);
      this.onChange();
    };
    const box = make("input", { type: "checkbox", checked: true, value: name, onchange });
    return make(
      "li",
      {},
      make(
        "label",
        { class: "check" },
        box,
        dot(colour),
        make("span", { class: "name" }, name),
        make("span", { class: "count" }),
      ),
    );
  }

  /** @private */
  hideAll(/** @type {boolean} */ hide) {
    for (const box of byId("classes").querySelectorAll("input")) {
      if (hide) this.filter.hidden.add(box.value);
      else this.filter.hidden.delete(box.value);
    }
    this.onChange();
  }
}

let lists = 0;

/** What one pane shows, as a list that the arrow keys go through. */
export class ThingList {
  /**
   * @param {Pane} pane
   * @param {(pane: Pane, id: number | null) => void} onActive
   */
  constructor(pane, onActive) {
    this.pane = pane;
    this.onActive = onActive;
    this.key = `list${++lists}`;
    this.heading = make("h2");
    this.owner = make("p", { class: "soft" });
    const title = make("div", { id: `${this.key}-heading` }, this.heading, this.owner);
    this.list = make("ul", {
      role: "listbox",
      tabindex: "0",
      class: "things",
      "aria-labelledby": `${this.key}-heading`,
    });
    this.empty = make("p", { class: "soft" });
    this.root = make(
      "section",
      { class: "card", "aria-labelledby": `${this.key}-heading` },
      title,
      this.list,
      this.empty,
    );
    this.list.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => this.press(event));
    this.list.addEventListener("pointerover", (/** @type {any} */ event) =>
      this.hover(event.target.closest("li")),
    );
    this.list.addEventListener("pointerleave", () => onActive(pane, null));
    this.list.addEventListener("focus", () => {
      if (pane.active === null && pane.things.length) onActive(pane, pane.things[0].id);
    });
    this.list.addEventListener("blur", () => onActive(pane, null));
  }

  show(/** @type {boolean} */ named) {
    const { pane } = this;
    const { things } = pane;
    const noun = pane.layer === "panoptic" ? "Segments" : "Objects";
    this.heading.textContent = pane.result ? `${noun} (${things.length})` : noun;
    this.owner.textContent = named ? pane.model : "";
    this.list.replaceChildren(...things.map((thing) => this.option(thing)));
    this.list.hidden = things.length === 0;
    this.empty.hidden = things.length > 0;
    this.empty.textContent = this.reason();
    this.mark();
  }

  /** @private */
  reason() {
    const { pane } = this;
    if (!pane.result)
      return pane.outcome?.status === "failed" ? "Nothing: see the message." : "Not there yet.";
    const all = thingsOf(pane.result, pane.layer).length;
    return all ? `${all} weaker or hidden: lower the score, or show more classes.` : "Nothing was found.";
  }

  /** Show which one is pointed at. */
  mark() {
    const { active } = this.pane;
    for (const option of this.list.children)
      option.setAttribute("aria-selected", String(Number(option.dataset.id) === active));
    const option = active === null ? null : this.list.querySelector(`[data-id="${active}"]`);
    if (!option) {
      this.list.removeAttribute("aria-activedescendant");
      return;
    }
    this.list.setAttribute("aria-activedescendant", option.id);
    // Within the list only: the page stays where it is.
    const { offsetTop, offsetHeight } = option;
    if (offsetTop < this.list.scrollTop) this.list.scrollTop = offsetTop;
    else if (offsetTop + offsetHeight > this.list.scrollTop + this.list.clientHeight)
      this.list.scrollTop = offsetTop + offsetHeight - this.list.clientHeight;
  }

  /** @private */
  option(/** @type {Thing} */ thing) {
    const amount = thing.share === null ? `${Math.round(100 * Number(thing.score))} %` : percent(thing.share);
    return make(
      "li",
      { role: "option", id: `${this.key}-${thing.id}`, "data-id": thing.id, "aria-selected": "false" },
      dot(thing.colour),
      make("span", { class: "name" }, thing.name),
      make("span", { class: "count" }, amount),
    );
  }

  /** @private */
  hover(/** @type {any} */ option) {
    if (option) this.onActive(this.pane, Number(option.dataset.id));
  }

  /** @private */
  press(/** @type {KeyboardEvent} */ event) {
    const { things, active } = this.pane;
    const place = things.findIndex((thing) => thing.id === active);
    const last = things.length - 1;
    const next = {
      ArrowDown: Math.min(last, place + 1),
      ArrowUp: Math.max(0, place - 1),
      Home: 0,
      End: last,
      Escape: -1,
    }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    this.onActive(this.pane, things[next]?.id ?? null);
  }
}

export function dot(/** @type {number} */ colour) {
  const mark = make("span", { class: "dot", "aria-hidden": "true" });
  mark.style.background = css(classColour(colour));
  return mark;
}
