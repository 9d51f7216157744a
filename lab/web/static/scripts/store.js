// What the page shows, as the data files say it. They are scripts that call window.kinoform: see lab/web/page.py.

const store = {
  title: "",
  total: 0,
  counts: {},
  running: {},
  items: [],
  byKey: new Map(),
  ready: false,
  onchange: [],
};

const FIRST_POLL = 1500,
  CALM_POLL = 5000; // milliseconds: while work goes on, and when all is done
const chunks = []; // of items
const revisions = []; // of chunks, as loaded
const meshes = new Map(); // key -> promise of a mesh, the last few
const awaited = new Map(); // key -> what to call with a GLB
const MESHES_KEPT = 8;
let told = { title: "", total: 0, counts: {}, running: {}, chunks: [] };

window.kinoform = {
  state: (value) => {
    told = value;
  },
  items: (value) => {
    chunks[value.chunk] = value.items.map(kept);
    revisions[value.chunk] = value.revision;
  },
  asset: (value) => awaited.get(value.key)?.(value.glb),
};

// The item as it was, where nothing of it has changed: what shows it stays as it is.
function kept(item) {
  const before = store.byKey.get(item.key);
  return before && JSON.stringify(before) === JSON.stringify({ ...item, place: before.place }) ? before : item;
}

function loadScript(path) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = `.page/${path}`;
    script.onload = () => {
      script.remove();
      resolve();
    };
    script.onerror = () => {
      script.remove();
      reject(new Error(path));
    };
    document.head.append(script);
  });
}

async function refresh() {
  const before = JSON.stringify(told);
  await loadScript(`state.js?${Date.now()}`);
  const changed = told.chunks.map((revision, number) => [number, revision]).filter(([n, r]) => revisions[n] !== r);
  // One that is missing just now comes with the next look.
  await Promise.allSettled(
    changed.map(([number, revision]) => loadScript(`items-${String(number).padStart(3, "0")}.js?${revision}`)),
  );
  if (store.ready && !changed.length && JSON.stringify(told) === before) return;
  chunks.length = revisions.length = told.chunks.length;
  const { title, total, counts, running } = told;
  const items = [...chunks].flatMap((chunk) => chunk ?? []);
  Object.assign(store, { title, total, counts, running, items, ready: true });
  store.byKey = new Map(items.map((item, place) => [item.key, Object.assign(item, { place })]));
  store.onchange.forEach((listen) => listen());
}

async function follow() {
  try {
    if (!document.hidden || !store.ready) await refresh();
  } catch {
    // The folder is being written or has moved: the next look tells.
  }
  setTimeout(follow, LIVE_STATES.some((state) => told.counts[state]) ? FIRST_POLL : CALM_POLL);
}

// The mesh of an asset, from its script.
function meshOf(item) {
  const id = `${item.key}?${item.stamp}`;
  if (!meshes.has(id)) {
    const glb = new Promise((resolve) => awaited.set(item.key, resolve));
    const mesh = loadScript(`assets/${id.replace("?", ".js?")}`)
      .then(() => glb)
      .then((text) => readGlb(bytesOf(text)));
    mesh.catch(() => meshes.delete(id));
    meshes.set(id, mesh);
    if (meshes.size > MESHES_KEPT) meshes.delete(meshes.keys().next().value);
  }
  return meshes.get(id);
}

const bytesOf = (base64) => Uint8Array.from(atob(base64), (sign) => sign.charCodeAt(0)).buffer;

// Where things of an item lie, seen from the page.
function thumbnailOf(item) {
  if (item.look?.small) return `${item.href}?${item.stamp}`; // a tiny picture is its own
  return item.look?.thumbnail ? `.page/thumbnails/${item.key}.webp?${item.stamp}` : null;
}
const fileOf = (item) => item.href ?? null;
