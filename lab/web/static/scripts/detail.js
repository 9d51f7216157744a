// One item large, with all that is known of it.

const LONG = 420; // characters of a text that are shown before the rest is asked for

class Detail {
  // items: () -> those shown, in order, through which the arrows go.
  constructor(dialog, { items, onclose }) {
    Object.assign(this, { dialog, items, onclose, key: null, staged: null });
    dialog.addEventListener("close", () => {
      this.clear();
      onclose(this.key);
    });
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog) dialog.close();
    });
    dialog.addEventListener("keydown", (event) => this.keydown(event));
  }

  open(key) {
    this.fill(key);
    if (!this.dialog.open) this.dialog.showModal();
    this.bar?.button.focus();
    if (!this.bar) this.dialog.querySelector(".detail-close").focus();
    if (this.bar && !calm.matches) this.bar.play();
  }

  clear() {
    this.bar?.dispose();
    this.staged?.dispose();
    this.bar = this.staged = null;
    this.dialog.replaceChildren();
  }

  fill(key) {
    const item = store.byKey.get(key);
    if (!item) return;
    this.clear();
    this.key = key;
    this.item = item;
    this.staged = stage(item, { spin: true });
    this.bar = this.staged.player ? new PlayBar([this.staged.player]) : null;
    this.star = h("button", { type: "button", class: "button", onclick: () => toggleStar(key) });
    this.pick = h("button", { type: "button", class: "button", onclick: () => togglePick(key) });
    const items = this.items();
    const place = items.findIndex((other) => other.key === key);
    const step = (by, name, label) =>
      iconButton(name, label, () => this.step(by), items[place + by] ? {} : { disabled: true });
    this.dialog.replaceChildren(
      h(
        "div",
        { class: "detail-view" },
        this.staged.element,
        this.bar?.element,
        item.look?.viewer
          ? h(
              "p",
              { class: "hint" },
              h("span", { class: "with-mouse", text: "Drag or use the arrow keys to turn, scroll to zoom" }),
              h("span", { class: "with-touch", text: "Drag to turn, pinch to zoom" }),
            )
          : null,
      ),
      h(
        "div",
        { class: "detail-words" },
        h(
          "div",
          { class: "detail-bar" },
          h("span", {
            class: "detail-place",
            text: place < 0 ? "" : `${whole(place + 1)} of ${whole(items.length)}`,
          }),
          step(-1, "back", "Previous"),
          step(1, "next", "Next"),
          iconButton("close", "Close", () => this.dialog.close(), { class: "round detail-close" }),
        ),
        ...this.words(item),
      ),
    );
    this.mark();
  }

  words(item) {
    const title = h("h2", { id: "detail-title", class: "detail-prompt" }, ...longText(item.prompt || item.id, LONG));
    const parts = [this.kicker(item), title];
    if (item.error)
      parts.push(section("What went wrong", h("p", { class: "detail-error" }, ...longText(item.error, 1200))));
    const note = item.note ?? (BAD_STATES.includes(item.state) ? null : item.look?.note);
    if (note) parts.push(h("p", { class: "detail-note", text: note }));
    parts.push(this.buttons(item), this.scores(item), this.facts(item));
    if (item.look?.text !== undefined)
      parts.push(section("Text", h("pre", { class: "detail-text", dir: "auto", tabindex: 0 }, item.look.text)));
    if (item.command) parts.push(this.command(item));
    if (item.recipe) parts.push(section("Recipe", table(flat(item.recipe))));
    return parts.filter(Boolean);
  }

  kicker(item) {
    return h(
      "p",
      { class: "kicker" },
      h("span", { text: capital(item.step) }),
      h("span", { class: `state state-${item.state}`, text: stateWord(item.state) }),
    );
  }

  buttons(item) {
    return h(
      "div",
      { class: "buttons" },
      this.star,
      this.pick,
      item.href && item.look?.media !== "frames" ? fileButton(item) : null,
    );
  }

  scores(item) {
    const entries = Object.entries(item.scores ?? {});
    return entries.length
      ? h(
          "dl",
          { class: "scores" },
          ...entries.map(([name, value]) => h("div", {}, h("dt", { text: name }), h("dd", { text: fixed(value) }))),
        )
      : null;
  }

  facts(item) {
    const { look = {} } = item;
    const entries = [
      ["Template", item.template === item.prompt ? null : item.template],
      ["Model", item.model],
      ["Seed", item.seed],
      ["Time", item.seconds === undefined ? null : duration(item.seconds)],
      ["Size", look.width ? `${look.width} × ${look.height}` : null],
      ["Length", look.frames ? `${look.frames} frames, ${fixed(look.fps)} a second` : null],
      ["Mesh", look.faces ? `${whole(look.faces)} faces, ${whole(look.vertices)} vertices` : null],
      ["Tags", item.tags?.join(", ")],
      ["Name", item.id === item.output ? null : item.id],
      ["File", this.file(item)],
    ].filter(([, value]) => value !== null && value !== undefined && value !== "");
    return h(
      "dl",
      { class: "facts" },
      ...entries.map(([name, value]) =>
        h(
          "div",
          {},
          h("dt", { text: name }),
          h("dd", {}, ...(value instanceof Node ? [value] : longText(String(value), 160))),
        ),
      ),
    );
  }

  file(item) {
    if (!item.href) return null;
    const folder = item.look?.media === "frames";
    return h(
      "span",
      {},
      h("a", {
        href: folder ? `${item.href}/` : item.href,
        target: "_blank",
        rel: "noopener",
        dir: "auto",
        text: item.output,
      }),
      folder ? null : h("span", { class: "file-size", text: fileSize(item.bytes) }),
    );
  }

  command(item) {
    const copy = iconButton("copy", "Copy the command", async () =>
      say((await copied(item.command)) ? "Copied" : "Select the command to copy it"),
    );
    return section(
      "Make it again",
      h("div", { class: "command" }, h("code", { dir: "ltr", tabindex: 0, text: item.command }), copy),
      h("p", { class: "hint", text: "In the folder of this page" }),
    );
  }

  mark() {
    if (!this.staged) return;
    const starred = marks.stars.has(this.key),
      picked = marks.picks.includes(this.key);
    this.star.setAttribute("aria-pressed", String(starred));
    this.star.replaceChildren(icon("star"), starred ? "Starred" : "Star");
    this.pick.setAttribute("aria-pressed", String(picked));
    this.pick.replaceChildren(icon(picked ? "check" : "compare"), picked ? "Chosen" : "Compare");
  }

  // What it shows has changed on disk.
  update() {
    const now = store.byKey.get(this.key);
    if (!this.dialog.open || !now || now === this.item) return;
    const { scrollTop } = this.dialog.querySelector(".detail-words");
    this.fill(this.key);
    this.dialog.querySelector(".detail-words").scrollTop = scrollTop;
    this.dialog.querySelector(".detail-close").focus();
  }

  step(by) {
    const items = this.items();
    const next = items[items.findIndex((item) => item.key === this.key) + by];
    if (!next) return;
    this.open(next.key);
    this.dialog.querySelector(`[aria-label="${by < 0 ? "Previous" : "Next"}"]:enabled`)?.focus();
  }

  keydown(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, pre, canvas")) return;
    if (event.key === "ArrowLeft") this.step(-1);
    else if (event.key === "ArrowRight") this.step(1);
    else if (event.key === "s") toggleStar(this.key);
    else if (event.key === "c") togglePick(this.key);
    else return;
    event.preventDefault();
  }
}

