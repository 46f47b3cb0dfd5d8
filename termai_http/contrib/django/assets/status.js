// Keeps the page up to date. Each look may reach another worker of the server, so the page keeps
// what it saw of each, by host and process, and forgets those that it has not seen for long.
"use strict";

const AWAY_SECONDS = 60;
const FORGET_SECONDS = 900;
// How many looks at once, and how often, so that idle workers are found, too.
const BURST = 4;
const BURST_EVERY = 10;
// Before them the page waits for so many ordinary pauses, so that connections which a server keeps
// open for a while, and which lead to the same workers again, are closed.
const BURST_PAUSES = 3;
const LONGEST_PAUSE = 30;
const TIMEOUT_SECONDS = 15;

const body = document.body;
const refresh = Number(body.dataset.refresh);
const recent = Number(body.dataset.recent);
const edges = JSON.parse(document.getElementById("edges").textContent);
const workers = new Map();
const state = document.getElementById("state");
const button = document.getElementById("pause");
let paused = false;
let looks = 0;
let failedLooks = 0;
let timer = 0;
let looking = false;

const keyOf = (worker) => `${worker.host}:${worker.pid}`;
const keep = (figures) =>
  workers.set(keyOf(figures.worker), { figures, seen: performance.now() / 1000 });
const age = (entry) => performance.now() / 1000 - entry.seen;

// ---- values in words

const whole = (value) => value.toLocaleString("en-US");
const share = (value) => `${((value < 1 ? Math.min(value, 0.999) : 1) * 100).toFixed(1)}%`;

function time(milliseconds) {
  if (milliseconds < 10) return `${milliseconds.toFixed(1)} ms`;
  if (milliseconds < 1000) return `${milliseconds.toFixed(0)} ms`;
  const seconds = milliseconds / 1000;
  return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
}

function money(dollars) {
  if (dollars !== 0 && dollars < 0.00005) return "<$0.0001";
  const digits = dollars === 0 || dollars >= 1 ? 2 : 4;
  const form = { minimumFractionDigits: digits, maximumFractionDigits: digits };
  return `$${dollars.toLocaleString("en-US", form)}`;
}

function text(figures, path, kind) {
  const value = path.split(".").reduce((found, name) => found[name], figures);
  if (value === null || value === undefined) return "–";
  return { count: whole, share, time, money }[kind](value);
}

function write(element, words) {
  if (element.textContent !== words) element.textContent = words;
}

function make(name, words, classes = "") {
  const element = document.createElement(name);
  element.textContent = words;
  if (classes) element.className = classes;
  return element;
}

// ---- several workers as one

function sum(list, part, name) {
  return list.reduce((total, figures) => total + figures[part][name], 0);
}

function sums(list, part, names) {
  return Object.fromEntries(names.map((name) => [name, sum(list, part, name)]));
}

function added(list, part) {
  const total = new Map();
  for (const figures of list) {
    for (const [name, count] of Object.entries(figures[part])) {
      total.set(name, (total.get(name) || 0) + count);
    }
  }
  return total;
}

function times(list, part) {
  const counts = new Map();
  for (const figures of list) {
    for (const [at, count] of figures[part].counts) counts.set(at, (counts.get(at) || 0) + count);
  }
  const pairs = [...counts].sort((one, other) => one[0] - other[0]);
  const total = pairs.reduce((found, pair) => found + pair[1], 0);
  const percentile = (part) => {
    let rank = Math.ceil(part * total);
    for (const [at, count] of pairs) {
      rank -= count;
      if (rank <= 0) return at;
    }
    return null;
  };
  return {
    p50: percentile(0.5), p95: percentile(0.95), p99: percentile(0.99), counts: pairs, total,
  };
}

// A worker tells the times of all calls, and of those without the pool.
function pooled({ pooled, unpooled, duration_ms }) {
  const counts = new Map(duration_ms.counts);
  for (const [at, count] of unpooled.counts) counts.set(at, counts.get(at) - count);
  return { side: { ...pooled, counts: [...counts].filter((pair) => pair[1] > 0) } };
}

function side(list, part) {
  const { total, succeeded } = sums(list, part, ["total", "succeeded"]);
  const rate = total ? succeeded / total : null;
  return { ...times(list, part), total, succeeded, success_rate: rate };
}

function together(list) {
  const pool = sums(list, "pool", [
    "open", "active", "idle", "waiting", "attempts", "reused", "evicted", "discarded",
  ]);
  const calls = sums(list, "calls", [
    "total", "succeeded", "failed", "in_flight", "retries", "retries_denied",
  ]);
  pool.reuse_ratio = pool.attempts ? pool.reused / pool.attempts : null;
  calls.success_rate = calls.total ? calls.succeeded / calls.total : null;
  return {
    pool,
    calls,
    tokens: sums(list, "tokens", ["input", "output"]),
    cost: sums(list, "cost", ["dollars", "unknown"]),
    pooled: side(list.map(pooled), "side"),
    unpooled: side(list, "unpooled"),
    duration_ms: times(list, "duration_ms"),
    first_token_ms: times(list, "first_token_ms"),
    retries_by_cause: added(list, "retries_by_cause"),
    failures_by_class: added(list, "failures_by_class"),
  };
}

