// COCO's compressed run lengths, as pycocotools writes them: runs of 0 and 1 in turn, down the columns.

/** @typedef {{size: [number, number], counts: string}} Rle  size: height, width */
/** @typedef {{x: number, y: number, width: number, height: number, data: Uint8Array}} Patch  data: 0 or 1, row by row */

/**
 * The run lengths of a compressed string. Each number has 5 bits a character, the lowest first, and from the
 * fourth on is the difference from the one two before it.
 * @param {string} text
 * @returns {number[]} pixels of each run, the first of zeros
 */
export function readCounts(text) {
  const counts = [];
  let at = 0;
  while (at < text.length) {
    let value = 0;
    let shift = 0;
    let more = true;
    while (more) {
      if (at >= text.length) throw new RangeError("run lengths end in the middle of a number");
      const bits = text.charCodeAt(at++) - 48;
      if (bits < 0 || bits > 63) throw new RangeError(`run lengths hold the character ${text[at - 1]}`);
      value |= (bits & 31) << shift;
      more = (bits & 32) !== 0;
      shift += 5;
      if (!more && bits & 16 && shift < 32) value |= -1 << shift;
    }
    if (counts.length > 2) value += counts[counts.length - 2];
    counts.push(value);
  }
  return counts;
}

/**
 * @param {Rle} rle
 * @returns {Uint8Array} 0 or 1 for each pixel, row by row
 */
export function decodeRle(rle) {
  const [height, width] = rle.size;
  const mask = new Uint8Array(height * width);
  let at = 0;
  readCounts(rle.counts).forEach((run, index) => {
    if (index % 2)
      for (let i = at; i < at + run; i++) mask[(i % height) * width + Math.floor(i / height)] = 1;
    at += run;
  });
  return mask;
}

/**
 * @param {Rle} rle
 * @returns {number} pixels of the mask
 */
export function areaOf(rle) {
  return readCounts(rle.counts).reduce((sum, run, index) => (index % 2 ? sum + run : sum), 0);
}

/**
 * The mask as it is seen at another size, only where there is some of it: a picture of 20,000 pixels is never
 * unpacked. Of each pixel of the new size it takes the pixel of the mask under its centre.
 * @param {Rle} rle
 * @param {number} width of the whole picture at the new size
 * @param {number} height
 * @returns {Patch}
 */
export function sampleRle(rle, width, height) {
  const [rows, columns] = rle.size;
  const runs = onRuns(readCounts(rle.counts));
  const bounds = boundsOf(runs, rows);
  const x = clamp(Math.floor((bounds.left * width) / columns), 0, width);
  const y = clamp(Math.floor((bounds.top * height) / rows), 0, height);
  const patch = {
    x,
    y,
    width: clamp(Math.ceil((bounds.right * width) / columns), x, width) - x,
    height: clamp(Math.ceil((bounds.bottom * height) / rows), y, height) - y,
  };
  const data = new Uint8Array(patch.width * patch.height);
  let run = 0;
  for (let column = 0; column < patch.width; column++) {
    const start = Math.min(columns - 1, Math.floor(((x + column + 0.5) * columns) / width)) * rows;
    while (run < runs.length && runs[run + 1] <= start) run += 2;
    for (let i = run; i < runs.length && runs[i] < start + rows; i += 2) {
      // Row r of the patch lies on the mask's row floor((y + r + 0.5) * rows / height).
      const first = Math.max(0, rowFrom(runs[i] - start, rows, height) - y);
      const last = Math.min(patch.height, rowFrom(runs[i + 1] - start, rows, height) - y);
      for (let row = first; row < last; row++) data[row * patch.width + column] = 1;
    }
  }
  return { ...patch, data };
}

/** Beginnings and ends of the runs of ones, in turn. */
function onRuns(/** @type {number[]} */ counts) {
  /** @type {number[]} */
  const runs = [];
  let at = 0;
  counts.forEach((run, index) => {
    if (index % 2 && run > 0) runs.push(at, at + run);
    at += run;
  });
  return runs;
}

function boundsOf(/** @type {number[]} */ runs, /** @type {number} */ rows) {
  if (runs.length === 0) return { left: 0, right: 0, top: 0, bottom: 0 };
  let top = rows;
  let bottom = 0;
  for (let i = 0; i < runs.length; i += 2) {
    const first = runs[i] % rows;
    const last = ((runs[i + 1] - 1) % rows) + 1;
    const wraps = Math.floor(runs[i] / rows) !== Math.floor((runs[i + 1] - 1) / rows);
    top = wraps ? 0 : Math.min(top, first);
    bottom = wraps ? rows : Math.max(bottom, last);
  }
  return { left: Math.floor(runs[0] / rows), right: Math.ceil(runs[runs.length - 1] / rows), top, bottom };
}

/** The first row of the new size whose centre lies at `row` of the mask or below. */
function rowFrom(/** @type {number} */ row, /** @type {number} */ rows, /** @type {number} */ height) {
  return Math.max(0, Math.ceil((row * height) / rows - 0.5));
}

function clamp(/** @type {number} */ value, /** @type {number} */ low, /** @type {number} */ high) {
  return Math.min(high, Math.max(low, value));
}