// From disk, browsers open what they can show, whatever a link says of downloading: then it is to be another tab.
function fileButton(item) {
  const saved = location.protocol !== "file:" || ["asset", "file"].includes(item.look?.media);
  return h(
    "a",
    {
      class: "button",
      href: item.href,
      target: "_blank",
      rel: "noopener",
      download: saved && item.output.split("/").pop(),
    },
    icon(saved ? "download" : "open"),
    saved ? "Download" : "Open file",
  );
}

const section = (title, ...children) =>
  h("section", { class: "detail-section" }, h("h3", { text: title }), ...children);

const table = (entries) =>
  h(
    "table",
    { class: "recipe" },
    h(
      "tbody",
      {},
      ...entries.map(([name, value]) => h("tr", {}, keyCell(name), h("td", {}, ...longText(value, 200)))),
    ),
  );

// The name of a key, which may break after an underscore or a dot.
const keyCell = (name) =>
  h(
    "th",
    { scope: "row" },
    ...beginning(name, 200)
      .split(/(?<=[_.])/)
      .flatMap((part, place) => (place ? [h("wbr"), part] : [part])),
  );

// A recipe's values as texts, those inside of others by their path.
function flat(values, before = "") {
  return Object.entries(values).flatMap(([name, value]) => {
    const inside = value && typeof value === "object" && !Array.isArray(value) && Object.keys(value).length;
    if (inside) return flat(value, `${before}${name}.`);
    return [
      [
        `${before}${name}`,
        value === null ? "none" : typeof value === "string" ? value || "empty" : JSON.stringify(value),
      ],
    ];
  });
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Pages from disk may not, in some browsers: the older way.
    const place = h("textarea", { "aria-hidden": "true", class: "offscreen" });
    place.value = text;
    (document.querySelector("dialog[open]") ?? document.body).append(place);
    place.select();
    const done = document.execCommand("copy");
    place.remove();
    return done;
  }
}
