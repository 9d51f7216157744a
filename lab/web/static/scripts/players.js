// What moves: videos, folders of frames and animated pictures behind one face, and a bar that plays several in step.
//
// A player has `element`, `duration` in seconds (null where nobody can tell), `play()`, `pause()`, `seek(seconds)`,
// `dispose()`, and may call `onready` and `onerror`.

class VideoPlayer {
  constructor(item, { loop = false } = {}) {
    this.duration = item.look.frames / item.look.fps;
    this.element = h("video", { muted: true, playsinline: true, preload: "none", disablepictureinpicture: true });
    Object.assign(this.element, { muted: true, loop, src: fileOf(item) });
    this.element.addEventListener("error", () => this.onerror?.());
    this.element.addEventListener("loadeddata", () => this.onready?.());
  }
  get time() {
    return this.element.currentTime;
  }
  play() {
    this.element.play().catch(() => {});
  } // taken away or paused meanwhile
  pause() {
    this.element.pause();
  }
  seek(seconds) {
    this.element.preload = "auto";
    // Just inside the last frame: at its very end a video shows nothing in some browsers.
    this.element.currentTime = Math.min(seconds, Math.max(0, this.duration - 0.001));
  }
  // Whether it plays, and not where it should.
  astray(wanted) {
    const { readyState, seeking } = this.element;
    return readyState > 2 && !seeking && Math.abs(this.time - wanted) > 0.2;
  }
  dispose() {
    this.element.pause();
    this.element.removeAttribute("src");
    this.element.load();
  }
}

class FramesPlayer {
  constructor(item) {
    const { frames, fps } = item.look;
    this.duration = frames / fps;
    this.fps = fps;
    this.images = Array.from({ length: frames }, (_, index) => {
      const image = new Image();
      image.src = `${fileOf(item)}/frame_${String(index).padStart(5, "0")}.png?${item.stamp}`;
      return image;
    });
    this.images[0].addEventListener("load", () => this.onready?.());
    this.images[0].addEventListener("error", () => this.onerror?.());
    this.element = h("img", { alt: "", src: this.images[0].src });
    this.time = 0;
  }
  play() {
    const start = performance.now() - this.time * 1000;
    const step = (now) => {
      this.seek(((now - start) / 1000) % this.duration);
      this.request = requestAnimationFrame(step);
    };
    this.pause();
    this.request = requestAnimationFrame(step);
  }
  pause() {
    cancelAnimationFrame(this.request);
  }
  seek(seconds) {
    this.time = Math.max(0, seconds);
    const { src } = this.images[Math.min(this.images.length - 1, Math.floor(this.time * this.fps + 1e-6))];
    if (this.element.src !== src) this.element.src = src;
  }
  dispose() {
    this.pause();
  }
}

class AnimationPlayer {
  constructor(item) {
    this.duration = null; // browsers play these as they like
    this.still = thumbnailOf(item) ?? fileOf(item);
    this.moving = fileOf(item);
    this.element = h("img", { alt: "", src: this.still });
    this.element.addEventListener("load", () => this.onready?.());
    this.element.addEventListener("error", () => this.onerror?.());
  }
  play() {
    this.element.src = `${this.moving}?${Date.now()}`;
  } // from its beginning
  pause() {
    this.element.src = this.still;
  }
  seek() {}
  dispose() {}
}

const PLAYERS = { video: VideoPlayer, frames: FramesPlayer, animation: AnimationPlayer };
const moves = (item) => Boolean(item.href && item.look?.media in PLAYERS && item.look.frames);
const playerOf = (item, options) => new PLAYERS[item.look.media](item, options);

// Plays all of `players` by one clock, the longest time round. {element, play(), pause(), dispose()}
class PlayBar {
  constructor(players) {
    this.players = players;
    this.duration = Math.max(0, ...players.map((player) => player.duration ?? 0));
    this.playing = false;
    this.time = 0;
    this.button = iconButton("play", "Play", () => (this.playing ? this.pause() : this.play()));
    this.range = h("input", {
      type: "range",
      min: 0,
      max: this.duration,
      step: "any",
      value: 0,
      "aria-label": "Time",
      oninput: () => {
        const wanted = Number(this.range.value); // before pausing puts it back
        this.pause();
        this.seek(wanted);
      },
    });
    this.label = h("span", { class: "playbar-time" });
    this.element = h("div", { class: "playbar" }, this.button, ...(this.duration ? [this.range, this.label] : []));
    this.show();
  }
  play() {
    this.playing = true;
    this.start = performance.now() - this.time * 1000;
    this.restart();
    this.players.forEach((player) => {
      if (player instanceof AnimationPlayer) player.play();
    });
    const step = (now) => {
      const time = (now - this.start) / 1000;
      if (this.duration && time >= this.duration) {
        this.start = now;
        this.time = 0;
        this.restart();
      } else {
        this.time = time;
        for (const player of this.players) {
          const wanted = Math.min(time, player.duration ?? 0);
          if (player instanceof FramesPlayer) player.seek(wanted);
          else if (player instanceof VideoPlayer && player.astray(wanted)) player.seek(wanted);
        }
      }
      this.show();
      this.request = requestAnimationFrame(step);
    };
    cancelAnimationFrame(this.request);
    this.request = requestAnimationFrame(step);
    this.show();
  }
  // Videos stop at their end until all begin again; animated pictures go round by themselves.
  restart() {
    for (const player of this.players) {
      player.seek(this.time);
      if (player instanceof VideoPlayer) player.play();
    }
  }
  pause() {
    this.playing = false;
    cancelAnimationFrame(this.request);
    this.players.forEach((player) => player.pause());
    this.show();
  }
  seek(seconds) {
    this.time = seconds;
    this.players.forEach((player) => player.seek(seconds));
    this.show();
  }
  show() {
    this.range.value = this.time;
    this.range.style.setProperty("--share", this.duration ? this.time / this.duration : 0);
    this.label.textContent = `${this.time.toFixed(1)} / ${this.duration.toFixed(1)} s`;
    if (this.button.dataset.playing !== String(this.playing)) {
      this.button.dataset.playing = this.playing;
      this.button.replaceChildren(icon(this.playing ? "pause" : "play"));
      this.button.setAttribute("aria-label", this.playing ? "Pause" : "Play");
      this.button.title = this.playing ? "Pause" : "Play";
    }
  }
  dispose() {
    cancelAnimationFrame(this.request);
    this.players.forEach((player) => player.dispose());
  }
}
