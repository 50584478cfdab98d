/* How figures look, and the plane of two objectives. */

const MANY_POINTS = 3000; /* beyond this WebGL draws faster than SVG */
const CONFIG = {
  displaylogo: false,
  responsive: true,
  modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]],
  toImageButtonOptions: { scale: 2 },
};
const QUIET = { displayModeBar: false, responsive: true };

function hasWebGL() {
  return Boolean(document.createElement("canvas").getContext("webgl"));
}

function layout(colors, xTitle, yTitle, more) {
  const axis = (title) => ({
    title: { text: title, font: { size: 13, color: colors.quiet } },
    color: colors.quiet,
    gridcolor: colors.grid,
    linecolor: colors.rule,
    zeroline: false,
    automargin: true,
    tickfont: { size: 12 },
  });
  const { xaxis, yaxis, ...rest } = more || {};
  return {
    font: { family: getComputedStyle(document.body).fontFamily, color: colors.ink, size: 13 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 56, r: 16, t: 18, b: 48 },
    showlegend: false,
    hoverlabel: { bgcolor: colors.sheet, bordercolor: colors.rule, font: { color: colors.ink, size: 13 } },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: colors.faint, activecolor: colors.accent },
    xaxis: { ...axis(xTitle), ...xaxis },
    yaxis: { ...axis(yTitle), ...yaxis },
    ...rest,
  };
}

/* The range that shows all that fits, the board's limit if it is near, and no lone giant far outside. */
function rangeOf(name, trials) {
  const known = (list) => list.flatMap((t) => [value(t, name), reading(t, name)]).filter(isKnown);
  const all = known(trials);
  if (!all.length) return [0, 1];
  const fitting = known(trials.filter((trial) => trial.fits));
  const limit = AXIS[name].limit;
  let top = Math.max(...(fitting.length ? fitting : all));
  if (limit && limit < 2 * top) top = Math.max(top, limit);
  top = Math.min(Math.max(...all, top), 1.5 * top);
  let low = Math.min(...all);
  if (low > 0 && low < 0.5 * top) low = 0;
  const margin = 0.06 * (top - low || Math.abs(top) || 1);
  return [low === 0 ? -margin / 2 : low - margin, top + margin];
}

const pointTexts = new WeakMap(); /* of ten thousand trials they take longer than the drawing */

function pointText(trial) {
  if (!pointTexts.has(trial)) pointTexts.set(trial, `<b>Trial ${trial.number}</b><br>${pointValues(trial).join("<br>")}`);
  return pointTexts.get(trial);
}

function pointTrace(trials, marker, type) {
  return {
    type,
    mode: "markers",
    x: trials.map((trial) => value(trial, view.x)),
    y: trials.map((trial) => value(trial, view.y)),
    customdata: trials.map((trial) => trial.number),
    text: trials.map(pointText),
    hovertemplate: "%{text}<extra></extra>",
    marker,
  };
}

/* A thin line from each estimate to its measurement, which is a hollow diamond. */
function measuredTraces(trials, colors) {
  const at = (trial, name) => (isKnown(reading(trial, name)) ? reading(trial, name) : value(trial, name));
  const moved = trials.filter((t) => isKnown(reading(t, view.x)) || isKnown(reading(t, view.y)));
  const line = { color: colors.ink, width: 1 };
  const join = (name) => moved.flatMap((trial) => [value(trial, name), at(trial, name), null]);
  const diamond = { symbol: "diamond-open", size: 9, color: colors.ink, line: { width: 1.3 } };
  const points = pointTrace(moved, diamond, "scatter");
  return [
    { type: "scatter", mode: "lines", x: join(view.x), y: join(view.y), line, hoverinfo: "skip" },
    {
      ...points,
      x: moved.map((t) => at(t, view.x)),
      y: moved.map((t) => at(t, view.y)),
      hovertemplate: "%{text}<br>measured<extra></extra>",
    },
  ];
}

/* Trials of which one value is unknown stand as ticks on the frame, at the value that is known. */
function edgeTrace(trials, colors) {
  const onX = trials.filter((trial) => isKnown(value(trial, view.x)) && !isKnown(value(trial, view.y)));
  return {
    ...pointTrace(onX, { symbol: "line-ns-open", size: 10, color: colors.warn, line: { width: 1.5 } }, "scatter"),
    y: onX.map(() => 0.985),
    yaxis: "y2",
    hovertemplate: "%{text}<br>not trained: exceeds the board<extra></extra>",
  };
}

