// What the server found in a picture, as the page works with it, and the documents made of it.

import { areaOf } from "./rle.js";

/**
 * @typedef {object} Thing  an object, or a segment of a panoptic map
 * @property {number} id  its place in the list that it is from; of segments the id in the map
 * @property {number} categoryId
 * @property {number} colour  number of the class, from which its colour follows
 * @property {string} name
 * @property {number | null} score  null: of a segment
 * @property {[number, number, number, number] | null} box  x, y, width, height in pixels
 * @property {import("./rle.js").Rle | null} rle
 * @property {number | null} share  of the picture, of a segment
 */
/**
 * @typedef {object} Result
 * @property {number} width
 * @property {number} height
 * @property {Thing[]} objects  the surest first
 * @property {Thing[]} segments  of a panoptic map, the largest first
 * @property {boolean} hasMasks
 * @property {string | null} map  PNG of the segments' ids, base64
 * @property {{id: number, name: string}[]} categories
 * @property {any[]} rows  as the server sent them
 */
/** @typedef {"boxes" | "masks" | "panoptic"} Layer */
/** @typedef {{threshold: number, hidden: Set<string>}} Filter */

/**
 * @param {any} one an entry of `predictions`
 * @param {{id: number, name: string}[]} categories of things
 * @param {{id: number, name: string}[]} stuff
 * @returns {Result}
 */
export function readResult(one, categories, stuff) {
  const places = new Map(categories.map((category, index) => [category.id, { index, name: category.name }]));
  const stuffPlaces = new Map(
    stuff.map((category, index) => [category.id, { index: categories.length + index, name: category.name }]),
  );
  const named = (/** @type {number} */ id, /** @type {typeof places} */ table) =>
    table.get(id) ?? { index: id, name: `class ${id}` };
  const objects = one.predictions.map((/** @type {any} */ row, /** @type {number} */ id) => {
    const place = named(row.category_id, places);
    return {
      id,
      categoryId: row.category_id,
      colour: place.index,
      name: place.name,
      score: row.score,
      box: row.bbox,
      rle: row.segmentation ?? null,
      share: null,
    };
  });
  objects.sort((/** @type {Thing} */ a, /** @type {Thing} */ b) => Number(b.score) - Number(a.score));
  const pixels = one.width * one.height;
  const segments = (one.panoptic?.segments_info ?? []).map((/** @type {any} */ segment) => {
    const place = named(segment.category_id, segment.isthing ? places : stuffPlaces);
    return {
      id: segment.id,
      categoryId: segment.category_id,
      colour: place.index,
      name: place.name,
      score: null,
      box: null,
      rle: null,
      share: segment.area / pixels,
    };
  });
  segments.sort((/** @type {Thing} */ a, /** @type {Thing} */ b) => Number(b.share) - Number(a.share));
  const hasMasks = objects.some((/** @type {Thing} */ thing) => thing.rle);
  return {
    width: one.width,
    height: one.height,
    objects,
    segments,
    hasMasks,
    map: one.panoptic_png ?? null,
    categories,
    rows: one.predictions,
  };
}

/** The layer that is drawn where `wanted` may not be there. */
export function layerOf(/** @type {Result} */ result, /** @type {Layer | null} */ wanted) {
  const there = layersOf(result);
  return wanted && there.includes(wanted) ? wanted : there[there.length - 1];
}

/** @returns {Layer[]} the richest last */
export function layersOf(/** @type {Result} */ result) {
  /** @type {Layer[]} */
  const layers = ["boxes"];
  if (result.hasMasks) layers.push("masks");
  if (result.map) layers.push("panoptic");
  return layers;
}

/** What is listed of a layer before the filter. */
export function thingsOf(/** @type {Result} */ result, /** @type {Layer} */ layer) {
  return layer === "panoptic" ? result.segments : result.objects;
}

/** What passes: sure enough, and of a class that is not hidden. */
export function passing(/** @type {Thing[]} */ things, /** @type {Filter} */ filter) {
  return things.filter((thing) => (thing.score ?? 1) >= filter.threshold && !filter.hidden.has(thing.name));
}

/** "5 objects: 3 ring, 2 star" */
export function summary(/** @type {Thing[]} */ things, noun = "object") {
  if (things.length === 0) return `no ${noun}s`;
  const counts = new Map();
  for (const { name } of things) counts.set(name, (counts.get(name) ?? 0) + 1);
  const parts = [...counts].sort((a, b) => b[1] - a[1]).map(([name, count]) => `${count} ${name}`);
  return `${things.length} ${noun}${things.length === 1 ? "" : "s"}: ${parts.join(", ")}`;
}

/**
 * A data set in COCO's format of what is shown; `score` stands beside.
 * @param {{name: string, result: Result}[]} pictures
 * @param {Filter} filter
 */
export function cocoDocument(pictures, filter) {
  /** @type {any[]} */
  const annotations = [];
  const images = pictures.map(({ name, result }, index) => {
    for (const thing of passing(result.objects, filter)) {
      const [x, y, width, height] = thing.box ?? [0, 0, 0, 0];
      annotations.push({
        id: annotations.length + 1,
        image_id: index + 1,
        category_id: thing.categoryId,
        bbox: thing.box,
        score: thing.score,
        iscrowd: 0,
        area: thing.rle ? areaOf(thing.rle) : width * height,
        segmentation: thing.rle ?? [[x, y, x + width, y, x + width, y + height, x, y + height]],
      });
    }
    return { id: index + 1, file_name: name, width: result.width, height: result.height };
  });
  return { images, annotations, categories: pictures[0]?.result.categories ?? [] };
}
