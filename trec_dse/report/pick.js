/* Picking by budgets: the same choice, in the same words, as `trec-dse pick` makes. */

const BUDGETS = [
  { id: "sram", axis: "sram", label: "SRAM", said: "SRAM", unit: "KiB", per: KIB, flag: (limit) => `--sram ${limit}` },
  { id: "flash", axis: "flash", label: "Flash", said: "Flash", unit: "KiB", per: KIB, flag: (limit) => `--flash ${limit}` },
  { id: "latency", axis: "latency", label: "Latency", said: "latency", unit: "ms", per: 1, flag: (limit) => `--latency ${limit}ms` },
  { id: "energy", axis: "energy", label: "Energy", said: "energy", unit: "mJ", per: 1, flag: (limit) => `--energy ${limit}mJ` },
  { id: "loss", axis: null, label: "Loss of accuracy", said: "accuracy loss", unit: "pp", per: 1, flag: (limit) => `--max-loss ${limit}pp` },
];
const N_STOPS = 200; /* of a slider; the last one is "no limit" */
const STUDY = "DIR"; /* the page knows the study, not its folder */

const loss = (trial, name) => (AXIS[name].direction === "maximize" ? -1 : 1) * value(trial, name);
const used = (trial, name) => (isKnown(reading(trial, name)) ? reading(trial, name) : value(trial, name));
const budgetOn = (name) => {
  const budget = BUDGETS.find((each) => each.axis === name);
  return budget && isKnown(view.budgets[budget.id]) ? view.budgets[budget.id] / budget.per : null;
};

/* Those whose quantity every trial to pick from has: energy only where the board's file says what the chip draws. */
function offeredBudgets() {
  const trials = pickable();
  return BUDGETS.filter(({ axis }) => !axis || trials.every((trial) => isKnown(value(trial, axis))));
}

/* The fitting trials with a known error, one per network; of equal ones a measured one, else the first. */
function pickable() {
  const best = new Map();
  for (const trial of [...DATA.trials].sort((a, b) => a.number - b.number)) {
    if (!trial.fits) continue;
    const known = best.get(trial.network);
    if (!known || (!isMeasured(known) && isMeasured(trial))) best.set(trial.network, trial);
  }
  return [...best.values()].filter((trial) => isKnown(value(trial, "error"))).sort((a, b) => a.number - b.number);
}

/* Limits as questions to a trial, in the units of their texts. */
function limitsOf(budgets, pairs) {
  const least = Math.min(...pairs.map((trial) => value(trial, "error")));
  return offeredBudgets().filter(({ id }) => isKnown(budgets[id])).map((budget) => {
    const allowed = budgets[budget.id] / budget.per;
    const spent = (trial) =>
      budget.axis ? used(trial, budget.axis) : Math.round((value(trial, "error") - least) * 1e9) / 1e9;
    return { ...budget, allowed, spent, excess: (trial) => spent(trial) - allowed };
  });
}

/* The trial chosen and why; without one, `trial` is null and `reason` says what is nearest. */
function pickTrial(budgets) {
  const pairs = pickable();
  if (!pairs.length) return { trial: null, reason: `no trial to pick from: ${census()}` };
  const limits = limitsOf(budgets, pairs);
  const fitting = pairs.filter((trial) => limits.every((limit) => limit.excess(trial) <= 0));
  if (!fitting.length) return { trial: null, reason: nearest(pairs, limits) };
  const isBySize = limits.length > 0 && !isKnown(budgets.loss);
  const [trial, why] = bestOf(fitting, isBySize);
  const within = limits.length ? ` within ${limits.map(limitText).join(", ")}` : "";
  return { trial, reason: `trial ${trial.number}: ${why}${within}`, n: fitting.length };
}

