// What is to be predicted: each picture by each chosen model, a few at a time, again when the server is back.

import { ApiError, ServerLost, loadModel, predict, predictFilm, untilThere } from "./api.js";
import { progressOf } from "./models.js";
import { readResult } from "./result.js";

/** @typedef {import("./result.js").Result} Result */
/** @typedef {{id: number, name: string}} Category */
/**
 * @typedef {object} Outcome  of one item and one model
 * @property {"waiting" | "running" | "done" | "failed"} status
 * @property {string} note  what it waits for, or the error's sentence
 * @property {any} answer  the server's, whole; of a film the rows of its frames
 * @property {Result | null} result
 * @property {{seconds: number, row: any, result: Result | null}[]} frames  of a film, in time
 * @property {Category[]} categories  of things
 * @property {Category[]} stuff
 * @property {number} roundTrip  milliseconds
 * @property {AbortController} abort
 */
/**
 * @typedef {object} Item  a picture or a film
 * @property {number} id
 * @property {string} name
 * @property {Blob} blob
 * @property {string} url
 * @property {"picture" | "film"} kind
 * @property {Map<string, Outcome>} outcomes  by the model's name
 */

export const LOWEST_SCORE = 0.05; // asked for once; the slider goes on from there
const MOST_LOSSES = 3; // of the server with one picture: it may be this picture that stops it
const AT_ONCE = 4; // the server batches pictures of one size

export class Work {
  /**
   * @param {() => import("./api.js").Model[]} models
   * @param {{onChange: (item: Item) => void, onServer: (isThere: boolean) => void, onModels: () => void}} listeners
   */
  constructor(models, listeners) {
    this.models = models;
    this.listeners = listeners;
    this.every = 1;
    this.running = 0;
    /** @type {{item: Item, model: string}[]} */
    this.queue = [];
    /** @type {Promise<void> | null} while the server is gone */
    this.outage = null;
    /** @type {Map<string, Promise<void>>} */
    this.loading = new Map();
    /** @type {Set<() => void>} called as models are loaded */
    this.watchers = new Set();
  }

  /** Have an item predicted, before all that wait, unless it has been. */
  want(/** @type {Item} */ item, /** @type {string} */ model) {
    const known = item.outcomes.get(model);
    if (known) {
      const place = this.queue.findIndex((job) => job.item === item && job.model === model);
      if (place > 0) this.queue.unshift(...this.queue.splice(place, 1));
      return;
    }
    item.outcomes.set(model, {
      status: "waiting",
      note: "Waiting",
      answer: null,
      result: null,
      frames: [],
      categories: [],
      stuff: [],
      roundTrip: 0,
      abort: new AbortController(),
    });
    this.queue.unshift({ item, model });
    queueMicrotask(() => this.next());
  }

  /** Stop what is under way for an item, and forget it. */
  forget(/** @type {Item} */ item, /** @type {string | null} */ model = null) {
    for (const [name, outcome] of item.outcomes) {
      if (model !== null && name !== model) continue;
      outcome.abort.abort();
      item.outcomes.delete(name);
    }
    this.queue = this.queue.filter((job) => job.item.outcomes.has(job.model));
  }

  /** Fetch, verify and load a model; one request for all who ask. */
  load(/** @type {string} */ name) {
    let loading = this.loading.get(name);
    if (!loading) {
      loading = loadModel(name, (progress) => {
        const model = this.models().find((one) => one.name === name);
        if (model) Object.assign(model, progress);
        this.listeners.onModels();
        for (const show of this.watchers) show();
      }).finally(() => {
        this.loading.delete(name);
        this.listeners.onModels();
      });
      this.loading.set(name, loading);
    }
    return loading;
  }

  /** @private */
  next() {
    while (this.running < AT_ONCE && this.queue.length > 0) {
      const job = /** @type {{item: Item, model: string}} */ (this.queue.shift());
      const outcome = job.item.outcomes.get(job.model);
      if (!outcome || outcome.status !== "waiting") continue;
      this.running += 1;
      this.run(job.item, job.model, outcome).finally(() => {
        this.running -= 1;
        this.next();
      });
    }
  }

