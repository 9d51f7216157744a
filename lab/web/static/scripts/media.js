// What an item looks like: small in the grid, large on a stage.

const MARGIN = 24; // CSS pixels round what is on a stage, less where it is small
const TINY = 128; // pixels: results up to this size are shown by their own pixels, enlarged by whole numbers

const shape = (item) => {
  const { width, height } = item.look ?? {};
  return width && height ? { width, height } : { width: 1, height: 1 };
};
const isTiny = (item) => item.look?.media !== "asset" && Math.max(shape(item).width, shape(item).height) <= TINY;

// The size at which a result fills a box of so many CSS pixels: tiny ones by whole pixels of the screen, where that
// does not leave too much of the box empty.
function fitted(item, boxWidth, boxHeight) {
  const { width, height } = shape(item);
  const fit = Math.min(boxWidth / width, boxHeight / height);
  // A little more than the box, or rounding would take a whole pixel from what fills it exactly.
  const whole = Math.floor(fit * devicePixelRatio + 1e-3) / devicePixelRatio;
  const tiny = isTiny(item) && whole > 0.76 * fit;
  const scale = tiny ? whole : fit;
  return { width: width * scale, height: height * scale, tiny };
}

function size(element, item, boxWidth, boxHeight = boxWidth) {
  const { width, height, tiny } = fitted(item, boxWidth, boxHeight);
  element.style.width = `${width}px`;
  element.style.height = `${height}px`;
  element.classList.toggle("tiny", tiny);
  return element;
}

// The small picture of an item, or what stands in its place. brief: what went wrong is said elsewhere.
function thumbnail(item, side, { brief = false } = {}) {
  const source = thumbnailOf(item);
  if (source)
    return size(
      h("img", { class: "picture", src: source, alt: "", draggable: "false", decoding: "async" }),
      item,
      side,
    );
  if (BAD_STATES.includes(item.state))
    return plate("warn", (!brief && item.error) || stateWord(item.state), brief ? "plate-brief" : "plate-bad");
  if (item.look?.text !== undefined)
    return h("span", { class: "plate plate-text", dir: "auto", text: beginning(item.look.text, 600) });
  if (item.look?.media === "asset") return plate("cube", item.look.note ?? "");
  if (item.look?.note ?? item.note) return plate("warn", item.look?.note ?? item.note, "plate-note");
  if (item.state === "done") return plate("text", item.href ? "" : "No file");
  return item.state === "running"
    ? plate(null, stateWord(item.state), "plate-running")
    : plate("clock", stateWord(item.state));
}

const plate = (sign, text, style = "") =>
  h(
    "span",
    { class: `plate ${style}` },
    sign ? icon(sign) : h("span", { class: "ring" }),
    h("span", { class: "plate-words", dir: "auto", text: beginning(text, 240) }),
  );

// What plays over a thumbnail while it is pointed at or has the focus. Returns what ends it.
function hoverPlay(host, item, side) {
  if (calm.matches) return () => {};
  if (moves(item)) {
    const player = playerOf(item, { loop: true });
    size(player.element, item, side).classList.add("picture", "playing");
    player.onready = () => host.append(player.element); // until then the thumbnail
    player.onerror = () => player.element.remove();
    player.play();
    return () => {
      player.dispose();
      player.element.remove();
    };
  }
  if (!item.look?.viewer) return () => {};
  let viewer = null,
    left = false;
  const later = setTimeout(
    () =>
      meshOf(item)
        .then((mesh) => {
          if (left) return;
          viewer = new Viewer(mesh, { spin: true, held: false });
          viewer.canvas.style.width = viewer.canvas.style.height = `${side}px`;
          host.classList.add("turning");
          host.append(viewer.canvas);
        })
        .catch(() => {}),
    160,
  ); // not for a pointer that only passes
  return () => {
    left = true;
    clearTimeout(later);
    host.classList.remove("turning");
    viewer?.dispose();
  };
}

// An item large: {element, player, viewer, dispose()}. player: null where nothing moves; viewer: a promise, of null
// where nothing turns.
function stage(item, { spin = false } = {}) {
  const frame = h("div", { class: "stage-frame" });
  const element = h("div", { class: "stage" }, frame);
  const fit = () => {
    const { clientWidth, clientHeight } = element;
    const margin = 2 * Math.min(MARGIN, 0.03 * clientWidth);
    for (const part of frame.children) {
      if (part.matches("img, video")) size(part, item, clientWidth - margin, clientHeight - margin);
    }
  };
  const observer = new ResizeObserver(fit);
  observer.observe(element);
  const note = (text) => element.append(h("p", { class: "stage-note", text }));
  const source = item.look?.media === "image" && item.href ? `${item.href}?${item.stamp}` : thumbnailOf(item);
  frame.append(
    source
      ? h("img", { src: source, alt: beginning(item.prompt || item.id, 200) })
      : thumbnail(item, 320, { brief: true }),
  );
  let player = null,
    viewer = Promise.resolve(null),
    gone = false;
  let leave = () => {};
  if (moves(item)) {
    player = playerOf(item);
    player.onready = () => {
      frame.replaceChildren(player.element);
      fit();
    };
    player.onerror = () =>
      note(`This browser does not play ${item.output.split(".").pop()} files: this is its middle frame.`);
    leave = () => player.dispose();
  } else if (item.look?.viewer) {
    const keys = "Arrow keys turn it, plus and minus zoom, 0 resets.";
    const label = `3D view of ${beginning(item.prompt || item.id, 120)}. ${keys}`;
    viewer = meshOf(item)
      .then((mesh) => {
        if (gone) return null;
        const made = new Viewer(mesh, { label, spin });
        frame.replaceChildren(made.canvas);
        leave = () => made.dispose();
        return made;
      })
      .catch((error) => {
        note(`It cannot be turned here: ${error.message}.`);
        return null;
      });
  } else if (thumbnailOf(item) && item.look.note) note(item.look.note);
  return {
    element,
    player,
    viewer,
    dispose() {
      gone = true;
      observer.disconnect();
      leave();
    },
  };
}