function bestOf(fitting, isByAccuracy) {
  if (fitting.length === 1) return [fitting[0], "the only one"];
  const ofAll = `of ${trialsText(fitting.length)}`;
  if (isByAccuracy) {
    const order = ["error", "sram", "flash", "latency"];
    const best = fitting.reduce((a, b) => (compareRows(order.map((name) => loss(b, name)), order.map((name) => loss(a, name))) < 0 ? b : a));
    return [best, `the most accurate ${ofAll}`];
  }
  const labels = DATA.objectives.map((name) => AXIS[name].label);
  const names = `${labels.slice(0, -1).join(", ")} and ${labels[labels.length - 1]}`;
  return [kneeOf(fitting), `the knee between ${names} ${ofAll}`];
}

function compareRows(a, b) {
  for (let i = 0; i < a.length; i += 1) if (a[i] !== b[i]) return a[i] - b[i];
  return 0;
}

/* Rows that no other row dominates, by the first column, then the next; rows with an unknown value never count. */
function frontRows(fitting) {
  const rows = fitting
    .map((trial) => ({ trial, y: DATA.objectives.map((name) => (isKnown(value(trial, name)) ? loss(trial, name) : NaN)) }))
    .filter(({ y }) => !y.some(Number.isNaN))
    .sort((a, b) => compareRows(a.y, b.y) || a.trial.number - b.trial.number);
  const kept = []; /* in this order a row can only be dominated by one before it */
  for (const row of rows)
    if (!kept.some(({ y }) => y.every((each, i) => each <= row.y[i]) && compareRows(y, row.y) !== 0)) kept.push(row);
  return kept;
}

/* The point furthest below the plane through the corners of the front, on logarithmic scales. */
function kneeOf(fitting) {
  const rows = frontRows(fitting);
  const nCosts = DATA.objectives.filter((name) => name !== "error").length;
  const scores = rows.map(() => 0);
  DATA.objectives.forEach((name, k) => {
    const column = rows.map(({ y }) => y[k]);
    const low = Math.min(...column);
    const span = Math.max(...column) > low ? Math.max(...column) - low : 1;
    const shift = low > 0 ? 0 : span / 1000 - low;
    const scaled = column.map((each) => Math.log(each + shift) - Math.log(low + shift));
    const reach = Math.max(...scaled);
    const vote = name === "error" ? 1 : 1 / nCosts;
    scaled.forEach((each, i) => (scores[i] += (vote * each) / (reach > 0 ? reach : 1)));
  });
  return rows[scores.indexOf(Math.min(...scores))].trial;
}

function nearest(pairs, limits) {
  const worst = (trial) => Math.max(...limits.map((limit) => limit.excess(trial) / Math.max(limit.allowed, 1e-9)));
  const trial = pairs.reduce((a, b) => (worst(b) < worst(a) ? b : a));
  const misses = limits
    .filter((limit) => limit.excess(trial) > 0)
    .map((l) => `${l.said} ${numberText(l.spent(trial))} ${l.unit}, ${numberText(l.excess(trial))} too much`);
  const asked = limits.map(limitText).join(", ");
  return `none of ${trialsText(pairs.length)} has ${asked}; nearest is trial ${trial.number}: ${misses.join("; ")}`;
}

function census() {
  if (!DATA.trials.length) return "the study has none yet";
  const counts = new Map();
  for (const { state } of DATA.trials) counts.set(state, (counts.get(state) || 0) + 1);
  const texts = [...counts].map(([state, count]) => `${count} ${state}`);
  return `of ${trialsText(DATA.trials.length)} none is complete and feasible (${texts.join(", ")})`;
}

const trialsText = (count) => `${count} trial${count === 1 ? "" : "s"}`;
const limitText = (limit) => `${limit.said} <= ${numberText(limit.allowed)} ${limit.unit}`;

/* Two decimals, or four significant digits below one, without trailing zeros; halves to even, as Python rounds. */
function numberText(number) {
  const size = Math.abs(number);
  if (number === 0) return "0";
  const digits = size < 1 ? 3 - Math.floor(Math.log10(size)) : 2;
  return digits > 7 ? String(number) : String(Number(halfToEven(number, digits)));
}

/* A half can only be exact in binary if the number is an odd multiple of 2^-(digits + 1). */
function halfToEven(number, digits) {
  const isHalf = Math.abs(number * 2 ** (digits + 1)) % 2 === 1;
  return isHalf ? (2 * Math.round((number * 10 ** digits) / 2)) / 10 ** digits : number.toFixed(digits);
}

