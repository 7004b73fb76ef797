// Boxes, masks, the panoptic map and labels, drawn on a canvas of any size over the picture.

import { classColour, css, inkOn } from "./colours.js";
import { sampleRle } from "./rle.js";

/** @typedef {import("./result.js").Result} Result */
/** @typedef {import("./result.js").Thing} Thing */
/**
 * @typedef {object} Look
 * @property {import("./result.js").Layer} layer
 * @property {number} opacity of masks and segments, 0 to 1
 * @property {boolean} labels
 * @property {number | null} active  id of the thing that is pointed at
 * @property {number} scale  pixels of the canvas to one of the page
 */
/** @typedef {{x: number, y: number, width: number, height: number, data: Uint8Array, fill: OffscreenCanvas, edge: OffscreenCanvas}} Tile */

const FONT = "system-ui, sans-serif";

/** Masks and the map of one result at one size; made when they are first drawn. */
export class Layers {
  /**
   * @param {Result} result
   * @param {number} width of the canvas
   * @param {number} height
   */
  constructor(result, width, height) {
    this.result = result;
    this.width = width;
    this.height = height;
    /** @type {Map<number, Tile>} */
    this.tiles = new Map();
    /** @type {Int32Array | null} segments' ids, row by row */
    this.ids = null;
  }

  /** The mask of an object; made once. */
  tile(/** @type {Thing} */ thing) {
    let tile = this.tiles.get(thing.id);
    if (!tile && thing.rle) {
      const patch = sampleRle(thing.rle, this.width, this.height);
      tile = { ...patch, ...paintTile(patch, classColour(thing.colour)) };
      this.tiles.set(thing.id, tile);
    }
    return tile;
  }

  /** Read the panoptic map, without which nothing of it is drawn. */
  async readMap() {
    if (this.ids || !this.result.map) return;
    const bytes = Uint8Array.from(atob(this.result.map), (letter) => letter.charCodeAt(0));
    // Ids are numbers, no colours: nothing may be adjusted.
    const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/png" }), {
      colorSpaceConversion: "none",
      premultiplyAlpha: "none",
    });
    const canvas = new OffscreenCanvas(this.width, this.height);
    const context = /** @type {OffscreenCanvasRenderingContext2D} */ (
      canvas.getContext("2d", { willReadFrequently: true })
    );
    context.imageSmoothingEnabled = false;
    context.drawImage(bitmap, 0, 0, this.width, this.height);
    bitmap.close();
    const { data } = context.getImageData(0, 0, this.width, this.height);
    const ids = new Int32Array(this.width * this.height);
    for (let i = 0; i < ids.length; i++)
      ids[i] = data[4 * i] + 256 * data[4 * i + 1] + 65536 * data[4 * i + 2];
    this.ids = ids;
  }

  /**
   * What is at a place of the canvas; of several things the smallest.
   * @param {Thing[]} things
   * @param {import("./result.js").Layer} layer
   * @param {number} x
   * @param {number} y
   * @returns {Thing | null}
   */
  at(things, layer, x, y) {
    if (layer === "panoptic") {
      const id = this.ids?.[Math.floor(y) * this.width + Math.floor(x)];
      return things.find((thing) => thing.id === id) ?? null;
    }
    const hits = things.filter((thing) => this.covers(thing, layer, x, y));
    return hits.sort((a, b) => areaOfBox(a) - areaOfBox(b))[0] ?? null;
  }

  /** @private */
  covers(
    /** @type {Thing} */ thing,
    /** @type {string} */ layer,
    /** @type {number} */ x,
    /** @type {number} */ y,
  ) {
    const tile = layer === "masks" && this.tile(thing);
    if (tile) {
      const column = Math.floor(x) - tile.x;
      const row = Math.floor(y) - tile.y;
      const inside = column >= 0 && row >= 0 && column < tile.width && row < tile.height;
      return inside && tile.data[row * tile.width + column] === 1;
    }
    const [left, top, width, height] = boxOn(this, thing);
    return x >= left && y >= top && x <= left + width && y <= top + height;
  }
}

/**
 * Draw what passes the filter.
 * @param {CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D} context
 * @param {Layers} layers
 * @param {Thing[]} things
 * @param {Look} look
 */
