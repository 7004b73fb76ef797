// Colours of classes: the same as in the pictures that `resnest-zoo predict` draws.

/** @typedef {[number, number, number]} Colour */

// Steps of the golden ratio around the colour circle keep neighbouring classes far apart.
const HUE_STEP = 0.618034;

/**
 * @param {number} index of the class, from 0
 * @returns {Colour}
 */
export function classColour(index) {
  const hue = ((index * HUE_STEP) % 1) * 6;
  const value = index % 2 ? 1 : 0.85;
  const channel = (/** @type {number} */ shift) => {
    const k = (shift + hue) % 6;
    return Math.round(255 * value * (1 - 0.75 * Math.max(0, Math.min(k, 4 - k, 1))));
  };
  return [channel(5), channel(3), channel(1)];
}

/** Black or white, whichever is read better on the colour. */
export function inkOn(/** @type {Colour} */ colour) {
  return luminance(colour) > 0.179 ? "#000" : "#fff";
}

export function css(/** @type {Colour} */ [red, green, blue], alpha = 1) {
  return `rgb(${red} ${green} ${blue} / ${alpha})`;
}

// WCAG 2.2, "relative luminance".
function luminance(/** @type {Colour} */ colour) {
  const [red, green, blue] = colour
    .map((value) => value / 255)
    .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}
