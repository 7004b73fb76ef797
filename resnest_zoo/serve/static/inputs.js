// Pictures and films that come in: dropped, pasted, chosen.

import { byId } from "./dom.js";

const FILM = /\.(mp4|m4v|mov|mkv|webm|avi)$/i;

/** Call `take` with the files of each drop, paste or choice. */
export function listen(/** @type {(files: File[]) => void} */ take) {
  const input = byId("files");
  for (const button of document.querySelectorAll("[data-choose]"))
    button.addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    take([...input.files]);
    input.value = ""; // the same file may be chosen again
  });
  addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length === 0) return;
    event.preventDefault();
    take(files);
  });
  listenToDrops(take);
}

function listenToDrops(/** @type {(files: File[]) => void} */ take) {
  let depth = 0;
  const hasFiles = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes("Files") ?? false;
  const mark = (/** @type {number} */ by) => {
    depth = by === 0 ? 0 : Math.max(0, depth + by);
    document.body.classList.toggle("is-dropping", depth > 0);
  };
  addEventListener("dragenter", (event) => hasFiles(event) && mark(1));
  addEventListener("dragleave", (event) => hasFiles(event) && mark(-1));
  addEventListener("dragover", (event) => {
    if (hasFiles(event)) event.preventDefault();
  });
  addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault(); // else the browser would leave the page and open the file
    mark(0);
    take([...(event.dataTransfer?.files ?? [])]);
  });
}

/** @returns {"picture" | "film"} by the type that the browser says, or the name's ending */
export function kindOf(/** @type {File} */ file) {
  return file.type.startsWith("video/") || (!file.type && FILM.test(file.name)) ? "film" : "picture";
}
