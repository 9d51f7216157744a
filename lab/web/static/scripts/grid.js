// The grid. Only the rows near the window are in the page, each card at its place in a box as high as all of them.

const NEAR = 1.2; // windows above and below that are kept ready
const CAPTION = 62,
  LINE = 20; // pixels below a picture, and more where a prompt takes a second line
const ARROWS = { ArrowLeft: -1, ArrowRight: 1 };

class Grid {
  constructor(host, { onopen }) {
    Object.assign(this, { host, onopen, items: [], places: new Map(), cards: new Map(), active: null });
    new ResizeObserver(() => this.layout()).observe(document.documentElement);
    addEventListener("scroll", () => this.ask(), { passive: true });
    host.addEventListener("keydown", (event) => this.key(event));
    host.addEventListener("focusin", (event) => this.activate(event.target.closest(".card")?.dataset.key));
  }

  // Shows these items in this order.
  show(items) {
    this.items = items;
    this.places = new Map(items.map((item, place) => [item.key, place]));
    if (!this.places.has(this.active)) this.active = items[0]?.key ?? null;
    this.layout();
    const focused = document.activeElement;
    const sorted = [...this.cards.values()].sort((a, b) => this.places.get(a.item.key) - this.places.get(b.item.key));
    if (sorted.some((card, place) => this.host.children[place] !== card.element)) {
      this.host.append(...sorted.map((card) => card.element));
      if (this.host.contains(focused)) focused.focus({ preventScroll: true });
    }
  }

  // Cards are as wide as whole pixels of the world's 64 fill; what is left over goes to the page's margins.
  layout() {
    const room = document.documentElement.clientWidth;
    const narrow = room < 560;
    const gap = narrow ? 16 : 24;
    const width = room - 2 * (narrow ? 16 : 28);
    const unit = 64 / devicePixelRatio;
    const columns = Math.max(narrow && look.size < 320 ? 2 : 1, Math.floor((width + gap) / (look.size + gap)));
    const fill = (width - gap * (columns - 1)) / columns;
    const side = Math.floor(fill / unit) * unit || Math.floor(fill);
    const first = this.columns && scrollY > this.top() ? this.items[this.firstRow() * this.columns]?.key : null;
    const oneLine = this.items.every((item) => promptWidth(item) < side - 4);
    const rowHeight = side + (oneLine ? CAPTION : CAPTION + LINE) + gap;
    const changed = columns !== this.columns || side !== this.side || rowHeight !== this.rowHeight;
    Object.assign(this, { columns, side, gap, rowHeight });
    const inside = columns * side + (columns - 1) * gap;
    document.documentElement.style.setProperty("--edge", `${(room - inside) / 2}px`);
    this.host.style.height = `${Math.max(0, Math.ceil(this.items.length / columns) * rowHeight - gap)}px`;
    this.host.style.setProperty("--side", `${side}px`);
    this.host.style.setProperty("--caption", `${rowHeight - side - gap}px`);
    if (changed) {
      this.cards.forEach((card) => {
        card.leave();
        card.element.remove();
      });
      this.cards.clear();
      if (first !== null && this.places.has(first)) {
        scrollTo(0, this.top() + Math.floor(this.places.get(first) / columns) * rowHeight - this.bars().above);
      }
    }
    this.render();
  }

  top() {
    return this.host.getBoundingClientRect().top + scrollY;
  }
  firstRow() {
    return Math.max(0, Math.floor((scrollY - this.top()) / this.rowHeight));
  }

  // What covers the window's edges.
  bars() {
    const bar = byId("toolbar"),
      tray = byId("tray");
    const sticky = getComputedStyle(bar).position === "sticky";
    return { above: (sticky ? bar.offsetHeight : 0) + 12, below: tray.hidden ? 12 : tray.offsetHeight + 24 };
  }

  ask() {
    this.request ??= requestAnimationFrame(() => {
      this.request = null;
      this.render();
    });
  }