// ---- the parts of the page

function columnOf(at) {
  const index = edges.findIndex((edge) => at < edge);
  return index < 0 ? edges.length : index;
}

function placeOf(at) {
  const index = columnOf(at);
  if (index === 0 || index === edges.length) return index + 0.5;
  return index + Math.log(at / edges[index - 1]) / Math.log(edges[index] / edges[index - 1]);
}

function drawPlot(section, figures) {
  const found = figures[section.dataset.plot];
  const counts = new Array(edges.length + 1).fill(0);
  for (const [at, count] of found.counts) counts[columnOf(at)] += count;
  const highest = Math.max(...counts, 1);
  section.querySelectorAll("rect").forEach((rect, index) => {
    const height = counts[index] ? Math.max((100 * counts[index]) / highest, 2) : 0;
    rect.setAttribute("height", height);
    rect.setAttribute("y", 100 - height);
    write(rect.firstChild, `${rect.dataset.label}: ${whole(counts[index])}`);
  });
  for (const name of ["p50", "p95", "p99"]) {
    const line = section.querySelector(`line.${name}`);
    const place = found[name] === null ? 0 : placeOf(found[name]);
    line.setAttribute("x1", place);
    line.setAttribute("x2", place);
    line.setAttribute("visibility", found[name] === null ? "hidden" : "visible");
  }
  write(section.querySelector("[data-count]"), whole(found.total));
}

function drawBars(list, figures) {
  const ranked = [...figures[list.dataset.bars]].sort(
    (one, other) => other[1] - one[1] || (one[0] < other[0] ? -1 : 1),
  );
  const most = ranked.length ? ranked[0][1] : 1;
  while (list.children.length > ranked.length) list.lastElementChild.remove();
  ranked.forEach(([name, count], index) => {
    const item = list.children[index] || list.appendChild(newBar());
    write(item.querySelector(".name"), name);
    write(item.querySelector("b"), whole(count));
    item.querySelector("rect").setAttribute("width", (100 * count) / most);
  });
  list.parentElement.querySelector(".nothing").hidden = ranked.length > 0;
}

function newBar() {
  const space = "http://www.w3.org/2000/svg";
  const item = document.createElement("li");
  const svg = document.createElementNS(space, "svg");
  const rect = document.createElementNS(space, "rect");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("viewBox", "0 0 100 1");
  svg.setAttribute("preserveAspectRatio", "none");
  rect.setAttribute("height", 1);
  svg.append(rect);
  item.append(make("span", "", "name"), make("b", ""), svg);
  return item;
}

function drawWorkers(entries, all) {
  const hosts = new Set(entries.map((entry) => entry.figures.worker.host));
  const columns = entries.map((entry) => ({
    head: String(entry.figures.worker.pid),
    below: [
      hosts.size > 1 ? entry.figures.worker.host : "",
      age(entry) > AWAY_SECONDS ? `seen ${Math.floor(age(entry) / 60)} min ago` : "",
    ].filter(Boolean).join(", "),
    figures: entry.figures,
    classes: age(entry) > AWAY_SECONDS ? "away" : "",
  }));
  if (columns.length > 1) columns.unshift({ head: "All", below: "", figures: all, classes: "all" });
  for (const row of document.querySelectorAll("#workers tr")) {
    const tag = row.parentElement.tagName === "THEAD" ? "th" : "td";
    while (row.children.length > columns.length + 1) row.lastElementChild.remove();
    while (row.children.length < columns.length + 1) row.append(make(tag, ""));
    columns.forEach((column, index) => {
      const cell = row.children[index + 1];
      cell.className = column.classes;
      if (tag === "th") {
        cell.scope = "col";
        if (cell.dataset.words !== column.head + column.below) {
          cell.dataset.words = column.head + column.below;
          cell.replaceChildren(column.head);
          if (column.below) cell.append(make("small", column.below));
        }
      } else if (row.dataset.row) {
        write(cell, text(column.figures, row.dataset.row, row.dataset.kind));
      }
    });
  }
}

function drawSides(all) {
  for (const rows of document.querySelectorAll("[data-side]")) rows.hidden = !all.unpooled.total;
}

function drawFailures(entries) {
  const found = entries.flatMap((entry) =>
    entry.figures.recent_failures.map((one) => ({ ...one, pid: entry.figures.worker.pid })),
  );
  found.sort((one, other) => other.when - one.when);
  const table = document.getElementById("failures");
  const rows = found.slice(0, recent).map(failureRow);
  table.tBodies[0].replaceChildren(...rows);
  table.hidden = rows.length === 0;
  table.parentElement.querySelector(".nothing").hidden = rows.length > 0;
}

