// What the server answers, made from its own description.

import { request } from "./api.js";
import { byId, make } from "./dom.js";

/** @typedef {Record<string, any>} Json */

function show(/** @type {Json} */ api) {
  byId("about").prepend(
    ...marked(
      `${[api.info?.title, api.info?.version].filter(Boolean).join(" ")}. ${api.info?.description ?? ""} `,
    ),
  );
  const sections = Object.entries(api.paths).flatMap(([path, methods]) =>
    Object.entries(/** @type {Json} */ (methods))
      .filter(([method]) => ["get", "post", "put", "delete", "head"].includes(method))
      .map(([method, operation]) => describe(api, path, method, operation)),
  );
  byId("paths").replaceChildren(...sections);
}

function describe(
  /** @type {Json} */ api,
  /** @type {string} */ path,
  /** @type {string} */ method,
  /** @type {Json} */ operation,
) {
  const heading = make(
    "h2",
    { class: "path" },
    make("span", { class: `verb is-${method}` }, method.toUpperCase()),
    make("code", {}, path),
  );
  const texts = [operation.summary, operation.description]
    .filter(Boolean)
    .map((text) => make("p", {}, ...marked(text)));
  const inputs = (operation.parameters ?? []).map((/** @type {Json} */ one) => parameter(resolve(api, one)));
  const body = resolve(api, operation.requestBody);
  const answers = Object.entries(operation.responses ?? {}).map(([status, answer]) =>
    response(status, resolve(api, answer)),
  );
  return make(
    "section",
    { class: "card" },
    heading,
    ...texts,
    inputs.length ? make("h3", {}, "Parameters") : null,
    inputs.length ? make("dl", {}, ...inputs.flat()) : null,
    body ? make("h3", {}, "Body") : null,
    body
      ? make(
          "p",
          {},
          [body.description, Object.keys(body.content ?? {}).join(", ")].filter(Boolean).join(" · "),
        )
      : null,
    make("h3", {}, "Answers"),
    make("dl", {}, ...answers.flat()),
    example(path, method, body),
  );
}

function parameter(/** @type {Json} */ one) {
  const { schema = {} } = one;
  const values = schema.enum ? schema.enum.join(" | ") : schema.type;
  const notes = [
    values,
    one.required ? "needed" : null,
    schema.default === undefined ? null : `default ${JSON.stringify(schema.default)}`,
  ];
  return [
    make("dt", {}, make("code", {}, one.name), make("span", { class: "soft" }, ` in ${one.in}`)),
    make(
      "dd",
      {},
      [notes.filter(Boolean).join(", "), one.description ?? schema.description].filter(Boolean).join(". "),
    ),
  ];
}

function response(/** @type {string} */ status, /** @type {Json} */ answer) {
  const types = Object.keys(answer.content ?? {}).join(", ");
  return [
    make("dt", {}, make("code", {}, status)),
    make("dd", {}, ...marked([answer.description, types].filter(Boolean).join(" · "))),
  ];
}

/** How it is asked for from a shell. */
function example(
  /** @type {string} */ path,
  /** @type {string} */ method,
  /** @type {Json | undefined} */ body,
) {
  const data = body
    ? ` --data-binary @${path.includes("video") ? "film.mp4" : "photo.jpg"}`
    : method === "post"
      ? " -X POST"
      : "";
  const address = `${location.origin}${path.replace(/\{(\w+)\}/g, "$1".toUpperCase())}`;
  return make(
    "pre",
    { tabindex: "0", role: "region", "aria-label": `Example of ${path}` },
    `curl${data} '${address}'`,
  );
}

/** Text with what stands between backticks as code. */
function marked(/** @type {string} */ text) {
  return text.split("`").map((part, index) => (index % 2 ? make("code", {}, part) : part));
}

/** What a `$ref` within the document stands for. */
function resolve(/** @type {Json} */ api, /** @type {any} */ item) {
  if (!item?.$ref) return item;
  return (
    item.$ref
      .replace(/^#\//, "")
      .split("/")
      .reduce((/** @type {any} */ at, /** @type {string} */ key) => at?.[key], api) ?? {}
  );
}

let isShown = false;

/** Read the description and show it, once. */
export async function showDocs() {
  if (isShown) return;
  try {
    show(await (await request("/openapi.json")).json());
    isShown = true;
  } catch (error) {
    byId("paths").replaceChildren(
      make("p", { class: "error", role: "alert" }, /** @type {Error} */ (error).message),
    );
  }
}
