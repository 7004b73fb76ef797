// A film and what moves it: below the picture, since what is drawn would cover the browser's own controls.

import { make } from "./dom.js";

export class Film {
  /**
   * @param {string} url
   * @param {string} name
   * @param {{onFrame: () => void, onMove: (seconds: number, plays: boolean) => void}} listeners  another frame is
   *   seen; the reader has moved it
   */
  constructor(url, name, { onFrame, onMove }) {
    this.onFrame = onFrame;
    this.video = make("video", { src: url, playsinline: true, "aria-hidden": "true", tabindex: "-1" });
    this.video.muted = true;
    this.button = make("button", { type: "button", class: "small" }, "Play");
    this.range = make("input", {
      type: "range",
      min: 0,
      max: 1,
      step: 0.01,
      value: 0,
      "aria-label": `Position in ${name}`,
    });
    this.clock = make("span", { class: "soft clock" });
    this.controls = make("div", { class: "transport" }, this.button, this.range, this.clock);
    this.button.onclick = () => {
      this.go(this.seconds, this.video.paused);
      onMove(this.seconds, !this.video.paused);
    };
    this.range.oninput = () => {
      this.go(Number(this.range.value), false);
      onMove(this.seconds, false);
    };
    this.listen();
  }

  /** Where it stands; of a film that the browser cannot show, where the reader has put it. */
  get seconds() {
    return this.video.hidden ? Number(this.range.value) : this.video.currentTime;
  }

  /** Move it. */
  go(/** @type {number} */ seconds, /** @type {boolean} */ plays) {
    if (this.video.hidden) {
      this.range.value = seconds;
      this.tell();
      return;
    }
    if (Math.abs(this.video.currentTime - seconds) > 0.005) this.video.currentTime = seconds;
    if (plays)
      this.video.play().catch(() => {}); // it is taken away while it starts
    else this.video.pause();
  }

  /** Results reach up to here: all that is known of a film that the browser cannot show. */
  reach(/** @type {number} */ seconds) {
    if (this.video.hidden) this.range.max = Math.max(seconds, 0.01);
  }

  /** @private */
  listen() {
    const { video } = this;
    video.onloadedmetadata = () => {
      this.range.max = video.duration;
      this.tell();
    };
    video.onerror = () => {
      video.hidden = true;
      this.button.disabled = true;
      this.tell();
    };
    const follow = () => {
      this.tell();
      if (!video.paused && video.isConnected) video.requestVideoFrameCallback(follow);
    };
    video.onplay = () => {
      this.button.textContent = "Pause";
      video.requestVideoFrameCallback(follow);
    };
    video.onpause = () => (this.button.textContent = "Play");
    video.onseeked = () => this.tell();
    video.onended = () => this.tell();
  }

  /** @private */
  tell() {
    const { seconds } = this;
    if (!this.video.hidden) this.range.value = seconds;
    const text = `${clock(seconds)} / ${clock(Number(this.range.max))}`;
    this.clock.textContent = text;
    this.range.setAttribute("aria-valuetext", text);
    this.onFrame();
  }
}

/** 75.3 → "1:15.3" */
function clock(/** @type {number} */ seconds) {
  const tenths = Math.round(10 * seconds);
  return `${Math.floor(tenths / 600)}:${((tenths % 600) / 10).toFixed(1).padStart(4, "0")}`;
}
