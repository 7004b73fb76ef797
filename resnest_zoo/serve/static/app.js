// The page: which pictures and models there are, and who is told when something changes.

import { ApiError, ServerLost, listModels } from "./api.js";
import { showDocs } from "./docs.js";
import { announce, byId, make, readableBytes } from "./dom.js";
import { drawExample } from "./example.js";
import { kindOf, listen } from "./inputs.js";
import { ModelsView } from "./models.js";
import { Pane } from "./pane.js";
import { summary } from "./result.js";
import { Side, ThingList } from "./side.js";
import { Work } from "./work.js";

/** @typedef {import("./work.js").Item} Item */

const TITLE = "resnest_zoo";
const VIEWS = ["models", "docs"]; // beside the first, which is at /

/** @type {import("./api.js").Model[]} */
let models = [];
/** @type {Item[]} */
const items = [];
/** @type {Item | null} */
let current = null;
let made = 0;
let drawing = 0;
let said = "";

/** @type {import("./pane.js").Look} */
const look = { layer: null, opacity: 0.5, labels: true };
/** @type {import("./result.js").Filter} */
const filter = { threshold: 0.5, hidden: new Set() };

const work = new Work(() => models, {
  onChange: (item) => {
    markThumb(item);
    if (item === current) refresh();
  },
  onServer: (isThere) => void onServer(isThere),
  onModels: () => showModels(),
});
const views = new ModelsView(async (name) => {
  try {
    await work.load(name);
  } catch (error) {
    if (error instanceof ServerLost) void work.lost();
    throw error;
  }
});
const side = new Side(look, filter, refresh);
const panes = [0, 1].map(() => new Pane({ onActive: setActive, onFrame: refresh, onMove, onAgain: again }));
const lists = panes.map((pane) => new ThingList(pane, setActive));
const [modelSelect, otherSelect] = [byId("model"), byId("other")];

/** The chosen models, one or two. */
function chosen() {
  return [...new Set([modelSelect.value, otherSelect.value])].filter(Boolean);
}

function add(/** @type {File[]} */ files) {
  const added = files.map((file) => {
    made += 1;
    const name = file.name || `picture ${made}`;
    return {
      id: made,
      name,
      blob: file,
      url: URL.createObjectURL(file),
      kind: kindOf(file),
      outcomes: new Map(),
    };
  });
  if (added.length === 0) return;
  items.push(...added);
  for (const item of added) byId("strip").append(thumb(item));
  choose(added[0]);
}

function choose(/** @type {Item | null} */ item) {
  current = item;
  said = "";
  for (const other of items) markThumb(other);
  predictAll();
  refresh();
}

/** Ask for what is missing; of the picture that is looked at first. */
function predictAll() {
  for (const item of [...items].reverse()) {
    // A film is long work: only the one that is looked at.
    if (item !== current && item.kind !== "film") chosen().forEach((model) => work.want(item, model));
  }
  if (current) for (const model of chosen().reverse()) work.want(current, model);
}

function again(/** @type {Pane} */ pane) {
  if (!pane.item) return;
  work.forget(pane.item, pane.model);
  predictAll();
  refresh();
}

function remove(/** @type {Item} */ item) {
  work.forget(item);
  URL.revokeObjectURL(item.url);
  const place = items.indexOf(item);
  items.splice(place, 1);
  const strip = byId("strip");
  strip.children[place].remove();
  const next = items[Math.min(place, items.length - 1)] ?? null;
  if (current === item) choose(next);
  refresh();
  announce(`${item.name} removed`);
  (
    strip.children[Math.min(place, items.length - 1)]?.firstElementChild ??
    document.querySelector("[data-choose]")
  )?.focus();
}

