// The server's HTTP API. Everything is asked of the server that the page came from.

/**
 * @typedef {object} Model
 * @property {string} name
 * @property {"boxes" | "masks" | "panoptic"} task
 * @property {boolean} served
 * @property {"absent" | "downloading" | "verifying" | "loading" | "ready" | "failed"} state
 * @property {string | null} message
 * @property {number | null} bytes
 * @property {number | null} parameters
 * @property {{box_ap: number | null, mask_ap: number | null, pq: number | null}} reported
 * @property {number | null} seconds
 * @property {boolean} packaged
 * @property {string | null} [method]
 * @property {string | null} [backbone]
 * @property {string | null} [dataset] of the reported numbers
 * @property {number | null} [done] bytes, while it is fetched
 * @property {number | null} [total]
 * @property {string[] | null} classes
 */
/** @typedef {{state: Model["state"], done: number | null, total: number | null, message: string | null}} Progress */
/** @typedef {{signal?: AbortSignal, onWait?: (text: string) => void}} Options */

const BUSY = 503;
const MOST_TRIES = 8;
const LONGEST_WAIT = 30; // seconds, of one wait

/** The server's answer is an error; the message is its sentence. */
export class ApiError extends Error {
  /**
   * @param {number} status
   * @param {string} message
   * @param {string} kind for programs
   */
  constructor(status, message, kind = "") {
    super(message);
    this.status = status;
    this.kind = kind;
  }
}

/** No answer at all: the server has stopped, or is starting again. */
export class ServerLost extends Error {
  constructor() {
    super("The server does not answer.");
  }
}

/** @returns {Promise<{models: Model[], default: string}>} */
export async function listModels() {
  return (await request("/api/models")).json();
}

/**
 * What is found in one picture. A server that is busy is asked again, when it says, some times.
 * @param {Blob} picture
 * @param {string} model
 * @param {number} threshold
 * @param {Options} options
 */
export async function predict(picture, model, threshold, options) {
  const query = new URLSearchParams({ model, score_threshold: String(threshold), masks: "rle" });
  return (await request(`/predict?${query}`, post(picture), options)).json();
}

/**
 * What is found in the frames of a film, one after the other, as they are done.
 * @param {Blob} film
 * @param {string} model
 * @param {number} every
 * @param {Options} options
 * @returns {AsyncGenerator<any>}
 */
export async function* predictFilm(film, model, every, options) {
  const query = new URLSearchParams({ model, every: String(every) });
  const response = await request(`/predict/video?${query}`, post(film), options);
  for await (const line of linesOf(response)) {
    const row = JSON.parse(line);
    if (row.error) throw new ApiError(response.status, sentence(row.error.message ?? String(row.error)));
    yield row;
  }
}

/**
 * Have a model fetched, verified and loaded; resolves when it is ready.
 * @param {string} name
 * @param {(progress: Progress) => void} onProgress
 */
export async function loadModel(name, onProgress) {
  const path = `/api/models/${encodeURIComponent(name)}`;
  await request(`${path}/load`, { method: "POST" });
  return /** @type {Promise<void>} */ (
    new Promise((resolve, reject) => {
      const events = new EventSource(`${path}/events`);
      const end = (/** @type {() => void} */ then) => {
        events.close();
        then();
      };
      events.onmessage = ({ data }) => {
        const progress = JSON.parse(data);
        onProgress(progress);
        if (progress.state === "ready") end(resolve);
        if (progress.state === "failed")
          end(() => reject(new ApiError(500, sentence(progress.message ?? "it failed"))));
      };
      // A server that is gone ends the wait; the browser's own attempts would go on for ever.
      events.onerror = () => end(() => reject(new ServerLost()));
    })
  );
}

/** Resolves when the server answers. */
export async function untilThere(/** @type {AbortSignal} */ signal) {
  for (let wait = 500; !signal.aborted; wait = Math.min(5000, wait * 1.5)) {
    await pause(wait, signal);
    try {
      if ((await fetch("/health", { cache: "no-store", signal })).ok) return;
    } catch (error) {
      if (signal.aborted) throw error;
    }
  }
}

/**
 * @param {string} path
 * @param {RequestInit} init
 * @param {Options} options
 */
export async function request(path, init = {}, { signal, onWait } = {}) {
  for (let attempt = 1; ; attempt++) {
    let response;
    try {
      response = await fetch(path, { ...init, signal });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new ServerLost();
    }
    if (response.ok) return response;
    const refusal = await readError(response);
    if (response.status !== BUSY || refusal.kind === "failed" || attempt === MOST_TRIES) throw refusal;
    const asked = Number(response.headers.get("Retry-After")) || 1;
    const seconds = Math.min(LONGEST_WAIT, asked);
    onWait?.(`The server is busy; asking again in ${seconds} s (${attempt} of ${MOST_TRIES - 1}).`);
    await pause(seconds * 1000, signal);
  }
}

function post(/** @type {Blob} */ body) {
  return { method: "POST", body, headers: { "Content-Type": body.type || "application/octet-stream" } };
}

async function readError(/** @type {Response} */ response) {
  const message = `The server answered ${response.status} ${response.statusText}`.trim();
  try {
    const { error } = await response.json();
    return new ApiError(response.status, sentence(error.message ?? message), error.kind);
  } catch {
    return new ApiError(response.status, message); // no JSON: the status says what there is to say
  }
}

/** "a picture is …" → "A picture is ….": the server writes for logs, too. */
export function sentence(/** @type {string} */ text) {
  const [first] = text.split(/\s/);
  const start = /^[a-z]+$/.test(first) ? text[0].toUpperCase() + text.slice(1) : text;
  return /[.!?…]$/.test(start) ? start : `${start}.`;
}

async function* linesOf(/** @type {Response} */ response) {
  const reader = /** @type {any} */ (response.body).pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read().catch((/** @type {Error} */ error) => {
        throw error.name === "AbortError" ? error : new ServerLost();
      });
      if (done) break;
      const lines = (rest + value).split("\n");
      rest = lines.pop() ?? "";
      yield* lines.filter((line) => line.trim());
    }
    if (rest.trim()) yield rest;
  } finally {
    reader.cancel().catch(() => {});
  }
}

function pause(/** @type {number} */ milliseconds, /** @type {AbortSignal | undefined} */ signal) {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve(undefined);
    }, milliseconds);
    signal?.addEventListener("abort", stop, { once: true });
  });
}
