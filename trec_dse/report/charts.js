/* The overviews of a study: agreement, progress, influence, parallel coordinates. */

function drawAgreement() {
  const colors = palette();
  const box = byId("agreement");
  const measured = DATA.trials.filter(isMeasured);
  if (!measured.length) {
    box.replaceChildren(el("p", { class: "empty" }, "No candidate has been measured yet."));
    return;
  }
  const names = ["sram", "flash", "latency"];
  box.replaceChildren(...names.map((name) => el("div", {}, el("h3", {}), el("div", { class: "plot", role: "img" }))));
  names.forEach((name, i) => {
    const [heading, plot] = box.children[i].children;
    const x = measured.map((trial) => value(trial, name));
    const y = measured.map((trial) => reading(trial, name));
    const worst = Math.max(...x.map((estimate, k) => Math.abs(estimate / y[k] - 1)));
    heading.textContent = `${AXIS[name].label}: at most ${percent(worst)} apart`;
    plot.setAttribute("aria-label", `${heading.textContent}, ${measured.length} trials measured`);
    const top = 1.08 * Math.max(...x, ...y);
    const diagonal = {
      type: "scatter",
      mode: "lines",
      x: [0, top],
      y: [0, top],
      hoverinfo: "skip",
      line: { color: colors.faint, width: 1, dash: "dot" },
    };
    const points = {
      ...pointTrace(measured, { size: 8, color: colors.accent, opacity: 0.85 }, "scatter"),
      x,
      y,
      hovertemplate: "trial %{customdata}<br>%{x:.2f} estimated<br>%{y:.2f} measured<extra></extra>",
    };
    const more = { xaxis: { range: [0, top] }, yaxis: { range: [0, top] } };
    Plotly.react(
      plot,
      [diagonal, points],
      layout(colors, `estimated (${AXIS[name].unit})`, `measured (${AXIS[name].unit})`, more),
      QUIET,
    );
    plot.on("plotly_click", (event) => isKnown(event.points[0].customdata) && goTo(event.points[0].customdata));
  });
}

function drawProgress() {
  const { numbers, shares, epochs } = DATA.progress;
  const labels = DATA.objectives.map((name) => AXIS[name].label).join(", ");
  byId("progress-note").textContent =
    `Share of the box between the best and the worst ${labels} that is dominated by the trials so far. ` +
    "A network is trained once: what comes down to a known one, or cannot fit, costs no epochs.";
  byId("progress-none").hidden = numbers.length > 0;
  byId("progress").hidden = !numbers.length;
  if (!numbers.length) return;
  const last = Math.max(...DATA.trials.map((trial) => trial.number));
  drawStairs("progress-trials", "trial", [...numbers, last], shares);
  drawStairs("progress-epochs", "epochs trained", epochs, shares);
}

function drawStairs(id, title, x, shares) {
  const colors = palette();
  const end = shares[shares.length - 1];
  const trace = {
    type: "scatter",
    mode: "lines",
    x,
    y: x.map((_, i) => (i < shares.length ? shares[i] : end)),
    line: { color: colors.accent, width: 2, shape: "hv" },
    hovertemplate: `${title} %{x}: %{y:.4f}<extra></extra>`,
  };
  byId(id).setAttribute(
    "aria-label",
    `Dominated share over ${title}: ${percent(shares[0])} after the first trial, ${percent(end)} after the last`,
  );
  const axes = { xaxis: { rangemode: "tozero" }, yaxis: { rangemode: "tozero" } };
  Plotly.react(id, [trace], layout(colors, title, "dominated share", axes), QUIET);
}

/* Parameters down, objectives across; the darker a cell, the more of the objective's spread the parameter explains. */
function drawInfluence() {
  const { parameters, objectives, shares, n_trials: n } = DATA.influence;
  byId("influence-note").textContent =
    `Of the ranks of ${whole(n)} trained networks: the share of their spread that one parameter explains by itself ` +
    "(epsilon squared of a one-way analysis of variance). What parameters do only together is not seen, and the " +
    "sampler's preferences blur the rest.";
  const isThin = !parameters.length || shares.every((row) => row.every((share) => !isKnown(share)));
  byId("influence-none").hidden = !isThin;
  byId("influence").hidden = isThin;
  const heads = objectives.map((name) => el("th", { scope: "col" }, AXIS[name].label));
  const rows = parameters.map((name, i) =>
    el("tr", {}, el("th", { scope: "row" }, name), shares[i].map(influenceCell)),
  );
  byId("influence").replaceChildren(
    el("thead", {}, el("tr", {}, el("td", {}), heads)),
    el("tbody", {}, rows),
  );
}

