// Two to four items side by side: clips in step, assets turned together, and where their recipes differ.

class Compare {
  constructor(dialog, tray, { onclose }) {
    Object.assign(this, { dialog, tray, staged: [], bar: null, onlyDifferent: true });
    dialog.addEventListener("close", () => {
      this.clear();
      onclose();
    });
  }

  // The strip at the window's foot while something is chosen.
  updateTray() {
    const items = marks.picks.map((key) => store.byKey.get(key)).filter(Boolean);
    const had = this.tray.contains(document.activeElement);
    this.tray.hidden = !items.length;
    document.body.classList.toggle("has-tray", items.length > 0);
    this.tray.replaceChildren(
      h(
        "div",
        { class: "tray-items" },
        ...items.map((item) =>
          h(
            "button",
            {
              type: "button",
              class: "tray-item",
              "aria-label": `Leave out ${beginning(item.prompt || item.id, 80)}`,
              title: "Leave out",
              onclick: () => togglePick(item.key),
            },
            thumbnail(item, 48),
          ),
        ),
      ),
      h(
        "button",
        { type: "button", class: "button button-strong", disabled: items.length < 2, onclick: () => this.open() },
        icon("compare"),
        items.length < 2 ? "Choose another" : `Compare ${items.length}`,
      ),
      iconButton("close", "Clear the choice", clearPicks),
    );
    if (had && items.length) this.tray.querySelector("button:enabled:last-of-type")?.focus();
  }

  open() {
    const items = marks.picks.map((key) => store.byKey.get(key)).filter(Boolean);
    if (items.length < 2) return say("Choose two to four with c, or with the tick on a picture");
    this.clear();
    this.staged = items.map((item) => stage(item));
    const players = this.staged.map(({ player }) => player).filter(Boolean);
    this.bar = players.length ? new PlayBar(players) : null;
    this.dialog.style.setProperty("--count", items.length);
    const toggle = h("input", {
      type: "checkbox",
      checked: this.onlyDifferent,
      onchange: () => {
        this.onlyDifferent = toggle.checked;
        rows();
      },
    });
    const body = h("tbody");
    const rows = () => body.replaceChildren(...differences(items, this.onlyDifferent));
    rows();
    this.dialog.replaceChildren(
      h(
        "div",
        { class: "compare-bar" },
        h("h2", { id: "compare-title", text: `Compare ${items.length}` }),
        this.bar?.element ?? null,
        iconButton("close", "Close", () => this.dialog.close(), { class: "round compare-close" }),
      ),
      h(
        "div",
        { class: "compare-body", tabindex: 0, role: "region", "aria-label": "Side by side" },
        h(
          "div",
          { class: "compare-views" },
          ...items.map((item, place) =>
            h(
              "figure",
              {},
              this.staged[place].element,
              h(
                "figcaption",
                {},
                h("span", { class: "prompt", dir: "auto", text: beginning(item.prompt || item.id, 200) }),
                h("span", { class: "meta" }, ...metaOf(item)),
              ),
            ),
          ),
        ),
        h("label", { class: "only" }, toggle, "Only what differs"),
        h(
          "table",
          { class: "compare-table" },
          h(
            "thead",
            {},
            h(
              "tr",
              {},
              h("th", { scope: "col", text: "Key" }),
              ...items.map((item) => h("th", { scope: "col", dir: "auto", text: beginning(item.id, 60) })),
            ),
          ),
          body,
        ),
      ),
    );
    this.dialog.showModal();
    (this.bar?.button ?? this.dialog.querySelector(".compare-close")).focus();
    if (this.bar && !calm.matches) this.bar.play();
    this.turnTogether();
  }

  async turnTogether() {
    const viewers = (await Promise.all(this.staged.map(({ viewer }) => viewer))).filter(Boolean);
    for (const viewer of viewers) {
      viewer.onview = (view) =>
        viewers.forEach((other) => {
          if (other !== viewer) other.turn(view, true);
        });
    }
  }

  clear() {
    this.bar?.dispose();
    this.staged.forEach((staged) => staged.dispose());
    this.bar = null;
    this.staged = [];
    this.dialog.replaceChildren();
  }
}

// Rows of the table: what is known of each item, those that differ marked.
function differences(items, onlyDifferent) {
  const known = items.map(
    (item) =>
      new Map([
        ["model", item.model ?? ""],
        ["seconds", item.seconds === undefined ? "" : duration(item.seconds)],
        ...Object.entries(item.scores ?? {}).map(([name, value]) => [`score: ${name}`, fixed(value)]),
        ...flat(item.recipe ?? {}),
      ]),
  );
  const names = [...new Set(known.flatMap((values) => [...values.keys()]))];
  const rows = names.map((name) => ({ name, values: known.map((values) => values.get(name) ?? "—") }));
  const shown = rows.filter(({ values }) => values.some((value) => value !== "" && value !== "—"));
  const differs = ({ values }) => values.some((value) => value !== values[0]);
  const missing = ({ values }) => values.filter((value) => value === "—").length;
  // What all of them have first: kinds have keys of their own.
  const wanted = (onlyDifferent ? shown.filter(differs) : shown).sort((a, b) => missing(a) - missing(b));
  if (!wanted.length)
    return [
      h("tr", {}, h("td", { class: "compare-same", colspan: items.length + 1, text: "Their recipes are the same." })),
    ];
  return wanted.map((row) =>
    h(
      "tr",
      { class: differs(row) ? "differs" : null },
      keyCell(row.name),
      ...row.values.map((value) => h("td", {}, ...longText(value, 160))),
    ),
  );
}