  /** @private */
  async run(/** @type {Item} */ item, /** @type {string} */ model, /** @type {Outcome} */ outcome) {
    const { signal } = outcome.abort;
    for (let losses = 0; !signal.aborted; losses++) {
      try {
        if (this.outage) await this.outage;
        await this.ready(item, model, outcome);
        this.tell(item, outcome, "running", item.kind === "film" ? "Reading the film" : "Looking");
        await (item.kind === "film" ? this.film(item, model, outcome) : this.picture(item, model, outcome));
        this.tell(item, outcome, "done", "");
        return;
      } catch (error) {
        if (signal.aborted) return;
        if (!(error instanceof ServerLost) || losses === MOST_LOSSES) {
          if (!(error instanceof ApiError || error instanceof ServerLost)) console.error(error);
          this.tell(item, outcome, "failed", /** @type {Error} */ (error).message);
          return;
        }
        this.tell(item, outcome, "waiting", "Waiting for the server");
        this.lost();
      }
    }
  }

  /** @private */
  async ready(/** @type {Item} */ item, /** @type {string} */ name, /** @type {Outcome} */ outcome) {
    const model = this.models().find((one) => one.name === name);
    if (!model || model.state === "ready") return;
    const show = () => {
      const model = this.models().find((one) => one.name === name);
      if (model && outcome.status === "waiting")
        this.tell(item, outcome, "waiting", `${name}: ${progressOf(model)}`);
    };
    this.watchers.add(show);
    try {
      show();
      await this.load(name);
    } finally {
      this.watchers.delete(show);
    }
  }

  /** @private */
  async picture(/** @type {Item} */ item, /** @type {string} */ model, /** @type {Outcome} */ outcome) {
    const begin = performance.now();
    const answer = await predict(item.blob, model, LOWEST_SCORE, this.options(item, outcome));
    outcome.roundTrip = performance.now() - begin;
    outcome.answer = answer;
    [outcome.categories, outcome.stuff] = categoriesOf(answer);
    outcome.result = readResult(answer.predictions[0], outcome.categories, outcome.stuff);
  }

  /** @private */
  async film(/** @type {Item} */ item, /** @type {string} */ model, /** @type {Outcome} */ outcome) {
    const begin = performance.now();
    outcome.frames = [];
    for await (const row of predictFilm(item.blob, model, this.every, this.options(item, outcome))) {
      outcome.roundTrip = performance.now() - begin;
      if (row.categories) {
        // They may come with any line; what was read without them is read again.
        [outcome.categories, outcome.stuff] = categoriesOf(row);
        for (const frame of outcome.frames) frame.result = null;
      }
      if (row.done) break;
      outcome.frames.push({ seconds: row.seconds, row, result: null });
      this.tell(item, outcome, "running", `Frames done: ${outcome.frames.length}`);
    }
    outcome.answer = {
      model,
      categories: outcome.categories,
      stuff_categories: outcome.stuff,
      frames: outcome.frames.map(({ row }) => row),
    };
  }

  /** @private */
  options(/** @type {Item} */ item, /** @type {Outcome} */ outcome) {
    const onWait = (/** @type {string} */ text) => this.tell(item, outcome, "running", text);
    return { signal: outcome.abort.signal, onWait };
  }

  /** The server does not answer: say so, once, and wait for it. */
  lost() {
    if (this.outage) return this.outage;
    this.listeners.onServer(false);
    this.outage = untilThere(new AbortController().signal).then(() => {
      this.outage = null;
      this.listeners.onServer(true);
    });
    return this.outage;
  }

  /** @private */
  tell(
    /** @type {Item} */ item,
    /** @type {Outcome} */ outcome,
    /** @type {Outcome["status"]} */ status,
    /** @type {string} */ note,
  ) {
    outcome.status = status;
    outcome.note = note;
    this.listeners.onChange(item);
  }
}

/**
 * What was found in a frame of a film at a time; null before its first.
 * @param {Outcome} outcome
 * @param {number} seconds
 */
export function frameAt(outcome, seconds) {
  let [low, high] = [0, outcome.frames.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (outcome.frames[middle].seconds <= seconds + 0.001) low = middle + 1;
    else high = middle;
  }
  const frame = outcome.frames[Math.max(0, low - 1)];
  if (!frame) return null;
  frame.result ??= readResult(frame.row, outcome.categories, outcome.stuff);
  return frame.result;
}

/** @returns {[Category[], Category[]]} of things and of stuff */
function categoriesOf(/** @type {any} */ answer) {
  return [answer.categories ?? [], answer.stuff_categories ?? []];
}
