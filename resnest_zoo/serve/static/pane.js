// One model's answer over one picture or film: what is drawn, what is pointed at, and what can be taken away.

import { announce, byId, make, readableSeconds, save } from "./dom.js";
import { Layers, draw, labelOf } from "./drawing.js";
import { Film } from "./film.js";
import { cocoDocument, layerOf, passing, summary, thingsOf } from "./result.js";
import { frameAt } from "./work.js";

/** @typedef {import("./result.js").Result} Result */
/** @typedef {import("./result.js").Thing} Thing */
/** @typedef {import("./work.js").Item} Item */
/** @typedef {import("./work.js").Outcome} Outcome */
/** @typedef {{layer: import("./result.js").Layer | null, opacity: number, labels: boolean}} Look */

const MOST_ENLARGED = 4;
const LEAST_HEIGHT = 280;
const LONGEST_SIDE = 8192; // pixels of an annotated picture to take away; browsers refuse much larger canvases
const LONGEST_JSON = 200_000; // characters that are shown

export class Pane {
  /**
   * @param {{onActive: (pane: Pane, id: number | null) => void, onFrame: () => void,
   *   onMove: (pane: Pane, seconds: number, plays: boolean) => void, onAgain: (pane: Pane) => void}} listeners
   */
  constructor(listeners) {
    this.listeners = listeners;
    const root = byId("pane-template").content.firstElementChild.cloneNode(true);
    const part = (/** @type {string} */ name) => root.querySelector(`[data-part="${name}"]`);
    this.root = root;
    this.title = part("title");
    this.time = part("time");
    this.stage = part("stage");
    this.transport = part("transport");
    this.media = part("media");
    this.canvas = part("canvas");
    this.tip = part("tip");
    this.note = part("note");
    this.error = part("error");
    this.json = part("json");
    this.again = part("again");
    this.buttons = { png: part("png"), json: part("save-json"), coco: part("save-coco") };
    this.buttons.png.onclick = () => this.savePicture();
    this.buttons.json.onclick = () => this.saveText(this.outcome?.answer, "json");
    this.buttons.coco.onclick = () => this.saveText(this.coco(), "coco.json");
    this.again.onclick = () => listeners.onAgain(this);
    this.json.parentElement.ontoggle = () => this.showJson();
    this.stage.addEventListener("pointermove", (/** @type {PointerEvent} */ event) => this.point(event));
    this.stage.addEventListener("pointerdown", (/** @type {PointerEvent} */ event) => this.point(event));
    this.stage.addEventListener("pointerleave", () => this.leave());
    new ResizeObserver(() => this.paint()).observe(this.stage.parentElement);
    /** @type {Item | null} */
    this.item = null;
    /** @type {Film | null} */
    this.film = null;
    /** @type {Outcome | undefined} */
    this.outcome = undefined;
    /** @type {any} the answer whose JSON is shown */
    this.shown = null;
    /** @type {Layers | null} */
    this.layers = null;
    /** @type {Look} */
    this.look = { layer: null, opacity: 0.5, labels: true };
    /** @type {import("./result.js").Filter} */
    this.filter = { threshold: 0.5, hidden: new Set() };
    /** @type {number | null} */
    this.active = null;
    /** @type {string} */
    this.model = "";
  }

  /** What was found in what is on the screen now: of a film in its present frame. */
  get result() {
    if (!this.outcome) return null;
    return this.film ? frameAt(this.outcome, this.film.seconds) : this.outcome.result;
  }

  get layer() {
    return this.result ? layerOf(this.result, this.look.layer) : "boxes";
  }

  /** @returns {Thing[]} what is drawn and listed */
  get things() {
    const { result } = this;
    if (!result) return [];
    // The slider is about scores; segments of a map have none.
    return passing(thingsOf(result, this.layer), this.filter);
  }