/* The reader's side: a slider and a number for each budget, the answer, and the command that gives it. */
function spanOf(budget, trials) {
  const least = Math.min(...trials.map((trial) => value(trial, "error")));
  const values = trials.map((trial) => (budget.axis ? used(trial, budget.axis) : value(trial, "error") - least));
  return [Math.min(...values), Math.max(...values)];
}

/* Slider stop -> limit, evenly on a logarithmic scale where there is no zero; three digits, never below the least. */
function limitAt(stop, [low, high]) {
  const share = stop / (N_STOPS - 1);
  const exact = low > 0 ? low * (high / low) ** share : low + (high - low) * share;
  const unit = 10 ** Math.max(-6, Math.floor(Math.log10(Math.max(exact, 1e-6))) - 2);
  return Number((Math.ceil(exact / unit - 1e-9) * unit).toFixed(6));
}

function stopAt(limit, [low, high]) {
  if (high <= low) return limit >= high ? N_STOPS - 1 : 0;
  const share = low > 0 ? Math.log(limit / low) / Math.log(high / low) : (limit - low) / (high - low);
  return Math.round(Math.min(1, Math.max(0, share)) * (N_STOPS - 1));
}

function budgetRow(budget, span) {
  const limit = view.budgets[budget.id];
  const isSet = isKnown(limit);
  const shown = isSet ? limit / budget.per : null;
  const id = `budget-${budget.id}`;
  const slider = el("input", { type: "range", id, min: 0, max: N_STOPS, step: 1, "aria-label": `${budget.label}, at most` });
  slider.value = isSet ? stopAt(shown, span) : N_STOPS;
  const number = el("input", { type: "number", id: `${id}-number`, min: 0, step: "any", placeholder: "any", "aria-label": `${budget.label} in ${budget.unit}` });
  number.value = isSet ? Number(shown.toFixed(6)) : "";
  const set = (size) => {
    view.budgets[budget.id] = size === null ? null : budget.per === 1 ? size : Math.floor(size * budget.per);
    drawChoice();
  };
  slider.addEventListener("input", () => {
    const size = Number(slider.value) >= N_STOPS ? null : limitAt(Number(slider.value), span);
    number.value = size === null ? "" : size;
    set(size);
  });
  number.addEventListener("input", () => {
    const size = number.value === "" || !(Number(number.value) >= 0) ? null : Number(number.value);
    slider.value = size === null ? N_STOPS : stopAt(size, span);
    set(size);
  });
  return el("div", { class: "slider" }, el("label", { for: id }, budget.label), slider, el("span", {}, number, el("small", {}, budget.unit)));
}

function drawBudgets() {
  const trials = pickable();
  byId("budgets").replaceChildren(...(trials.length ? offeredBudgets().map((budget) => budgetRow(budget, spanOf(budget, trials))) : []));
  drawChoice();
}

let shapesPending = 0;

function drawChoice() {
  const { trial, reason } = pickTrial(view.budgets);
  const flags = offeredBudgets().filter(({ id }) => isKnown(view.budgets[id])).map((budget) => budget.flag(view.budgets[budget.id]));
  const open = trial && el("button", { type: "button", class: "plain", onclick: () => goTo(trial.number) }, `Open trial ${trial.number}`);
  const clear = flags.length > 0 && el("button", { type: "button", class: "plain", onclick: clearBudgets }, "No budgets");
  byId("choice").replaceChildren(
    el("p", { class: trial ? null : "warn" }, el("output", { id: "reason" }, reason)),
    el("div", { class: "controls" }, open || null, clear || null, el("code", {}, ["trec-dse pick", STUDY, ...flags].join(" "))),
  );
  cancelAnimationFrame(shapesPending);
  shapesPending = requestAnimationFrame(() => byId("plane").layout && moveShapes());
  writeAddress();
}

function clearBudgets() {
  for (const { id } of BUDGETS) view.budgets[id] = null;
  drawBudgets();
}