export function draw(context, layers, things, look) {
  if (look.layer === "panoptic") {
    drawMap(context, layers, things, look);
  } else {
    // The surest last, on top of the others.
    for (const thing of [...things].reverse()) drawThing(context, layers, thing, look);
  }
  const active = things.find((thing) => thing.id === look.active);
  if (active && look.layer !== "panoptic") drawThing(context, layers, active, look);
  if (look.labels) drawLabels(context, layers, things, look);
  else if (active) drawLabels(context, layers, [active], look);
}

function drawThing(
  /** @type {any} */ context,
  /** @type {Layers} */ layers,
  /** @type {Thing} */ thing,
  /** @type {Look} */ look,
) {
  const colour = classColour(thing.colour);
  const isActive = thing.id === look.active;
  const tile = look.layer === "masks" && layers.tile(thing);
  if (tile && tile.width && tile.height) {
    context.globalAlpha = isActive ? Math.min(1, look.opacity + 0.25) : look.opacity;
    context.drawImage(tile.fill, tile.x, tile.y);
    context.globalAlpha = 1;
    // As wide on a fine screen, and in a large picture to take away, as elsewhere.
    const wide = Math.min(4, Math.ceil(look.scale));
    for (let i = 0; i < wide * wide; i++)
      context.drawImage(tile.edge, tile.x + (i % wide), tile.y + Math.floor(i / wide));
  }
  if (look.layer === "masks" && tile && !isActive) return;
  const line = (isActive ? 3 : 2) * look.scale;
  const [x, y, width, height] = boxOn(layers, thing);
  context.lineJoin = "round";
  context.strokeStyle = "rgb(0 0 0 / 0.55)";
  context.lineWidth = line + 2 * look.scale;
  context.strokeRect(x, y, width, height);
  context.strokeStyle = isActive ? "#fff" : css(colour);
  context.lineWidth = line;
  context.strokeRect(x, y, width, height);
}

function drawMap(
  /** @type {any} */ context,
  /** @type {Layers} */ layers,
  /** @type {Thing[]} */ things,
  /** @type {Look} */ look,
) {
  const { ids, width, height } = layers;
  if (!ids) return;
  const image = new ImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const edge = pixel([0, 0, 0], 0.9);
  const paints = new Map(
    things.map((thing) => {
      const alpha = thing.id === look.active ? Math.min(1, look.opacity + 0.25) : look.opacity;
      return [thing.id, pixel(classColour(thing.colour), alpha)];
    }),
  );
  for (let i = 0, last = -1, paint = /** @type {number | undefined} */ (undefined); i < ids.length; i++) {
    if (ids[i] !== last) paint = paints.get((last = ids[i]));
    if (paint === undefined) continue;
    const isEdge = (i % width && ids[i] !== ids[i - 1]) || (i >= width && ids[i] !== ids[i - width]);
    pixels[i] = isEdge ? edge : paint;
  }
  const canvas = new OffscreenCanvas(width, height);
  /** @type {any} */ (canvas.getContext("2d")).putImageData(image, 0, 0);
  context.drawImage(canvas, 0, 0);
}

/** Names and scores; where two would cover each other the surer one stays. */
function drawLabels(
  /** @type {any} */ context,
  /** @type {Layers} */ layers,
  /** @type {Thing[]} */ things,
  /** @type {Look} */ look,
) {
  const size = Math.round(12 * look.scale);
  const pad = Math.round(4 * look.scale);
  const high = size + pad;
  context.font = `600 ${size}px ${FONT}`;
  context.textBaseline = "middle";
  /** @type {number[][]} */
  const taken = [];
  const first = (/** @type {Thing} */ thing) => (thing.id === look.active ? 0 : 1);
  const anchors = look.layer === "panoptic" ? centresOf(layers, things) : null;
  for (const thing of [...things].sort((a, b) => first(a) - first(b))) {
    const text = labelOf(thing);
    const wide = context.measureText(text).width + 2 * pad;
    const spots = anchors
      ? centred(anchors.get(thing.id), wide, high)
      : around(boxOn(layers, thing), wide, high, look.scale);
    const spot = spots
      .map(([x, y]) => [
        Math.max(0, Math.min(layers.width - wide, x)),
        Math.max(0, Math.min(layers.height - high, y)),
      ])
      .find(([x, y]) => !taken.some(([a, b, c, d]) => x < c && a < x + wide && y < d && b < y + high));
    if (!spot) continue;
    const [x, y] = spot;
    taken.push([x, y, x + wide, y + high]);
    const colour = classColour(thing.colour);
    context.fillStyle = css(colour);
    context.beginPath();
    context.roundRect(x, y, wide, high, 3 * look.scale);
    context.fill();
    context.fillStyle = inkOn(colour);
    context.fillText(text, x + pad, y + high / 2 + look.scale / 2);
  }
}