  /**
   * @param {Item} item
   * @param {string} model
   * @param {Look} look
   * @param {import("./result.js").Filter} filter
   */
  show(item, model, look, filter) {
    if (item !== this.item) this.setMedia(item);
    this.item = item;
    this.model = model;
    this.outcome = item.outcomes.get(model);
    this.look = look;
    this.filter = filter;
    this.title.textContent = model;
    this.showState();
    this.paint();
  }

  /** @private */
  setMedia(/** @type {Item} */ item) {
    this.stage.classList.remove("is-blank");
    this.film = item.kind === "film" ? this.openFilm(item) : null;
    this.media.replaceChildren(this.film ? this.film.video : this.picture(item));
    this.transport.replaceChildren(...(this.film ? [this.film.controls] : []));
    this.layers = null;
    this.active = null;
    this.tip.hidden = true;
  }

  /** @private */
  picture(/** @type {Item} */ item) {
    const image = make("img", { src: item.url, alt: "", draggable: "false" });
    image.onload = () => this.paint();
    image.onerror = () => {
      image.hidden = true; // TIFF and others: the server reads what browsers do not show
      this.paint();
    };
    return image;
  }

  /** @private */
  openFilm(/** @type {Item} */ item) {
    return new Film(item.url, item.name, {
      onFrame: () => {
        this.paint();
        this.listeners.onFrame();
      },
      onMove: (seconds, plays) => this.listeners.onMove(this, seconds, plays),
    });
  }

  /** @private */
  showState() {
    const { outcome } = this;
    const isDone = outcome?.status === "done";
    this.error.parentElement.hidden = outcome?.status !== "failed";
    this.error.textContent = outcome?.status === "failed" ? outcome.note : "";
    this.note.hidden = !outcome || isDone || outcome.status === "failed";
    this.note.lastElementChild.textContent = outcome ? `${outcome.note} …` : "";
    for (const button of Object.values(this.buttons)) button.disabled = !isDone;
    this.time.textContent = isDone && outcome ? this.timing(outcome) : "";
    this.root.setAttribute("aria-busy", String(!isDone && outcome?.status !== "failed"));
    if (this.shown !== outcome?.answer) this.showJson();
  }

  /** @private */
  timing(/** @type {Outcome} */ outcome) {
    const trip = readableSeconds(outcome.roundTrip / 1000);
    if (this.item?.kind === "film")
      return `${outcome.frames.length} frame${outcome.frames.length === 1 ? "" : "s"} in ${trip}`;
    const { seconds } = outcome.answer;
    return `model ${readableSeconds(seconds.model)}, server ${readableSeconds(seconds.total)}, round trip ${trip}`;
  }

