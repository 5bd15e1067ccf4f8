"use strict";

// Sorting and filtering. What is sorted by is read from the page once, what is searched in when
// somebody searches for the first time.
const list = document.getElementById("list");
const controls = document.getElementById("controls");
const fields = controls.elements;
const byId = new Intl.Collator("en", { numeric: true }).compare;

const utterances = [...list.children].map((node, order) => {
  const { errors, words, speaker, source } = node.dataset;
  const id = node.querySelector("h3").textContent;
  return { node, order, id, speaker, source, errors: Number(errors), words: Number(words) };
});

// Insertions into a reference without words come first: no rate is as bad.
const rate = (u) => (u.words ? u.errors / u.words : u.errors ? Infinity : -1);
const descending = (value) => (a, b) => value(b) - value(a) || a.order - b.order;
const ORDERS = {
  order: (a, b) => a.order - b.order,
  rate: (a, b) => Number(rate(a) < rate(b)) - Number(rate(a) > rate(b)) || a.order - b.order,
  errors: descending((u) => u.errors),
  words: descending((u) => u.words),
  id: (a, b) => byId(a.id, b.id) || a.order - b.order,
};

// "to the tower→door +now": found by its reference, by its hypothesis and by its errors.
function searched(u) {
  if (u.text === undefined) {
    const marked = u.node.querySelector(".words").textContent;
    const words = marked.split(/\s+/);
    const said = words.filter((w) => w[0] !== "+").map((w) => w.replace(/^−|→.*/g, ""));
    const heard = words.filter((w) => w[0] !== "−").map((w) => w.replace(/^\+|.*→/g, ""));
    const parts = [marked, said.join(" "), heard.join(" "), u.id, u.speaker, u.source];
    u.text = ` ${parts.join("  ").toLowerCase()} `;
  }
  return u.text;
}

// What is in double quotes is whole words.
function query(typed) {
  const text = typed.toLowerCase().trim();
  return /^".+"$/.test(text) ? ` ${text.slice(1, -1).trim()} ` : text;
}

function filter() {
  const text = query(fields.search.value);
  const only = (name) => fields[name]?.value ?? "";
  let shown = 0, errors = 0, words = 0;
  for (const u of utterances) {
    const show =
      (!fields.wrong.checked || u.errors > 0) &&
      (!only("speaker") || u.speaker === only("speaker")) &&
      (!only("source") || u.source === only("source")) &&
      (!text || searched(u).includes(text));
    if (u.node.hidden === show) u.node.hidden = !show;
    if (show) { shown += 1; errors += u.errors; words += u.words; }
  }
  const number = (n) => n.toLocaleString("en");
  const wer = words ? `${hundredths(100 * (errors / words))}\u00a0%` : "–";
  controls.querySelector("output").textContent =
    `${number(shown)} of ${number(utterances.length)} utterances, WER\u00a0${wer}`;
}

/** To two digits as the tables have them: Python sends half a hundredth to the even neighbour. */
function hundredths(x) {
  return (x % 0.5 === 0.125 ? x - 1e-9 : x).toFixed(2);
}

function sort() {
  const sorted = document.createDocumentFragment();
  for (const u of utterances.sort(ORDERS[fields.sort.value])) sorted.append(u.node);
  list.append(sorted);
}

controls.addEventListener("submit", (event) => event.preventDefault());
controls.addEventListener("input", (event) => (event.target === fields.sort ? sort() : filter()));

function showAll(filters = {}) {
  controls.reset();
  for (const [name, value] of Object.entries(filters)) fields[name].value = value;
  sort();
  filter();
}
fields.all.addEventListener("click", () => showAll());

// A row of a table shows the utterances that it counts.
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-search], a[data-speaker], a[data-source]");
  if (!link) return;
  const { search, ...others } = link.dataset;
  showAll(search ? { search: `"${search}"` } : others);
});

controls.hidden = false;
filter();

// The player, on pages that know their recordings.
const player = document.getElementById("player");
if (player) {
  const audio = player.querySelector("audio");
  const status = player.querySelector("p");
  let end = Infinity; // of the utterance that plays, seconds
  let words = []; // of that utterance, those with times
  let lit = null;

  function play(article, from) {
    const { audio: url, to } = article.dataset;
    status.textContent = article.querySelector("h3").textContent;
    player.hidden = false;
    words = [...article.querySelectorAll("[data-t]")];
    end = to === undefined ? Infinity : Number(to);
    if (audio.getAttribute("src") !== url) audio.src = url;
    audio.currentTime = from;
    audio.play().catch(() => {}); // what went wrong is told by its own event
  }

  function light(word) {
    if (word === lit) return;
    lit?.classList.remove("now");
    word?.classList.add("now");
    lit = word;
  }

  function follow() {
    const now = audio.currentTime;
    if (now >= end) { audio.pause(); end = Infinity; }
    light(words.findLast((word) => Number(word.dataset.t) <= now + 0.01));
    if (!audio.paused) requestAnimationFrame(follow);
  }

  audio.addEventListener("playing", follow);
  audio.addEventListener("pause", () => light(null));
  audio.addEventListener("error", () => {
    const url = decodeURIComponent(audio.getAttribute("src"));
    status.textContent = `This browser cannot play ${url}: not there, or of a kind it does not know.`;
  });

  list.addEventListener("click", (event) => {
    const target = event.target.closest("[data-t], .play");
    if (!target) return;
    const article = target.closest("article");
    play(article, Number(target.dataset.t ?? article.dataset.from));
  });

  list.addEventListener("keydown", (event) => {
    const target = event.target.closest("[data-t], .play");
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!target) return;
    if (step) {
      const stops = [...target.closest("article").querySelectorAll(".play, [data-t]")];
      const next = stops[stops.indexOf(target) + step];
      if (!next) return;
      next.tabIndex = next.matches(".play") ? 0 : -1;
      if (next.dataset.t) next.setAttribute("role", "button");
      next.focus();
    } else if (target.dataset.t && (event.key === "Enter" || event.key === " ")) {
      target.click();
    } else return;
    event.preventDefault();
  });
}