/** "ring 98%"; of a segment its share of the picture. */
export function labelOf(/** @type {Thing} */ thing) {
  return thing.score === null ? thing.name : `${thing.name} ${Math.round(100 * thing.score)}%`;
}

function around(
  /** @type {number[]} */ [x, y, width, height],
  /** @type {number} */ wide,
  /** @type {number} */ high,
  /** @type {number} */ scale,
) {
  const left = x - 2 * scale;
  return [
    [left, y - high - scale],
    [left, y + height + scale],
    [left, y],
    [x + width - wide, y - high - scale],
  ];
}

function centred(
  /** @type {[number, number] | undefined} */ centre,
  /** @type {number} */ wide,
  /** @type {number} */ high,
) {
  return centre ? [[centre[0] - wide / 2, centre[1] - high / 2]] : [];
}

/** A pixel in the middle of each segment, in the order of its rows. */
function centresOf(/** @type {Layers} */ layers, /** @type {Thing[]} */ things) {
  /** @type {Map<number, [number, number]>} */
  const centres = new Map();
  if (!layers.ids) return centres;
  const counts = new Map(things.map(({ id }) => [id, { all: 0, seen: 0 }]));
  for (const id of layers.ids) {
    const count = counts.get(id);
    if (count) count.all += 1;
  }
  layers.ids.forEach((id, i) => {
    const count = counts.get(id);
    if (!count || ++count.seen !== Math.ceil(count.all / 2)) return;
    // The middle of the run of pixels in this row.
    const row = Math.floor(i / layers.width) * layers.width;
    let from = i;
    let to = i;
    while (from > row && layers.ids?.[from - 1] === id) from--;
    while (to + 1 < row + layers.width && layers.ids?.[to + 1] === id) to++;
    centres.set(id, [(from + to) / 2 - row, row / layers.width]);
  });
  return centres;
}

function paintTile(
  /** @type {import("./rle.js").Patch} */ patch,
  /** @type {import("./colours.js").Colour} */ colour,
) {
  const { width, height, data } = patch;
  const paint = (/** @type {(i: number) => boolean} */ wanted, /** @type {number} */ value) => {
    const canvas = new OffscreenCanvas(Math.max(1, width), Math.max(1, height));
    const image = new ImageData(canvas.width, canvas.height);
    const pixels = new Uint32Array(image.data.buffer);
    for (let i = 0; i < data.length; i++) if (data[i] && wanted(i)) pixels[i] = value;
    /** @type {any} */ (canvas.getContext("2d")).putImageData(image, 0, 0);
    return canvas;
  };
  const isEdge = (/** @type {number} */ i) => {
    const column = i % width;
    return (
      column === 0 ||
      column === width - 1 ||
      i < width ||
      i >= data.length - width ||
      !data[i - 1] ||
      !data[i + 1] ||
      !data[i - width] ||
      !data[i + width]
    );
  };
  const value = pixel(colour, 1);
  return { fill: paint((i) => !isEdge(i), value), edge: paint(isEdge, value) };
}

/** A colour as one number of a canvas' pixels, red in the lowest byte. */
function pixel(/** @type {number[]} */ [red, green, blue], /** @type {number} */ alpha) {
  return ((Math.round(255 * alpha) << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

function boxOn(/** @type {Layers} */ layers, /** @type {Thing} */ thing) {
  const [x, y, width, height] = thing.box ?? [0, 0, 0, 0];
  const [across, down] = [layers.width / layers.result.width, layers.height / layers.result.height];
  return [x * across, y * down, width * across, height * down];
}

function areaOfBox(/** @type {Thing} */ thing) {
  return thing.box ? thing.box[2] * thing.box[3] : Infinity;
}