/* Untrained trials are ticks on the upper edge, which needs the unknown value to be the one of y. */
function planeNotes(groups, shown, ranges) {
  const outside = groups.known.filter((t) => value(t, view.x) > ranges.x[1] || value(t, view.y) > ranges.y[1]).length;
  const untrained = shown.length - groups.known.length;
  const where = shown.some((trial) => isKnown(value(trial, view.x)) && !isKnown(value(trial, view.y)))
    ? " (ticks along the upper edge)"
    : "";
  const notes = [];
  if (outside) notes.push(`Outside the frame: ${outside}; double-click shows all.`);
  if (untrained) notes.push(`Beyond the board and therefore not trained: ${untrained}${where}.`);
  return notes.join(" ");
}

function planeGroups(shown) {
  const here = new Set(planeFront(view.x, view.y).map((trial) => trial.number));
  const known = shown.filter((trial) => isKnown(value(trial, view.x)) && isKnown(value(trial, view.y)));
  return {
    known,
    line: planeFront(view.x, view.y),
    front: known.filter((trial) => here.has(trial.number)),
    elsewhere: known.filter((trial) => trial.fits && trial.on_front && !here.has(trial.number)),
    dominated: known.filter((trial) => trial.fits && !trial.on_front && !here.has(trial.number)),
    stopped: known.filter((trial) => trial.state === "stopped"),
    unfit: known.filter((trial) => !trial.fits && trial.state !== "stopped"),
  };
}

function limitShapes(colors) {
  const style = { type: "line", line: { color: colors.warn, width: 1, dash: "dot" } };
  const shapes = [];
  if (AXIS[view.x].limit)
    shapes.push({ ...style, x0: AXIS[view.x].limit, x1: AXIS[view.x].limit, yref: "paper", y0: 0, y1: 1 });
  if (AXIS[view.y].limit)
    shapes.push({ ...style, y0: AXIS[view.y].limit, y1: AXIS[view.y].limit, xref: "paper", x0: 0, x1: 1 });
  return shapes;
}

function limitLabels(colors) {
  const style = (name) => ({
    text: `board: ${plain(AXIS[name].limit)} ${AXIS[name].unit}`,
    font: { size: 12, color: colors.warn },
    bgcolor: colors.sheet,
    opacity: 0.9,
    showarrow: false,
  });
  const labels = [];
  if (AXIS[view.x].limit)
    labels.push({
      ...style(view.x),
      x: AXIS[view.x].limit,
      yref: "paper",
      y: 0.9,
      textangle: -90,
      xanchor: "right",
      yanchor: "top",
    });
  if (AXIS[view.y].limit)
    labels.push({ ...style(view.y), y: AXIS[view.y].limit, xref: "paper", x: 1, xanchor: "right", yanchor: "bottom" });
  return labels;
}

function drawPlane() {
  const colors = palette();
  const shown = DATA.trials.filter((trial) => isEvaluated(trial) && isShown(trial));
  const groups = planeGroups(shown);
  const type = groups.known.length > MANY_POINTS && hasWebGL() ? "scattergl" : "scatter";
  const shape = AXIS[view.x].direction === "minimize" ? "hv" : "vh";
  const line = { color: colors.accent, width: 1.5, shape };
  const steps = {
    type: "scatter",
    mode: "lines",
    hoverinfo: "skip",
    line,
    x: groups.line.map((t) => value(t, view.x)),
    y: groups.line.map((t) => value(t, view.y)),
  };
  const scale = groups.known.length > 300 ? 0.72 : 1; /* many small points say more than a few large ones */
  const hollow = { size: 9 * scale, color: colors.sheet, line: { color: colors.accent, width: 1.6 } };
  const traces = [
    steps,
    pointTrace(
      groups.unfit,
      { symbol: "x-thin-open", size: 7 * scale, color: colors.warn, line: { width: 1.3 } },
      type,
    ),
    pointTrace(groups.stopped, { ...hollow, size: 6 * scale, line: { color: colors.faint, width: 1.2 } }, type),
    pointTrace(groups.dominated, { size: 6.5 * scale, color: colors.faint }, type),
    pointTrace(groups.elsewhere, hollow, type),
    pointTrace(groups.front, { size: 10 * scale, color: colors.accent }, type),
    ...measuredTraces(groups.known, colors),
    edgeTrace(shown, colors),
  ];
  const ranges = { x: rangeOf(view.x, shown), y: rangeOf(view.y, shown) };
  const more = {
    xaxis: { range: ranges.x },
    yaxis: { range: ranges.y },
    yaxis2: { overlaying: "y", range: [0, 1], visible: false, fixedrange: true },
    shapes: planeShapes(colors),
    annotations: limitLabels(colors),
    hovermode: "closest",
    uirevision: `${view.x} ${view.y}`, /* what the reader has zoomed to stays when the trials change */
  };
  Plotly.react("plane", traces, layout(colors, AXIS[view.x].title, AXIS[view.y].title, more), CONFIG);
  byId("plane-note").textContent = planeNotes(groups, shown, ranges);
  describePlane(groups);
}

