// What a visitor marks: stars, which this browser keeps, and the few that are chosen to be compared.

const MOST_COMPARED = 4;

const marks = {
  stars: new Set(),
  picks: [], // keys, in the order of choosing
  onchange: [],
};

const STARS = `kinoform-stars:${location.pathname}`;
try {
  marks.stars = new Set(JSON.parse(localStorage.getItem(STARS) ?? "[]"));
} catch {
  // No storage here, or not ours: stars last as long as the page.
}

function toggleStar(key) {
  if (!marks.stars.delete(key)) marks.stars.add(key);
  try {
    localStorage.setItem(STARS, JSON.stringify([...marks.stars]));
  } catch {
    // As above.
  }
  say(marks.stars.has(key) ? "Starred" : "Star taken away");
  marks.onchange.forEach((listen) => listen(key));
}

function togglePick(key) {
  const place = marks.picks.indexOf(key);
  if (place >= 0) marks.picks.splice(place, 1);
  else if (marks.picks.length === MOST_COMPARED) return say(`${MOST_COMPARED} are compared at most`);
  else marks.picks.push(key);
  marks.onchange.forEach((listen) => listen(key));
}

function clearPicks() {
  const cleared = marks.picks.splice(0);
  cleared.forEach((key) => marks.onchange.forEach((listen) => listen(key)));
}

// A file of what is starred, to hand on.
function exportStars() {
  const starred = store.items
    .filter((item) => marks.stars.has(item.key))
    .map(({ id, step, prompt, output, model, seed, command }) => ({
      id,
      step,
      prompt,
      output,
      model,
      seed,
      command,
    }));
  const text = JSON.stringify({ title: store.title, starred }, null, 1);
  const url = URL.createObjectURL(new Blob([`${text}\n`], { type: "application/json" }));
  const link = h("a", { href: url, download: "starred.json" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
  say(`${plural(starred.length, "star", "stars")} written to starred.json`);
}
