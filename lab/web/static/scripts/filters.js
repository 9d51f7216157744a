// Which items are shown, and in which order. A facet's chosen values add to each other; facets narrow one another.

const FACETS = [
  { name: "state", label: "State", of: (item) => [item.state], word: stateWord, order: Object.keys(STATE_WORDS) },
  { name: "step", label: "Kind", of: (item) => [item.step], word: capital },
  { name: "model", label: "Model", of: (item) => (item.model ? [item.model] : []), word: (name) => name },
  { name: "tag", label: "Tag", of: (item) => item.tags ?? [], word: (name) => name },
];

const filters = {
  text: "",
  starred: false,
  sort: "newest",
  chosen: Object.fromEntries(FACETS.map(({ name }) => [name, new Set()])),
};

const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
const haystacks = new WeakMap(); // item -> its words in lower case

function haystack(item) {
  if (!haystacks.has(item)) {
    const words = [item.prompt, item.id, item.template, ...(item.tags ?? [])];
    haystacks.set(item, words.filter(Boolean).join("\n").toLowerCase());
  }
  return haystacks.get(item);
}

// except: a facet that is left out of it, for the counts on its chips.
function matcher(except) {
  const words = filters.text.toLowerCase().split(/\s+/).filter(Boolean);
  const facets = FACETS.filter(({ name }) => name !== except && filters.chosen[name].size);
  return (item) =>
    (!filters.starred || marks.stars.has(item.key)) &&
    facets.every(({ name, of }) => of(item).some((value) => filters.chosen[name].has(value))) &&
    words.every((word) => haystack(item).includes(word));
}

// Values of a facet with how many items each would show.
function facetCounts(facet) {
  const counts = new Map();
  for (const item of store.items) for (const value of facet.of(item)) counts.set(value, counts.get(value) ?? 0);
  const fits = matcher(facet.name);
  for (const item of store.items) {
    if (fits(item)) for (const value of facet.of(item)) counts.set(value, counts.get(value) + 1);
  }
  const place = (value) => (facet.order ? facet.order.indexOf(value) : 0);
  return [...counts].sort(([a], [b]) => place(a) - place(b) || collator.compare(a, b));
}

const scores = { of: null, names: [] };

function scoreNames() {
  if (scores.of !== store.items) {
    const names = new Set();
    for (const item of store.items) for (const name in item.scores) names.add(name);
    Object.assign(scores, { of: store.items, names: [...names].sort() });
  }
  return scores.names;
}

// The score that a card shows: the one that is sorted by, or else the first.
function scoreOf(item) {
  const name = filters.sort.startsWith("score:") ? filters.sort.slice(6) : Object.keys(item.scores ?? {})[0];
  const value = item.scores?.[name];
  return value === undefined ? null : { name, value };
}

const number = (value) => (typeof value === "number" ? value : -Infinity);
const ORDERS = {
  newest: (a, b) => (b.state === "running") - (a.state === "running") || number(b.when) - number(a.when) || 0,
  name: (a, b) => collator.compare(a.id, b.id),
  prompt: (a, b) => collator.compare(a.prompt ?? "", b.prompt ?? ""),
  time: (a, b) => number(b.seconds) - number(a.seconds) || 0,
  score: (a, b) => number(scoreOf(b)?.value) - number(scoreOf(a)?.value) || 0, // equal infinities differ by NaN
};

function shownItems() {
  const order = ORDERS[filters.sort.split(":")[0]] ?? ORDERS.newest;
  return store.items.filter(matcher()).sort((a, b) => order(a, b) || a.place - b.place);
}

const filtering = () =>
  filters.text.trim() || filters.starred || FACETS.some(({ name }) => filters.chosen[name].size);

function clearFilters() {
  filters.text = "";
  filters.starred = false;
  FACETS.forEach(({ name }) => filters.chosen[name].clear());
}

// In the address, so that a reload and a bookmark show the same.
function rememberFilters() {
  const words = new URLSearchParams();
  if (filters.text.trim()) words.set("q", filters.text);
  if (filters.starred) words.set("starred", "1");
  if (filters.sort !== "newest") words.set("sort", filters.sort);
  FACETS.forEach(({ name }) => filters.chosen[name].forEach((value) => words.append(name, value)));
  try {
    history.replaceState(null, "", `#${words}`);
  } catch {
    // Some browsers refuse it for pages from disk.
  }
}

function recallFilters() {
  const words = new URLSearchParams(location.hash.slice(1));
  filters.text = words.get("q") ?? "";
  filters.starred = words.has("starred");
  filters.sort = words.get("sort") ?? "newest";
  FACETS.forEach(({ name }) => words.getAll(name).forEach((value) => filters.chosen[name].add(value)));
}