  /** Lay out the picture and draw what is shown over it. */
  paint() {
    const { item, result } = this;
    if (!item) return;
    const [media] = this.media.children;
    this.stage.classList.toggle("is-blank", media.hidden);
    this.film?.reach(this.outcome?.frames.at(-1)?.seconds ?? 0);
    const isSeen = Boolean(media.naturalWidth || media.videoWidth || result);
    this.stage.parentElement.hidden = !isSeen && this.outcome?.status === "failed";
    const width = media.naturalWidth || media.videoWidth || result?.width || 640;
    const height = media.naturalHeight || media.videoHeight || result?.height || 480;
    const room = this.stage.parentElement.clientWidth;
    const tallest = Math.max(LEAST_HEIGHT, innerHeight - 360); // so that all of it is seen at once
    const scale = Math.min(room / width, tallest / height, MOST_ENLARGED);
    this.stage.style.width = `${Math.round(width * scale)}px`;
    this.stage.style.height = `${Math.round(height * scale)}px`;
    const ratio = Math.min(2, devicePixelRatio);
    const size = [Math.round(width * scale * ratio), Math.round(height * scale * ratio)].map((side) =>
      Math.max(1, side),
    );
    const { canvas } = this;
    if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, ...size);
    const noun = this.layer === "panoptic" ? "segment" : "object";
    canvas.setAttribute(
      "aria-label",
      `${item.name}: ${result ? summary(this.things, noun) : "no result yet"}`,
    );
    if (!result) return;
    if (this.layers?.result !== result || this.layers.width !== size[0] || this.layers.height !== size[1]) {
      this.layers = new Layers(result, size[0], size[1]);
    }
    const { layers } = this;
    if (this.layer === "panoptic" && !layers.ids) {
      layers.readMap().then(() => layers === this.layers && this.paint());
      return;
    }
    draw(context, layers, this.things, {
      ...this.look,
      layer: this.layer,
      active: this.active,
      scale: ratio,
    });
  }

  /** Point at a thing, from the list or by the pointer. */
  setActive(/** @type {number | null} */ id) {
    if (id === this.active) return;
    this.active = id;
    this.paint();
  }

  /** @private */
  point(/** @type {PointerEvent} */ event) {
    if (!this.layers) return;
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const ratio = this.canvas.width / box.width;
    const thing = this.layers.at(this.things, this.layer, x * ratio, y * ratio);
    this.tip.hidden = !thing;
    if (thing) {
      this.tip.textContent =
        thing.share === null ? labelOf(thing) : `${thing.name}, ${percent(thing.share)} of the picture`;
      const left = Math.min(x + 14, box.width - this.tip.offsetWidth);
      this.tip.style.transform = `translate(${Math.max(0, left)}px, ${Math.max(0, y - this.tip.offsetHeight - 8)}px)`;
    }
    this.listeners.onActive(this, thing?.id ?? null);
  }

  /** @private */
  leave() {
    this.tip.hidden = true;
    this.listeners.onActive(this, null);
  }

  /** @private */
  showJson() {
    const details = this.json.parentElement;
    const answer = this.outcome?.answer ?? null;
    this.shown = answer;
    details.hidden = !answer;
    if (!details.open || !answer) return;
    const text = JSON.stringify(answer, null, 1);
    const cut = text.length > LONGEST_JSON;
    this.json.textContent = cut ? `${text.slice(0, LONGEST_JSON)}\n… the rest is in the download` : text;
  }

  /** @private */
  coco() {
    const { item, outcome } = this;
    if (!item || !outcome) return null;
    if (item.kind === "picture" && outcome.result)
      return cocoDocument([{ name: item.name, result: outcome.result }], this.filter);
    const frames = outcome.frames.map(({ seconds }, index) => ({
      name: `${stemOf(item.name)}_${String(index).padStart(6, "0")}.jpg`,
      result: /** @type {Result} */ (frameAt(outcome, seconds)),
    }));
    return cocoDocument(frames, this.filter);
  }

  /** @private */
  saveText(/** @type {any} */ content, /** @type {string} */ ending) {
    const text = JSON.stringify(content);
    save(
      new Blob([text], { type: "application/json" }),
      `${stemOf(this.item?.name ?? "")}.${this.model}.${ending}`,
    );
  }

  /** The picture in its own size, within reason, with what is shown drawn in. */
  async savePicture() {
    const { item, result } = this;
    if (!item || !result) return;
    const [media] = this.media.children;
    const scale = Math.min(1, LONGEST_SIDE / Math.max(result.width, result.height));
    if (scale < 1) announce(`The picture is made smaller, to ${LONGEST_SIDE} pixels on its longer side`);
    const canvas = new OffscreenCanvas(Math.round(result.width * scale), Math.round(result.height * scale));
    const context = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d"));
    if (!media.hidden) context.drawImage(media, 0, 0, canvas.width, canvas.height);
    const layers = new Layers(result, canvas.width, canvas.height);
    if (this.layer === "panoptic") await layers.readMap();
    const line = Math.max(1, Math.max(canvas.width, canvas.height) / 1000);
    draw(context, layers, this.things, { ...this.look, layer: this.layer, active: null, scale: line });
    save(await canvas.convertToBlob({ type: "image/png" }), `${stemOf(item.name)}.${this.model}.png`);
  }
}

export function percent(/** @type {number} */ share) {
  return share < 0.01 ? "under 1 %" : `${Math.round(100 * share)} %`;
}

function stemOf(/** @type {string} */ name) {
  return name.replace(/\.[^.]*$/, "") || "picture";
}