function thumb(/** @type {Item} */ item) {
  const picture =
    item.kind === "film"
      ? make("video", {
          src: item.url,
          muted: true,
          preload: "metadata",
          tabindex: "-1",
          "aria-hidden": "true",
        })
      : make("img", {
          src: item.url,
          alt: "",
          loading: "lazy",
          onerror: (/** @type {any} */ event) => event.target.replaceWith(make("span", { class: "unshown" })),
        });
  const size = readableBytes(item.blob.size);
  return make(
    "li",
    { "data-id": item.id },
    make(
      "button",
      { type: "button", class: "thumb", title: `${item.name}, ${size}`, onclick: () => choose(item) },
      picture,
      make("span", { class: "caption" }, item.name),
      make("span", { class: "unseen state" }),
    ),
    make(
      "button",
      { type: "button", class: "remove", "aria-label": `Remove ${item.name}`, onclick: () => remove(item) },
      "×",
    ),
  );
}

function markThumb(/** @type {Item} */ item) {
  const row = byId("strip").querySelector(`[data-id="${item.id}"]`);
  if (!row) return;
  const states = chosen().map((name) => item.outcomes.get(name)?.status ?? "waiting");
  // No model is chosen before the models are listed.
  const state = states.includes("failed")
    ? "failed"
    : states.length && states.every((one) => one === "done")
      ? "done"
      : "waiting";
  row.dataset.state = state;
  row.querySelector(".state").textContent = `, ${state}`;
  if (item === current) row.firstElementChild.setAttribute("aria-current", "true");
  else row.firstElementChild.removeAttribute("aria-current");
  // One stop of the Tab key for all; the arrow keys go on from there.
  for (const button of row.children) button.tabIndex = item === current ? 0 : -1;
}

/** Go through the pictures by the arrow keys, or take one away. */
function pressInStrip(/** @type {KeyboardEvent} */ event) {
  const place = current ? items.indexOf(current) : -1;
  const last = items.length - 1;
  const moves = {
    ArrowRight: Math.min(last, place + 1),
    ArrowLeft: Math.max(0, place - 1),
    Home: 0,
    End: last,
  };
  const next = moves[/** @type {keyof typeof moves} */ (event.key)];
  if (event.key === "Delete" && current) remove(current);
  else if (next !== undefined) {
    event.preventDefault();
    choose(items[next]);
    byId("strip").children[next].firstElementChild.focus();
  }
}

/** Draw everything anew, once a frame at most. */
function refresh() {
  if (!drawing)
    drawing = requestAnimationFrame(() => {
      drawing = 0;
      render();
    });
}

function render() {
  const item = current;
  byId("drop").hidden = items.length > 0;
  byId("add").hidden = items.length === 0;
  byId("strip").hidden = items.length < 1;
  byId("work").hidden = !item;
  byId("every-field").hidden = item?.kind !== "film";
  if (!item) return;
  const names = chosen();
  const shown = panes.slice(0, names.length);
  const place = byId("panes");
  if (place.children.length !== shown.length) {
    place.replaceChildren(...shown.map((pane) => pane.root));
    byId("lists").replaceChildren(...lists.slice(0, shown.length).map((list) => list.root));
    place.classList.toggle("is-pair", shown.length === 2);
  }
  shown.forEach((pane, index) => pane.show(item, names[index], look, filter));
  side.show(shown);
  lists.slice(0, shown.length).forEach((list) => list.show(shown.length > 1));
  say(shown);
}

function say(/** @type {Pane[]} */ shown) {
  if (!shown.every((pane) => pane.outcome?.status === "done") || current?.kind === "film") return;
  const texts = shown.map((pane) => {
    const text = summary(pane.things, pane.layer === "panoptic" ? "segment" : "object");
    return shown.length > 1 ? `${pane.model}: ${text}` : text;
  });
  const text = texts.join(". ");
  if (text !== said) announce(text);
  said = text;
}

/** A film that is moved takes the same film beside it with it. */
function onMove(/** @type {Pane} */ from, /** @type {number} */ seconds, /** @type {boolean} */ plays) {
  for (const pane of panes)
    if (pane !== from && pane.item === from.item && pane.root.isConnected) pane.film?.go(seconds, plays);
}

function setActive(/** @type {Pane} */ pane, /** @type {number | null} */ id) {
  pane.setActive(id);
  lists[panes.indexOf(pane)].mark();
}