/* Limits of the board and of the reader, and a circle around the trial that is chosen and the one held beside it. */
function planeShapes(colors) {
  const held = { ...ringShape(view.other, colors), line: { color: colors.ink, width: 1.6, dash: "dot" } };
  return [...limitShapes(colors), ...budgetShapes(colors), held, ringShape(view.trial, colors)];
}

/* Of fixed size, and a shape, since moving one redraws no points. */
function ringShape(number, colors) {
  const trial = BY_NUMBER.get(number);
  const isHere = trial && isKnown(value(trial, view.x)) && isKnown(value(trial, view.y));
  const size = { xsizemode: "pixel", ysizemode: "pixel", x0: -9, x1: 9, y0: -9, y1: 9 };
  const place = isHere ? { xanchor: value(trial, view.x), yanchor: value(trial, view.y) } : { visible: false };
  return { type: "circle", ...size, ...place, line: { color: colors.ink, width: 1.8 } };
}

function budgetShapes(colors) {
  const line = { color: colors.accent, width: 1, dash: "dash" };
  const limit = { x: budgetOn(view.x), y: budgetOn(view.y) };
  const shapes = [];
  if (isKnown(limit.x)) shapes.push({ type: "line", line, x0: limit.x, x1: limit.x, yref: "paper", y0: 0, y1: 1 });
  if (isKnown(limit.y)) shapes.push({ type: "line", line, y0: limit.y, y1: limit.y, xref: "paper", x0: 0, x1: 1 });
  return shapes;
}

function moveShapes() {
  Plotly.relayout("plane", { shapes: planeShapes(palette()) });
}

function describePlane(groups) {
  byId("plane").setAttribute(
    "aria-label",
    `${AXIS[view.y].title} over ${AXIS[view.x].title}: ${groups.known.length} trials, of which ${groups.line.length} ` +
      "form the front. Left and right arrow keys step along it. The table of trials holds the same numbers.",
  );
}

function drawLegend() {
  const mark = (shape, attributes) => {
    const icon = svg("svg", { width: 18, height: 14, "aria-hidden": "true" });
    icon.append(svg(shape, attributes));
    return icon;
  };
  const disc = (r, fill, stroke) =>
    mark("circle", {
      cx: 9,
      cy: 7,
      r,
      fill: `var(--${fill})`,
      stroke: stroke ? `var(--${stroke})` : "none",
      "stroke-width": 1.6,
    });
  const path = (d, stroke) => mark("path", { d, stroke: `var(--${stroke})`, fill: "none", "stroke-width": 1.4 });
  const names = DATA.objectives.map((name) => AXIS[name].label).join(", ");
  byId("legend").replaceChildren(
    el("li", {}, disc(5, "accent"), "front of these two"),
    el("li", {}, disc(4.4, "sheet", "accent"), `front of ${names}`),
    el("li", {}, disc(3.6, "faint"), "dominated"),
    el("li", {}, disc(3.4, "sheet", "faint"), "stopped early"),
    el("li", {}, path("M5 3l8 8M13 3l-8 8", "warn"), "does not fit"),
    el("li", {}, path("M9 2l5 5-5 5-5-5z", "ink"), "measured"),
  );
}