function failureRow(one) {
  const row = document.createElement("tr");
  row.setAttribute("role", "row");
  const moment = new Date(one.when * 1000);
  const when = make("time", clock(moment));
  when.dateTime = moment.toISOString();
  when.title = moment.toLocaleString();
  const add = (classes, content, label) => {
    const cell = document.createElement("td");
    cell.setAttribute("role", "cell");
    cell.className = classes;
    if (label) cell.dataset.label = label;
    cell.append(content ?? "–");
    row.append(cell);
  };
  add("when", when);
  add("error", one.error);
  add("status", one.status_code === null ? null : String(one.status_code), "Status");
  add("model", one.model, "Model");
  add("id", one.request_id, "Request id");
  add("number", String(one.attempts), "Attempts");
  add("number", time(one.elapsed * 1000), "Took");
  add("number", String(one.pid), "Process");
  return row;
}

function clock(moment) {
  return moment.toLocaleTimeString("en-GB");
}

function draw() {
  for (const [key, entry] of workers) if (age(entry) > FORGET_SECONDS) workers.delete(key);
  const entries = [...workers.values()].sort((one, other) => {
    const [first, second] = [one.figures.worker, other.figures.worker];
    return first.host < second.host ? -1 : first.host > second.host ? 1 : first.pid - second.pid;
  });
  if (!entries.length) return;
  const list = entries.map((entry) => entry.figures);
  const all = together(list);
  const begun = all.calls.total + all.calls.in_flight > 0;
  for (const element of document.querySelectorAll("[data-path]")) {
    write(element, text(all, element.dataset.path, element.dataset.kind));
  }
  document.querySelectorAll("[data-plot]").forEach((section) => drawPlot(section, all));
  document.querySelectorAll("[data-bars]").forEach((bars) => drawBars(bars, all));
  drawWorkers(entries, all);
  drawSides(all);
  drawFailures(entries);
  document.getElementById("empty").hidden = begun;
  document.getElementById("plots").hidden = !begun;
  document.getElementById("closed").hidden = !list.some((one) => one.client === "closed");
  const hosts = [...new Set(list.map((one) => one.worker.host))];
  const who = list.length > 1 ? `${list.length} workers` : `worker ${list[0].worker.pid}`;
  write(document.getElementById("who"), `${who} on ${hosts.join(", ")}`);
  write(
    document.getElementById("seen"),
    list.length > 1
      ? "Each worker answers for itself; these are those that this page has reached."
      : "Each worker answers for itself; others appear here once one of them answers this page.",
  );
}

// ---- looking again and again

function tell(name, words) {
  if (state.dataset.state !== name) state.dataset.state = name;
  write(document.getElementById("state-text"), words);
}

async function look() {
  const answer = await fetch("status.json", {
    cache: "no-store",
    credentials: "same-origin",
    redirect: "error",
    signal: AbortSignal.timeout(TIMEOUT_SECONDS * 1000),
  });
  if (answer.status === 401 || answer.status === 403) return false;
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  keep(await answer.json());
  return true;
}

async function lookAround() {
  if (looking) return;
  looking = true;
  const count = looks % BURST_EVERY === 0 ? BURST : 1;
  looks += 1;
  const results = await Promise.allSettled(Array.from({ length: count }, look));
  looking = false;
  if (results.some((result) => result.value === false)) {
    paused = true;
    button.hidden = true;
    tell("lost", "Signed out. Load the page again.");
    return;
  }
  const reached = results.some((result) => result.status === "fulfilled");
  failedLooks = reached ? 0 : failedLooks + 1;
  draw();
  if (!paused) {
    if (reached) tell("live", `Live, every ${refresh} s`);
    else tell("lost", "The server does not answer; trying again");
  }
  again();
}

function again() {
  clearTimeout(timer);
  if (paused || document.hidden) return;
  const pauses = looks % BURST_EVERY === 0 ? BURST_PAUSES : 1;
  const longest = Math.max(refresh * pauses, LONGEST_PAUSE);
  const seconds = Math.min(refresh * pauses * 2 ** Math.min(failedLooks, 5), longest);
  timer = setTimeout(lookAround, seconds * 1000);
}

button.addEventListener("click", () => {
  paused = !paused;
  button.textContent = paused ? "Go on" : "Pause";
  if (paused) {
    clearTimeout(timer);
    tell("paused", `Paused at ${clock(new Date())}`);
  } else {
    tell("live", `Live, every ${refresh} s`);
    lookAround();
  }
});

document.addEventListener("visibilitychange", () => {
  if (document.hidden) clearTimeout(timer);
  else if (!paused && !button.hidden) lookAround();
});

button.hidden = false;
keep(JSON.parse(document.getElementById("initial").textContent));
draw();
lookAround();
