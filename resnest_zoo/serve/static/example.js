// A picture of drawn shapes, for those who have none at hand: what the packaged models find.

/** @returns {Promise<File>} another picture each time */
export async function drawExample() {
  const [width, height] = [480, 360];
  const canvas = new OffscreenCanvas(width, height);
  const context = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const horizon = height * (0.3 + 0.2 * Math.random());
  band(context, 0, horizon, "#8fa9d8", "#b9c7e4");
  band(context, horizon, height, "#3f7a2c", "#5f9a3c");
  const paths = [circle, square, triangle, star, ring, cross];
  const order = paths.map((path) => ({ path, key: Math.random() })).sort((a, b) => a.key - b.key);
  order.slice(0, 5).forEach(({ path }, index) => {
    const radius = 38 + 24 * Math.random();
    const column = index % 3;
    const x = width * (0.18 + 0.32 * column + (index > 2 ? 0.15 : 0)) + 20 * (Math.random() - 0.5);
    const y = height * (index > 2 ? 0.74 : 0.28) + 24 * (Math.random() - 0.5);
    context.save();
    context.translate(x, y);
    context.rotate((Math.random() - 0.5) * 0.8);
    context.beginPath();
    path(context, radius);
    context.shadowColor = "rgb(0 0 0 / 0.45)";
    [context.shadowBlur, context.shadowOffsetX, context.shadowOffsetY] = [8, 5, 5];
    context.fillStyle = `hsl(${(index * 67 + 360 * Math.random()) % 360} 75% 55%)`;
    context.fill("evenodd");
    context.restore();
  });
  grain(context, width, height);
  return new File([await canvas.convertToBlob({ type: "image/png" })], "example.png", { type: "image/png" });
}

/** @typedef {OffscreenCanvasRenderingContext2D} Context */

function band(
  /** @type {Context} */ context,
  /** @type {number} */ top,
  /** @type {number} */ bottom,
  /** @type {string} */ from,
  /** @type {string} */ to,
) {
  const gradient = context.createLinearGradient(0, top, 0, bottom);
  gradient.addColorStop(0, from);
  gradient.addColorStop(1, to);
  context.fillStyle = gradient;
  context.fillRect(0, top, context.canvas.width, bottom - top);
}

function grain(/** @type {Context} */ context, /** @type {number} */ width, /** @type {number} */ height) {
  const image = context.getImageData(0, 0, width, height);
  for (let i = 0; i < image.data.length; i += 4) {
    const noise = 24 * (Math.random() - 0.5);
    for (let channel = 0; channel < 3; channel++) image.data[i + channel] += noise;
  }
  context.putImageData(image, 0, 0);
}

function circle(/** @type {Context} */ context, /** @type {number} */ radius) {
  context.arc(0, 0, radius, 0, 2 * Math.PI);
}

function square(/** @type {Context} */ context, /** @type {number} */ radius) {
  context.rect(-0.8 * radius, -0.8 * radius, 1.6 * radius, 1.6 * radius);
}

function triangle(/** @type {Context} */ context, /** @type {number} */ radius) {
  polygon(context, [radius, radius, radius]);
}

function star(/** @type {Context} */ context, /** @type {number} */ radius) {
  polygon(
    context,
    Array.from({ length: 10 }, (_, index) => (index % 2 ? 0.45 : 1.1) * radius),
  );
}

function ring(/** @type {Context} */ context, /** @type {number} */ radius) {
  context.arc(0, 0, radius, 0, 2 * Math.PI);
  context.closePath();
  context.moveTo(0.55 * radius, 0);
  context.arc(0, 0, 0.55 * radius, 0, 2 * Math.PI);
}

function cross(/** @type {Context} */ context, /** @type {number} */ radius) {
  const [arm, long] = [0.33 * radius, radius];
  const corners = [
    [-arm, -long],
    [arm, -long],
    [arm, -arm],
    [long, -arm],
    [long, arm],
    [arm, arm],
    [arm, long],
    [-arm, long],
    [-arm, arm],
    [-long, arm],
    [-long, -arm],
    [-arm, -arm],
  ];
  corners.forEach(([x, y]) => context.lineTo(x, y));
  context.closePath();
}

function polygon(/** @type {Context} */ context, /** @type {number[]} */ radii) {
  radii.forEach((radius, index) => {
    const angle = (2 * Math.PI * index) / radii.length - Math.PI / 2;
    context.lineTo(radius * Math.cos(angle), radius * Math.sin(angle));
  });
  context.closePath();
}
