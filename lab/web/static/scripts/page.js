// The page as a whole: what happens when data, marks or filters change, and the keys.

const detail = new Detail(byId("detail"), {
  items: () => grid.items,
  onclose: (key) => {
    catchUp();
    grid.reveal(key);
  },
});
const compare = new Compare(byId("compare"), byId("tray"), { onclose: () => grid.reveal(grid.active) });
const grid = new Grid(byId("grid"), { onopen: (key) => detail.open(key) });
const toolbar = new Toolbar(byId("toolbar"), {
  onfilter: () => {
    rememberFilters();
    show();
    scrollToGrid();
  },
  onsize: () => grid.layout(),
});
let waiting = false; // for the visitor: new items that would move what is looked at

function show() {
  waiting = false;
  byId("pending").hidden = true;
  toolbar.update();
  grid.show(shownItems());
  const empty = byId("empty");
  empty.hidden = grid.items.length > 0 || !store.ready;
  if (!empty.hidden) {
    const text = store.total
      ? "Nothing here fits these filters."
      : "No results yet. They appear here as they are made.";
    empty.replaceChildren(
      h("p", { text }),
      ...(store.total && filtering()
        ? [
            h("button", {
              type: "button",
              class: "button",
              text: "Clear filters",
              onclick: () => {
                clearFilters();
                rememberFilters();
                show();
              },
            }),
          ]
        : []),
    );
  }
}

function scrollToGrid() {
  const top = grid.top() - grid.bars().above;
  if (scrollY > top) scrollTo(0, top);
}

// New data. What is being looked at stays in its place: a new order waits until it is asked for.
function renew() {
  summarise();
  compare.updateTray();
  detail.update();
  const next = shownItems();
  const moved = next.length !== grid.items.length || next.some((item, place) => item.key !== grid.items[place].key);
  const looking = scrollY > grid.top() + grid.rowHeight || detail.dialog.open || compare.dialog.open;
  if (!moved || !looking || !grid.items.length) return show();
  waiting = true;
  toolbar.update();
  grid.show(grid.items.map((item) => store.byKey.get(item.key)).filter(Boolean));
  const added = next.filter((item) => !grid.places.has(item.key)).length;
  byId("pending").hidden = detail.dialog.open || compare.dialog.open;
  byId("pending").textContent = added ? `Show ${plural(added, "new result", "new results")}` : "Put in order again";
}

// What waited behind a dialog is shown, or offered, once that is closed.
function catchUp() {
  if (waiting && scrollY <= grid.top() + grid.rowHeight) show();
  else byId("pending").hidden = !waiting;
}

function summarise() {
  const { counts, total } = store;
  const count = (...states) => states.reduce((sum, state) => sum + (counts[state] ?? 0), 0);
  const live = count(...LIVE_STATES);
  const parts = [
    live || count("done") !== total
      ? `${whole(count("done"))} of ${whole(total)} done`
      : plural(total, "result", "results"),
  ];
  for (const state of ["running", "queued", "blocked", ...BAD_STATES, "cancelled"]) {
    if (counts[state]) parts.push(`${whole(counts[state])} ${stateWord(state).toLowerCase()}`);
  }
  byId("title").textContent = document.title = store.title;
  byId("summary").replaceChildren(...parts.map((text) => h("span", { text })));
  const bar = byId("progress");
  const running = Object.values(store.running).reduce((sum, share) => sum + (share ?? 0), 0);
  const shares = { done: count("done"), failed: count(...BAD_STATES), cancelled: count("cancelled"), running };
  bar.hidden = !live;
  for (const [name, share] of Object.entries(shares)) {
    bar.querySelector(`.progress-${name}`).style.width = `${(100 * share) / (total || 1)}%`;
  }
  bar.setAttribute(
    "aria-valuenow",
    Math.round((100 * Object.values(shares).reduce((sum, share) => sum + share)) / (total || 1)),
  );
}

const HINTS = [
  ["/", "search"],
  ["← ↑ ↓ →", "move"],
  ["Enter", "open"],
  ["s", "star"],
  ["c", "choose to compare"],
  ["v", "compare"],
];

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const typing = event.target.matches("input, select, textarea");
  if (event.target === toolbar.search && (event.key === "ArrowDown" || event.key === "Enter") && grid.items.length) {
    event.preventDefault();
    grid.reveal(grid.active ?? grid.items[0].key);
  } else if (event.target === toolbar.search && event.key === "Escape") {
    toolbar.search.blur();
  } else if (typing) {
    return;
  } else if (event.key === "/") {
    event.preventDefault();
    toolbar.search.select();
    toolbar.search.focus();
  } else if (event.key === "v") {
    compare.open();
  } else if (byId("grid").contains(document.activeElement) && grid.active) {
    if (event.key === "s") toggleStar(grid.active);
    if (event.key === "c") togglePick(grid.active);
  } else if (event.key in ARROWS || event.key === "ArrowDown") {
    if (document.activeElement !== document.body || !grid.items.length || event.key === "ArrowDown") return;
    event.preventDefault();
    grid.reveal(grid.active);
  }
});

addEventListener(
  "scroll",
  () => {
    const bar = byId("toolbar");
    bar.classList.toggle("stuck", bar.getBoundingClientRect().top <= 0 && scrollY > 0);
  },
  { passive: true },
);

marks.onchange.push((key) => {
  grid.refresh(key);
  detail.mark();
  compare.updateTray();
  if (filters.starred && !detail.dialog.open) show();
  else toolbar.update();
});
store.onchange.push(renew);
byId("pending").addEventListener("click", () => {
  show();
  scrollToGrid();
});
byId("footer").append(...HINTS.map(([key, text]) => h("span", {}, h("kbd", { text: key }), text)));
recallFilters();
toolbar.search.value = filters.text;
follow();
