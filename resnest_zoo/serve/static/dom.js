// Elements by id, and new ones.

/** @returns {any} the element of the page with this id */
export function byId(/** @type {string} */ id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`no element #${id}`);
  return found;
}

/**
 * A new element. Text is text, never markup.
 * @param {string} tag
 * @param {Record<string, any>} attributes  `on…` listeners; false and null are left out
 * @param {(Node | string | null)[]} children
 * @returns {any}
 */
export function make(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** A new element of a drawing. */
export function makeSvg(
  /** @type {string} */ tag,
  /** @type {Record<string, any>} */ attributes = {},
  /** @type {(Node | string)[]} */ ...children
) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function filled(
  /** @type {any} */ element,
  /** @type {Record<string, any>} */ attributes,
  /** @type {any[]} */ children,
) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Hand a file to the reader's downloads. */
export function save(/** @type {Blob} */ blob, /** @type {string} */ name) {
  const url = URL.createObjectURL(blob);
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

let saying = 0;

/** Tell a screen reader, once things have come to rest. */
export function announce(/** @type {string} */ text) {
  clearTimeout(saying);
  saying = setTimeout(() => (byId("live").textContent = text), 400);
}

/** 1234567 → "1.2 MB" */
export function readableBytes(/** @type {number} */ bytes) {
  const units = ["B", "kB", "MB", "GB"];
  const power = Math.min(3, Math.floor(Math.log10(Math.max(1, bytes)) / 3));
  const value = bytes / 1000 ** power;
  return `${power && value < 10 ? value.toFixed(1) : Math.round(value)} ${units[power]}`;
}

/** 0.0123 → "12 ms" */
export function readableSeconds(/** @type {number} */ seconds) {
  if (seconds < 0.995) return `${Math.round(1000 * seconds)} ms`;
  return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
}