let listed = "";

function showModels() {
  views.show(models);
  // Only where something changes: a list that is open would be closed.
  const key = JSON.stringify(models.map((model) => [model.name, isReady(model)]));
  if (key === listed) return;
  listed = key;
  const [first, second] = [modelSelect.value, otherSelect.value];
  const options = () => {
    const [ready, rest] = [
      models.filter((model) => isReady(model)),
      models.filter((model) => !isReady(model)),
    ];
    const group = (/** @type {string} */ label, /** @type {typeof models} */ those) =>
      those.length
        ? make("optgroup", { label }, ...those.map(({ name }) => make("option", { value: name }, name)))
        : null;
    return [group("Ready", ready), group("To be loaded", rest)].filter((one) => one !== null);
  };
  modelSelect.replaceChildren(...options());
  otherSelect.replaceChildren(make("option", { value: "" }, "nothing"), ...options());
  if (models.some(({ name }) => name === first)) modelSelect.value = first;
  otherSelect.value = second;
}

function isReady(/** @type {import("./api.js").Model} */ model) {
  return model.state === "ready";
}

async function fetchModels() {
  try {
    const answer = await listModels();
    const isFirst = models.length === 0;
    models = answer.models;
    showModels();
    if (isFirst) modelSelect.value = answer.default;
    // What is under way is followed, whoever asked for it.
    for (const { name, state } of models) {
      if (["downloading", "verifying", "loading"].includes(state)) work.load(name).catch(() => {});
    }
    if (items.length) choose(current);
  } catch (error) {
    if (error instanceof ServerLost) void work.lost();
    else if (error instanceof ApiError) showBanner(error.message);
    else throw error;
  }
}

async function onServer(/** @type {boolean} */ isThere) {
  if (!isThere) {
    showBanner("The server does not answer. What is here stays; the page tries again.");
    return;
  }
  showBanner("The server is back.", 4000);
  await fetchModels();
}

let bannerTimer = 0;

function showBanner(/** @type {string} */ text, milliseconds = 0) {
  clearTimeout(bannerTimer);
  const banner = byId("banner");
  banner.textContent = text;
  banner.hidden = false;
  banner.classList.toggle("is-good", milliseconds > 0);
  if (milliseconds) bannerTimer = setTimeout(() => (banner.hidden = true), milliseconds);
}

/** The view that the address says. Pictures stay while the models are looked at. */
function showView() {
  const view = VIEWS.find((name) => location.pathname === `/${name}`) ?? "try";
  for (const name of ["try", ...VIEWS]) byId(`view-${name}`).hidden = name !== view;
  for (const link of document.querySelectorAll("[data-view]")) {
    if (/** @type {HTMLElement} */ (link).dataset.view === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = view === "try" ? TITLE : `${byId(`${view}-heading`).textContent} · ${TITLE}`;
  if (view === "models") showModels();
  if (view === "docs") void showDocs();
  if (view === "try") refresh();
}

function arrive() {
  showView();
  if (location.pathname === "/models") void fetchModels(); // others load and use models, too
}

for (const link of document.querySelectorAll("a[data-view]")) {
  link.addEventListener("click", (event) => {
    if (/** @type {MouseEvent} */ (event).ctrlKey || /** @type {MouseEvent} */ (event).metaKey) return;
    event.preventDefault();
    history.pushState(null, "", /** @type {HTMLAnchorElement} */ (link).href);
    arrive();
    byId("main").focus();
  });
}
addEventListener("popstate", arrive);
modelSelect.onchange = otherSelect.onchange = () => choose(current);
byId("every").onchange = (/** @type {any} */ event) => {
  work.every = Math.max(1, Math.round(Number(event.target.value)) || 1);
  event.target.value = work.every;
  if (current?.kind !== "film") return;
  work.forget(current);
  choose(current);
};
work.every = Number(byId("every").value);
byId("example").onclick = async () => {
  add([await drawExample()]);
};
byId("strip").addEventListener("keydown", pressInStrip);
listen(add);
showView();
void fetchModels();