  render() {
    if (!this.columns) return;
    const above = scrollY - this.top();
    const from = Math.max(0, Math.floor((above - NEAR * innerHeight) / this.rowHeight)) * this.columns;
    const to = Math.min(
      this.items.length,
      Math.ceil((above + (1 + NEAR) * innerHeight) / this.rowHeight) * this.columns,
    );
    const active = this.places.get(this.active);
    const focused = this.host.contains(document.activeElement);
    if (!focused && active !== undefined && (active < from || active >= to)) {
      this.active = this.items[Math.min(this.items.length - 1, this.firstRow() * this.columns)]?.key ?? null;
    }
    const wanted = new Map();
    for (let place = from; place < to; place++) wanted.set(this.items[place].key, place);
    if (focused && active !== undefined) wanted.set(this.active, active);
    for (const [key, card] of this.cards) {
      if (!wanted.has(key)) {
        card.leave();
        card.element.remove();
        this.cards.delete(key);
      }
    }
    for (const [key, place] of [...wanted].sort((a, b) => a[1] - b[1])) this.place(key, place);
  }

  place(key, place) {
    const item = this.items[place];
    let card = this.cards.get(key);
    if (!card) {
      card = new Card(item, this);
      this.cards.set(key, card);
      const after = [...this.cards.values()]
        .filter(({ place: other }) => other > place)
        .sort((a, b) => a.place - b.place)[0];
      this.host.insertBefore(card.element, after?.element ?? null);
    } else if (card.item !== item) card.fill(item);
    card.put(place, this);
  }

  refresh(key) {
    this.cards.get(key)?.mark();
  }

  activate(key) {
    if (key === undefined || key === this.active) return;
    const before = this.cards.get(this.active);
    this.active = key;
    before?.mark();
    this.cards.get(key)?.mark();
  }

  // Brings an item into the window; focus: and gives it the focus.
  reveal(key, { focus = true } = {}) {
    const place = this.places.get(key);
    if (place === undefined) return;
    const { above, below } = this.bars();
    const top = this.top() + Math.floor(place / this.columns) * this.rowHeight;
    if (top < scrollY + above) scrollTo(0, top - above);
    else if (top + this.rowHeight > scrollY + innerHeight - below)
      scrollTo(0, top + this.rowHeight + below - innerHeight);
    this.activate(key);
    this.render();
    if (!this.cards.has(key)) this.place(key, place);
    if (focus) this.cards.get(key).open.focus({ preventScroll: true });
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const place = this.places.get(this.active);
    const page = Math.max(1, Math.floor(innerHeight / this.rowHeight)) * this.columns;
    const steps = {
      ...ARROWS,
      ArrowUp: -this.columns,
      ArrowDown: this.columns,
      PageUp: -page,
      PageDown: page,
      Home: -Infinity,
      End: Infinity,
    };
    if (!(event.key in steps) || place === undefined) return;
    event.preventDefault();
    const wanted = place + steps[event.key];
    const last = this.items.length - 1;
    // Up and down stay in their column; where there is no card they stay.
    const sideways = event.key in ARROWS || Math.abs(steps[event.key]) === Infinity;
    if (!sideways && Math.abs(steps[event.key]) === this.columns && (wanted < 0 || wanted > last)) return;
    this.reveal(this.items[Math.max(0, Math.min(last, wanted))].key);
  }
}

class Card {
  constructor(item, grid) {
    this.grid = grid;
    this.media = h("span", { class: "media" });
    this.caption = h("span", { class: "caption" });
    this.open = h(
      "button",
      { type: "button", class: "open", onclick: () => grid.onopen(this.item.key) },
      this.media,
      this.caption,
    );
    this.star = iconButton("star", "Star", () => toggleStar(this.item.key), { tabindex: -1 });
    this.pick = iconButton("check", "Compare", () => togglePick(this.item.key), { tabindex: -1 });
    this.element = h("li", { class: "card" }, this.open, h("span", { class: "marks" }, this.pick, this.star));
    this.leave = () => {};
    for (const [type, enters] of [
      ["pointerenter", true],
      ["pointerleave", false],
      ["focusin", true],
      ["focusout", false],
    ]) {
      this.element.addEventListener(type, (event) => {
        if (event.pointerType === "touch") return;
        if (type === "focusin" && !this.open.matches(":focus-visible")) return;
        this.leave();
        this.leave = enters ? hoverPlay(this.media, this.item, grid.side) : () => {};
      });
    }
    this.fill(item);
  }

