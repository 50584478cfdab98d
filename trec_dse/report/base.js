/* Data, number formats and small helpers; everything else builds on this file. */

/* A list of like objects is stored as a table: its keys once, then a row of values per object. */
function untabulated(data) {
  if (data === null || typeof data !== "object") return data;
  if (Array.isArray(data)) return data.map(untabulated);
  const table = data["%table"];
  if (!Array.isArray(table)) return fromPairs(Object.keys(data), Object.values(data));
  return table.slice(1).map((row) => fromPairs(table[0], row));
}

function fromPairs(keys, values) {
  const object = {};
  keys.forEach((key, i) => (object[key] = untabulated(values[i])));
  return object;
}

let DATA, AXIS, BY_NUMBER;
const KIB = 1024;

/* Make `data` what the page shows; nothing is drawn yet. */
function take(data) {
  DATA = untabulated(data);
  AXIS = Object.fromEntries(
    DATA.axes.map((axis, i) => [axis.name, { ...axis, i, title: `${axis.label} (${axis.unit})` }]),
  );
  BY_NUMBER = new Map(DATA.trials.map((trial) => [trial.number, trial]));
  DATA.what_if.forEach(addGrid);
}

/* What the reader has chosen; the address holds what is worth sharing. */
const view = {
  trial: null,
  other: null,
  x: "sram",
  y: "error",
  sort: { column: "trial", down: false },
  budgets: { sram: null, flash: null, latency: null, energy: null, loss: null },
};

const isLive = Boolean(document.body.dataset.version); /* from a server that can be asked */
const byId = (id) => document.getElementById(id);
const value = (trial, name) => trial.values[AXIS[name].i];
const reading = (trial, name) => trial.measured[AXIS[name].i];
const isMeasured = (trial) => trial.is_measured;
const isEvaluated = (trial) => isKnown(trial.network);
const isKnown = (number) => number !== null && number !== undefined;

/* An element with attributes and children; text is always text, never markup. */
function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, content] of Object.entries(attributes || {})) {
    if (name === "onclick") node.addEventListener("click", content);
    else if (content !== null && content !== false) node.setAttribute(name, content === true ? "" : content);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== false));
  return node;
}

function svg(tag, attributes, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, content] of Object.entries(attributes)) node.setAttribute(name, content);
  if (text !== undefined) node.textContent = text;
  return node;
}

const FORMATS = [0, 1, 2, 3].map(
  (digits) => new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }),
);

/* About three significant digits, as one reads them: 1,234 / 56.7 / 8.90 / 0.123. */
function format(number) {
  if (!isKnown(number)) return "–";
  const size = Math.abs(number);
  return FORMATS[size >= 100 || size === 0 ? 0 : size >= 10 ? 1 : size >= 0.995 ? 2 : 3].format(number);
}

const whole = (number) => (isKnown(number) ? FORMATS[0].format(Math.round(number)) : "–");
const kib = (bytes) => {
  if (!isKnown(bytes)) return "–";
  return bytes > 0 && bytes < 1000 ? `${bytes} B` : `${format(bytes / KIB)} KiB`;
};
const plain = (number) => Number(number.toFixed(2)).toLocaleString("en");
const percent = (share, digits = 1) => (isKnown(share) ? `${(100 * share).toFixed(digits)} %` : "–");

/* A CSS colour as the browser resolved it for the present theme. */
function color(name) {
  const probe = el("i", { style: `color: var(--${name}); display: none` });
  document.body.append(probe);
  const resolved = getComputedStyle(probe).color;
  probe.remove();
  return resolved;
}

function palette() {
  const names = ["sheet", "ink", "quiet", "rule", "grid", "accent", "tint", "faint", "warn"];
  return Object.fromEntries(names.map((name) => [name, color(name)]));
}

/* The fitting trials that no other beats in both axes, best first along x; of equal ones a measured one. */
function planeFront(x, y) {
  const sign = (name) => (AXIS[name].direction === "maximize" ? -1 : 1);
  const rows = DATA.trials
    .filter((trial) => trial.fits && isKnown(value(trial, x)) && isKnown(value(trial, y)))
    .map((trial) => ({ trial, a: sign(x) * value(trial, x), b: sign(y) * value(trial, y) }))
    .sort(
      (p, q) => p.a - q.a || p.b - q.b || isMeasured(q.trial) - isMeasured(p.trial) || p.trial.number - q.trial.number,
    );
  const kept = [];
  for (const row of rows) {
    const last = kept[kept.length - 1];
    if (!last || row.b < last.b) kept.push(row);
  }
  return kept.map((row) => row.trial);
}

function pointValues(trial) {
  return DATA.objectives.map((name) => `${AXIS[name].label} ${format(value(trial, name))} ${AXIS[name].unit}`);
}

function isShown(trial) {
  return (
    (!byId("only-fits").checked || trial.fits) &&
    (!byId("only-front").checked || trial.on_front) &&
    (!byId("only-measured").checked || isMeasured(trial))
  );
}
