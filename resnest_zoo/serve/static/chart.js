// AP against parameters, each model a dot that the pointer and the arrow keys find.

import { byId, make, makeSvg, readableSeconds } from "./dom.js";

/** @typedef {import("./api.js").Model} Model */
/** @typedef {"box_ap" | "mask_ap"} Metric */

const HEIGHT = 320;
const EDGE = { left: 48, right: 26, top: 14, bottom: 44 };
const NAMES = { box_ap: "box AP", mask_ap: "mask AP" };
// Shapes beside colours, for those who do not tell the colours apart.
const KINDS = [
  {
    name: "ResNeSt",
    test: (/** @type {Model} */ model) => !isOther(model) && /resnest/i.test(kindOf(model)),
    shape: circle,
  },
  {
    name: "ResNet",
    test: (/** @type {Model} */ model) => !isOther(model) && !/resnest/i.test(kindOf(model)),
    shape: square,
  },
  { name: "mmdetection's", test: isOther, shape: diamond },
];

export class Chart {
  constructor() {
    this.drawn = "";
    /** @type {[Model[], Metric]} */
    this.last = [[], "box_ap"];
    new ResizeObserver(() => this.show(...this.last)).observe(byId("chart"));
  }

  show(/** @type {Model[]} */ models, /** @type {Metric} */ metric) {
    this.last = [models, metric];
    const width = Math.floor(byId("chart").clientWidth);
    if (width === 0) return;
    const shown = models
      .filter((model) => isOnCoco(model) && model.parameters !== null && model.reported[metric] !== null)
      .sort((a, b) => Number(a.parameters) - Number(b.parameters));
    const key = JSON.stringify([metric, width, shown.map(({ name, seconds }) => [name, seconds])]);
    if (key === this.drawn) return;
    this.drawn = key;
    byId("chart").replaceChildren(
      shown.length
        ? this.draw(shown, metric, width)
        : make("p", { class: "soft" }, "None of these models has a reported AP."),
    );
    byId("chart-title").textContent = `Reported ${NAMES[metric]} against parameters`;
    const used = KINDS.filter(({ test }) => shown.some(test));
    byId("legend").replaceChildren(
      ...used.map((kind) =>
        make(
          "li",
          {},
          makeSvg(
            "svg",
            { viewBox: "-8 -8 16 16", width: 14, height: 14, "aria-hidden": "true" },
            kind.shape(0, 0, `kind-${KINDS.indexOf(kind)}`),
          ),
          kind.name,
        ),
      ),
    );
  }

  /** @private */
  draw(/** @type {Model[]} */ models, /** @type {Metric} */ metric, /** @type {number} */ width) {
    const across = axis(
      models.map((model) => Number(model.parameters) / 1e6),
      width < 500 ? 40 : 20,
      [EDGE.left, width - EDGE.right],
    );
    const up = axis(
      models.map((model) => Number(model.reported[metric])),
      2,
      [HEIGHT - EDGE.bottom, EDGE.top],
    );
    const grid = [
      ...up.ticks.flatMap((value) => [
        makeSvg("line", {
          class: "grid",
          x1: EDGE.left,
          x2: width - EDGE.right,
          y1: up.place(value),
          y2: up.place(value),
        }),
        makeSvg("text", { x: EDGE.left - 8, y: up.place(value) + 4, "text-anchor": "end" }, String(value)),
      ]),
      ...across.ticks.map((value) =>
        makeSvg(
          "text",
          { x: across.place(value), y: HEIGHT - EDGE.bottom + 18, "text-anchor": "middle" },
          `${value} M`,
        ),
      ),
      makeSvg(
        "text",
        { x: (EDGE.left + width - EDGE.right) / 2, y: HEIGHT - 6, "text-anchor": "middle" },
        "parameters",
      ),
    ];
    const dots = models.map((model) => {
      const kind = KINDS.findIndex(({ test }) => test(model));
      const mark = KINDS[kind].shape(
        across.place(Number(model.parameters) / 1e6),
        up.place(Number(model.reported[metric])),
        `kind-${kind}`,
      );
      const text = describe(model, metric);
      return makeSvg(
        "g",
        {
          class: "mark",
          role: "listitem",
          tabindex: "-1",
          "aria-label": text,
          onpointerenter: () => say(text),
          onfocus: () => say(text),
        },
        mark,
      );
    });
    dots[0].setAttribute("tabindex", "0");
    const list = makeSvg(
      "g",
      { role: "list", "aria-label": `${models.length} models, by parameters` },
      ...dots,
    );
    list.addEventListener("keydown", (/** @type {any} */ event) => move(event, dots));
    const frame = makeSvg("g", { "aria-hidden": "true" }, ...grid);
    return makeSvg(
      "svg",
      { viewBox: `0 0 ${width} ${HEIGHT}`, role: "group", "aria-labelledby": "chart-title" },
      frame,
      list,
    );
  }
}

function move(/** @type {KeyboardEvent} */ event, /** @type {any[]} */ dots) {
  const at = dots.indexOf(/** @type {Element} */ (event.target));
  const last = dots.length - 1;
  const next = {
    ArrowRight: Math.min(last, at + 1),
    ArrowUp: Math.min(last, at + 1),
    ArrowLeft: Math.max(0, at - 1),
    ArrowDown: Math.max(0, at - 1),
    Home: 0,
    End: last,
  }[event.key];
  if (next === undefined) return;
  event.preventDefault();
  dots[at].setAttribute("tabindex", "-1");
  dots[next].setAttribute("tabindex", "0");
  dots[next].focus();
}

function say(/** @type {string} */ text) {
  byId("chart-text").textContent = text;
}

function describe(/** @type {Model} */ model, /** @type {Metric} */ metric) {
  const speed = model.seconds === null ? "" : `, ${readableSeconds(model.seconds)} a picture`;
  return `${model.name}: ${NAMES[metric]} ${Number(model.reported[metric]).toFixed(2)}, ${(Number(model.parameters) / 1e6).toFixed(1)} M parameters${speed}`;
}

/** Round limits about the values, and where a value lies between them. */
function axis(
  /** @type {number[]} */ values,
  /** @type {number} */ step,
  /** @type {[number, number]} */ [from, to],
) {
  const low = Math.floor(Math.min(...values) / step) * step;
  const high = Math.max(low + step, Math.ceil(Math.max(...values) / step) * step);
  const ticks = Array.from({ length: Math.round((high - low) / step) + 1 }, (_, index) => low + index * step);
  return {
    ticks,
    place: (/** @type {number} */ value) => from + ((value - low) / (high - low)) * (to - from),
  };
}

function kindOf(/** @type {Model} */ model) {
  return model.backbone ?? model.name;
}

/** Whether its numbers are those of COCO, as most are. */
export function isOnCoco(/** @type {Model} */ model) {
  return (model.dataset ?? "COCO") === "COCO";
}

function isOther(/** @type {Model} */ model) {
  return model.name.endsWith("_mmdet");
}

function circle(/** @type {number} */ x, /** @type {number} */ y, /** @type {string} */ kind) {
  return makeSvg("circle", { cx: x, cy: y, r: 6, class: kind });
}

function square(/** @type {number} */ x, /** @type {number} */ y, /** @type {string} */ kind) {
  return makeSvg("rect", { x: x - 5.5, y: y - 5.5, width: 11, height: 11, class: kind });
}

function diamond(/** @type {number} */ x, /** @type {number} */ y, /** @type {string} */ kind) {
  return makeSvg("path", { d: `M${x} ${y - 7.5}l7.5 7.5-7.5 7.5-7.5-7.5z`, class: kind });
}