function influenceCell(share) {
  const strength = isKnown(share) ? Math.round(85 * share) : 0;
  const style = `background: color-mix(in srgb, var(--accent) ${strength}%, transparent)`;
  return el("td", { style, class: strength > 70 ? "strong" : null }, percent(share, 0));
}

/* Text, truth values and absent parameters become positions with one tick per choice. */
function dimension(label, column) {
  if (column.every((entry) => typeof entry === "number")) return { label, values: column };
  const names = column.map((entry) => (isKnown(entry) ? String(entry) : "–"));
  const choices = [...new Set(names)].sort();
  return {
    label,
    values: names.map((name) => choices.indexOf(name)),
    tickvals: choices.map((_, i) => i),
    ticktext: choices,
  };
}

/* Without a GPU a thousand lines take the better part of a second: no more are drawn, and none before they are seen. */
const MOST_LINES = 1000;
let isParallelDue = false;
const parallelWatch = new IntersectionObserver(
  (entries) => {
    if (!isParallelDue || !entries.some((entry) => entry.isIntersecting)) return;
    isParallelDue = false;
    drawParallelNow();
  },
  { rootMargin: "200px" },
);

function drawParallel() {
  isParallelDue = true;
  const box = byId("parallel");
  parallelWatch.unobserve(box);
  parallelWatch.observe(box); /* which tells at once whether it is in sight */
}

/* The front, and of the others every so many-th. */
function parallelTrials() {
  const complete = DATA.trials.filter((trial) => trial.state === "complete" && isEvaluated(trial));
  const front = complete.filter((trial) => trial.on_front).length;
  const every = Math.ceil((complete.length - front) / Math.max(1, MOST_LINES - front));
  let seen = 0;
  return { trials: complete.filter((trial) => trial.on_front || seen++ % every === 0), every };
}

function drawParallelNow() {
  const box = byId("parallel");
  const { trials, every } = parallelTrials();
  byId("parallel-note").textContent =
    (every > 1 ? `The trials on the front in colour, and one in ${every} of the others` : "One line per complete trial, those on the front in colour") +
    ". Drag along an axis to keep a range.";
  const differs = (column) => new Set(column).size > 1;
  const names = [...new Set(trials.flatMap((trial) => Object.keys(trial.params)))];
  const columns = [
    ...DATA.objectives.map((name) => [AXIS[name].title, trials.map((trial) => value(trial, name))]),
    ...names.map((name) => [name, trials.map((trial) => trial.params[name] ?? null)]),
  ].filter(([, column]) => differs(column));
  if (columns.length < 2 || !hasWebGL()) {
    const why =
      columns.length < 2
        ? "Too few trials differ to be compared here."
        : "This browser offers no WebGL, which this picture needs; the table holds the same numbers.";
    box.replaceChildren(el("p", { class: "empty" }, why));
    box.style.height = "auto";
    return;
  }
  const colors = palette();
  box.style.minWidth = `${110 * columns.length}px`;
  box.setAttribute("aria-label", `Parallel coordinates of ${columns.map(([name]) => name).join(", ")}`);
  const line = {
    color: trials.map((trial) => Number(trial.on_front)),
    colorscale: [
      [0, colors.faint],
      [1, colors.accent],
    ],
    cmin: 0,
    cmax: 1,
  };
  const trace = {
    type: "parcoords",
    line,
    dimensions: columns.map(([name, column]) => dimension(name, column)),
    labelfont: { size: 12, color: colors.ink },
    tickfont: { size: 11, color: colors.quiet },
    rangefont: { size: 11, color: colors.quiet },
  };
  Plotly.react(box, [trace], layout(colors, "", "", { margin: { l: 60, r: 50, t: 60, b: 24 } }), QUIET);
}