  fill(item) {
    this.leave();
    this.item = item;
    this.element.dataset.key = item.key;
    this.element.dataset.state = item.state;
    this.media.replaceChildren(thumbnail(item, this.grid.side), ...[badge(item)].filter(Boolean));
    this.ring = item.state === "running" ? this.media.querySelector(".plate") : null;
    const words = item.prompt || item.id;
    this.caption.replaceChildren(
      h("span", { class: "prompt", dir: "auto", text: beginning(words, 200) }),
      h("span", { class: "meta" }, ...metaOf(item)),
    );
    this.mark();
  }

  put(place, { columns, side, gap, rowHeight, items }) {
    this.place = place;
    const x = (place % columns) * (side + gap);
    const y = Math.floor(place / columns) * rowHeight;
    this.element.style.transform = `translate(${x}px, ${y}px)`;
    this.element.setAttribute("aria-posinset", place + 1);
    this.element.setAttribute("aria-setsize", items.length);
    if (this.ring) showShare(this.ring, store.running[this.item.key]);
  }

  mark() {
    const { key } = this.item;
    this.star.setAttribute("aria-pressed", String(marks.stars.has(key)));
    this.pick.setAttribute("aria-pressed", String(marks.picks.includes(key)));
    this.open.tabIndex = key === this.grid.active ? 0 : -1;
  }
}

const widths = new WeakMap(); // item -> how wide its prompt is on one line
const pen = document.createElement("canvas").getContext("2d");

function promptWidth(item) {
  if (!widths.has(item)) {
    if (!pen.font.includes("14px")) pen.font = `500 14px ${getComputedStyle(document.body).fontFamily}`;
    widths.set(item, pen.measureText(beginning(item.prompt || item.id, 200)).width);
  }
  return widths.get(item);
}

// How far a running item is, where that is known.
function showShare(plate, share) {
  plate.classList.toggle("plate-measured", typeof share === "number");
  plate.style.setProperty("--share", share ?? 0.25);
  plate.querySelector(".plate-words").textContent =
    typeof share === "number" ? `${Math.round(100 * share)} %` : STATE_WORDS.running;
}

// The small sign on a picture: how long it plays, or that it turns.
function badge(item) {
  if (!item.look || !thumbnailOf(item)) return null;
  if (item.look.frames) {
    const sign = item.look.media === "frames" ? "frames" : "play";
    return h("span", { class: "badge" }, icon(sign), `${(item.look.frames / item.look.fps).toFixed(1)} s`);
  }
  return item.look.media === "asset" ? h("span", { class: "badge" }, icon("cube"), "3D") : null;
}

function metaOf(item) {
  const parts = [h("span", { class: "meta-kind", text: capital(item.step) })];
  if (item.state !== "done")
    parts.push(h("span", { class: `meta-state state-${item.state}`, text: stateWord(item.state) }));
  else if (item.seed !== undefined)
    parts.push(h("span", { class: "meta-seed", text: `Seed ${beginning(item.seed, 9)}` }));
  const score = scoreOf(item);
  if (score)
    parts.push(
      h("span", {
        class: "meta-score",
        title: score.name,
        text: typeof score.value === "number" ? score.value.toFixed(3) : score.value,
      }),
    );
  else if (item.seconds !== undefined)
    parts.push(h("span", { class: "meta-score meta-time", text: duration(item.seconds) }));
  return parts;
}
