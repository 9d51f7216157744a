// Search, order, size of the pictures, and chips that filter.

const SIZES = [128, 192, 256, 320]; // CSS pixels that a picture is wide, about
const SHOWN_CHIPS = 8; // of a facet, before the rest is asked for
const SIZE = "kinoform-size";

const look = { size: SIZES[2] };
try {
  if (SIZES.includes(Number(localStorage.getItem(SIZE)))) look.size = Number(localStorage.getItem(SIZE));
} catch {
  // No storage here: the usual size.
}

class Toolbar {
  // onfilter: called when what is shown, or its order, is to change. onsize: when the pictures' size is.
  constructor(host, { onfilter, onsize }) {
    Object.assign(this, { host, onfilter, onsize, opened: new Set() });
    this.search = h("input", {
      type: "search",
      id: "search",
      placeholder: "Search prompts",
      "aria-label": "Search prompts",
      autocomplete: "off",
      spellcheck: "false",
      value: filters.text,
      oninput: () => {
        filters.text = this.search.value;
        onfilter();
      },
    });
    this.sort = h("select", {
      id: "sort",
      "aria-label": "Order",
      onchange: () => {
        filters.sort = this.sort.value;
        onfilter();
      },
    });
    this.starred = h("button", {
      type: "button",
      class: "chip chip-star",
      "aria-pressed": "false",
      onclick: () => {
        filters.starred = !filters.starred;
        onfilter();
      },
    });
    this.export = iconButton("download", "Write the stars to a file", exportStars);
    this.chips = h("div", { class: "chips" });
    const sizes = h(
      "div",
      { class: "sizes", role: "group", "aria-label": "Size of the pictures" },
      iconButton("small", "Smaller pictures", () => this.resize(-1)),
      iconButton("large", "Larger pictures", () => this.resize(1)),
    );
    host.append(
      h(
        "div",
        { class: "toolbar-row" },
        h("label", { class: "search" }, icon("search"), this.search, h("kbd", { text: "/", "aria-hidden": "true" })),
        h("label", { class: "order" }, h("span", { text: "Sort" }), this.sort),
        sizes,
      ),
      this.chips,
    );
  }

  resize(step) {
    look.size = SIZES[Math.max(0, Math.min(SIZES.length - 1, SIZES.indexOf(look.size) + step))];
    try {
      localStorage.setItem(SIZE, look.size);
    } catch {
      // As above.
    }
    this.onsize();
  }

  update() {
    if (document.activeElement !== this.search) this.search.value = filters.text;
    this.updateSort();
    const focused = this.chips.contains(document.activeElement) ? document.activeElement.dataset.chip : null;
    const groups = FACETS.map((facet) => this.facet(facet)).filter(Boolean);
    const starred = store.items.filter((item) => marks.stars.has(item.key)).length;
    if (starred || filters.starred) groups.push(this.stars(starred));
    if (filtering()) {
      groups.push(
        h("button", {
          type: "button",
          class: "clear",
          "data-chip": "clear",
          text: "Clear filters",
          onclick: () => {
            clearFilters();
            this.onfilter();
          },
        }),
      );
    }
    this.chips.replaceChildren(...groups);
    this.chips.hidden = !groups.length;
    if (focused) this.chips.querySelector(`[data-chip="${CSS.escape(focused)}"]`)?.focus();
  }

  updateSort() {
    const options = [
      ["newest", "Newest"],
      ["name", "Name"],
      ["prompt", "Prompt"],
      ["time", "Time taken"],
      ...scoreNames().map((name) => [`score:${name}`, `Score: ${name}`]),
    ];
    if (!options.some(([value]) => value === filters.sort) && store.ready) filters.sort = "newest";
    if (this.sort.dataset.options !== JSON.stringify(options)) {
      this.sort.dataset.options = JSON.stringify(options);
      this.sort.replaceChildren(...options.map(([value, text]) => h("option", { value, text })));
    }
    this.sort.value = filters.sort;
  }

  facet(facet) {
    const chosen = filters.chosen[facet.name];
    const counts = facetCounts(facet);
    if (counts.length < 2 && !chosen.size) return null;
    const all = this.opened.has(facet.name) || counts.length <= SHOWN_CHIPS + 1;
    const shown = all ? counts : counts.filter(([value], place) => place < SHOWN_CHIPS || chosen.has(value));
    const chips = shown.map(([value, count]) =>
      h(
        "button",
        {
          type: "button",
          class: `chip${BAD_STATES.includes(value) ? " chip-bad" : ""}${count ? "" : " chip-none"}`,
          "aria-pressed": String(chosen.has(value)),
          "data-chip": `${facet.name}:${value}`,
          onclick: () => {
            if (!chosen.delete(value)) chosen.add(value);
            this.onfilter();
          },
        },
        h("span", { dir: "auto", text: beginning(facet.word(value), 40) }),
        h("span", { class: "chip-count", text: whole(count) }),
      ),
    );
    if (!all) {
      chips.push(
        h("button", {
          type: "button",
          class: "chip chip-more",
          "data-chip": `${facet.name}:…`,
          text: `${counts.length - shown.length} more`,
          onclick: () => {
            this.opened.add(facet.name);
            this.update();
          },
        }),
      );
    }
    return h(
      "div",
      { class: "facet", role: "group", "aria-label": facet.label },
      h("span", { class: "facet-name", text: facet.label }),
      ...chips,
    );
  }

  stars(count) {
    this.starred.setAttribute("aria-pressed", String(filters.starred));
    this.starred.dataset.chip = "starred";
    this.starred.replaceChildren(
      icon("star"),
      h("span", { text: "Starred" }),
      h("span", { class: "chip-count", text: whole(count) }),
    );
    this.export.dataset.chip = "export";
    return h("div", { class: "facet", role: "group", "aria-label": "Stars" }, this.starred, this.export);
  }
}
