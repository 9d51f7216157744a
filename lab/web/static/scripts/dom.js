// Elements, icons and words. Text reaches the page as textContent alone: nothing here reads HTML.

const byId = (id) => document.getElementById(id);

// props: attributes; besides them `text`, and `onclick` and its like.
function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "text") element.textContent = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const ICONS = {
  search: "M17 11a6 6 0 1 1-12 0 6 6 0 0 1 12 0zM20 20l-4.6-4.6",
  star: "M12 3.8l2.5 5.2 5.7.8-4.1 4 1 5.7-5.1-2.7-5.1 2.7 1-5.7-4.1-4 5.7-.8z",
  check: "M5 12.5l4.6 4.5L19 7.5",
  compare: "M4 5h6.5v14H4zM13.500 5H20v14h-6.500z",
  play: "M8 5.200v13.600L18.800 12z",
  pause: "M8.500 5.500v13M15.500 5.500v13",
  close: "M6 6l12 12M18 6L6 18",
  back: "M14.500 5.500L8 12l6.500 6.500",
  next: "M9.500 5.500L16 12l-6.500 6.500",
  copy: "M9 9h11v11H9zM5.500 15H4V4h11v1.500",
  download: "M12 4v11.500M7 11l5 5 5-5M5 20h14",
  open: "M14 4h6v6M20 4l-9 9M18.500 14v5.500h-14v-14H10",
  cube: "M12 3.200l7.800 4.400v8.800L12 20.800l-7.800-4.400V7.600zM4.200 7.600L12 12l7.800-4.400M12 12v8.800",
  frames: "M4 8h12v12H4zM8 8V4h12v12h-4",
  warn: "M12 4.500l8.700 15H3.300zM12 10v4.500M12 16.800v.4",
  text: "M6 3.500h8l4 4v13H6zM9 12h6M9 16h6",
  clock: "M20.500 12a8.500 8.500 0 1 1-17 0 8.500 8.500 0 0 1 17 0zM12 7.500V12l3 2",
  small: "M5 5h6v6H5zM13 5h6v6h-6zM5 13h6v6H5zM13 13h6v6h-6z",
  large: "M5 5h14v14H5z",
};

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", `icon icon-${name}`);
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

// A round button that shows an icon and says `label`.
const iconButton = (name, label, onclick, props = {}) =>
  h("button", { type: "button", class: "round", "aria-label": label, title: label, onclick, ...props }, icon(name));

const STATE_WORDS = {
  running: "Running",
  done: "Done",
  failed: "Failed",
  poisoned: "Given up",
  queued: "Queued",
  blocked: "Waiting",
  cancelled: "Cancelled",
};
const BAD_STATES = ["failed", "poisoned"];
const LIVE_STATES = ["running", "queued", "blocked"];

const capital = (word) => word.charAt(0).toUpperCase() + word.slice(1);
const stateWord = (state) => STATE_WORDS[state] ?? capital(state);
const whole = (number) => number.toLocaleString("en");
const plural = (count, one, many) => `${whole(count)} ${count === 1 ? one : many}`;
const fixed = (number) => (typeof number === "number" ? String(+number.toFixed(4)) : String(number));

function duration(exact) {
  if (exact < 0.05) return "< 0.1 s";
  const seconds = exact < 9.95 ? +exact.toFixed(1) : Math.round(exact);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${String(seconds % 60).padStart(2, "0")} s`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

function fileSize(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  return bytes < 1e6 ? `${Math.round(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

// The beginning of a long text, which never ends in half a character.
const beginning = (text, length) =>
  text.length <= length ? text : `${text.slice(0, length).replace(/[\ud800-\udbff]$/, "")}…`;

// Says something to who sees the page, and to who hears it.
function say(text) {
  const place = byId("said");
  place.textContent = text;
  place.classList.add("said-now");
  clearTimeout(say.timer);
  say.timer = setTimeout(() => place.classList.remove("said-now"), 2200);
}

const calm = matchMedia("(prefers-reduced-motion: reduce)");

// A text with a way to see all of it where it is long.
function longText(text, limit, props = {}) {
  const shown = h("span", { dir: "auto", ...props, text: beginning(text, limit) });
  if (text.length <= limit) return [shown];
  const more = h("button", { type: "button", class: "more", "aria-expanded": "false" });
  const label = `Show all ${whole(text.length)} characters`;
  more.textContent = label;
  more.addEventListener("click", () => {
    const open = more.getAttribute("aria-expanded") === "true";
    shown.textContent = open ? beginning(text, limit) : text;
    more.textContent = open ? label : "Show less";
    more.setAttribute("aria-expanded", String(!open));
  });
  return [shown, more];
}
