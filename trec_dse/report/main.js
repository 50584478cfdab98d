/* The address, the controls, and the first drawing. */

function fail(message) {
  byId("fault").textContent = `This page could not be drawn: ${message}`;
  byId("fault").hidden = false;
  document.body.dataset.error = message;
}
window.addEventListener("error", (event) => fail(event.message));
window.addEventListener("unhandledrejection", (event) => fail(String(event.reason)));

/* #trial=3&with=5&x=flash&y=error&sram=65536: sizes in bytes, times in ms, energies in mJ, losses in pp; what is missing or unknown keeps its present value. */
function readAddress() {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const number = Number(fragment.get("trial"));
  if (fragment.has("trial") && BY_NUMBER.has(number)) view.trial = number;
  const other = Number(fragment.get("with"));
  if (fragment.has("with") && BY_NUMBER.has(other) && isEvaluated(BY_NUMBER.get(other))) view.other = other;
  if (AXIS[fragment.get("x")]) view.x = fragment.get("x");
  if (AXIS[fragment.get("y")]) view.y = fragment.get("y");
  for (const { id } of offeredBudgets()) if (Number(fragment.get(id)) > 0) view.budgets[id] = Number(fragment.get(id));
}

function writeAddress() {
  const fragment = new URLSearchParams();
  if (view.trial !== null) fragment.set("trial", view.trial);
  fragment.set("x", view.x);
  fragment.set("y", view.y);
  if (view.other !== null) fragment.set("with", view.other);
  for (const { id } of BUDGETS) if (isKnown(view.budgets[id])) fragment.set(id, view.budgets[id]);
  history.replaceState(null, "", `#${fragment}`);
}

function choose(number) {
  view.trial = number;
  writeAddress();
  drawCard();
  drawComparison();
  moveShapes();
  markRow();
}

/* From further down the page the card is out of sight, so it is also brought into view. */
function goTo(number) {
  choose(number);
  const isCalm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  byId("card").scrollIntoView({ block: "nearest", behavior: isCalm ? "auto" : "smooth" });
}

function redraw() {
  drawCard(); /* its height is the height of the plane */
  drawPlane();
  drawComparison();
  drawTable();
}

function drawOverviews() {
  drawAgreement();
  drawProgress();
  drawInfluence();
  drawParallel();
}

function drawAll() {
  redraw();
  drawOverviews();
}

function drawHead() {
  const { board, trials } = DATA;
  byId("board").textContent =
    `${board.name}: ${board.mcu}, ${board.core} at ${format(board.clock_hz / 1e6)} MHz, ` +
    `${whole(board.flash_bytes / KIB)} KiB Flash, ${whole(board.sram_bytes / KIB)} KiB SRAM` +
    (board.costs ? `; cycles by the costs of ${board.costs}` : "");
  const count = (keep) => trials.filter(keep).length;
  const errors = trials
    .filter((trial) => trial.fits)
    .map((trial) => value(trial, "error"))
    .filter(isKnown);
  const figures = [
    ["trials", whole(trials.length), ""],
    ["fit the board", whole(count((trial) => trial.fits)), ""],
    ["on the front", whole(count((trial) => trial.on_front)), ""],
    ["measured", whole(count(isMeasured)), ""],
    ["failed", whole(count((trial) => trial.state === "failed")), ""],
    ["least error", errors.length ? format(Math.min(...errors)) : "–", "pp"],
  ];
  byId("figures").replaceChildren(
    ...figures.map(([label, text, unit]) =>
      el("div", {}, el("dt", {}, label), el("dd", {}, text, unit ? el("small", {}, unit) : null)),
    ),
  );
}

function drawProvenance() {
  const entries = [
    ["seed", String(DATA.seed)],
    ["objectives", DATA.objectives.join(", ")],
    ...Object.entries(DATA.versions),
  ];
  byId("provenance").replaceChildren(...entries.flatMap(([name, text]) => [el("dt", {}, name), el("dd", {}, text)]));
  byId("space").textContent = DATA.space;
}

function fillAxes() {
  for (const side of ["x", "y"]) {
    const select = byId(`axis-${side}`);
    select.replaceChildren(...DATA.axes.map((axis) => el("option", { value: axis.name }, AXIS[axis.name].title)));
    select.value = view[side];
    select.addEventListener("change", () => {
      view[side] = select.value;
      writeAddress();
      redraw();
    });
  }
}

function wireControls() {
  for (const id of ["only-fits", "only-front", "only-measured"]) byId(id).addEventListener("change", redraw);
  byId("csv").addEventListener("click", saveCsv);
  byId("rows").addEventListener("scroll", drawRows, { passive: true });
  byId("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const isDark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = isDark ? "light" : "dark";
    drawAll();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  window.addEventListener("hashchange", () => {
    readAddress();
    writeAddress();
    byId("axis-x").value = view.x;
    byId("axis-y").value = view.y;
    redraw();
    drawBudgets();
    scrollToChosen();
  });
  let pending = 0;
  window.addEventListener("resize", () => {
    clearTimeout(pending);
    pending = setTimeout(() => {
      drawCard();
      drawComparison();
      drawRows();
    }, 150);
  });
}

/* Arrow keys walk along the front; from a trial that is not on it, they start at its end. */
function wirePlane() {
  const plane = byId("plane");
  new ResizeObserver(() => Plotly.Plots.resize(plane)).observe(plane);
  plane.on("plotly_click", (event) => isKnown(event.points[0].customdata) && choose(event.points[0].customdata));
  plane.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const line = planeFront(view.x, view.y);
    if (!by || !line.length) return;
    event.preventDefault();
    const place = line.findIndex((trial) => trial.number === view.trial);
    const next = place < 0 ? 0 : Math.min(Math.max(place + by, 0), line.length - 1);
    choose(line[next].number);
  });
}

take(JSON.parse(byId("data").textContent));
makeColumns();
view.trial = DATA.knee;
const [firstObjective, secondObjective] = DATA.objectives;
view.y = firstObjective || view.y;
view.x = secondObjective || view.x;
readAddress();
drawHead();
drawProvenance();
fillAxes();
drawLegend();
redraw();
drawBudgets();
wireControls();
wirePlane();
/* what lies below the first screen waits until that has been painted */
setTimeout(() => {
  drawOverviews();
  const chosen = BY_NUMBER.get(view.trial);
  const ready = () => (document.body.dataset.ready = "true");
  if (chosen && isEvaluated(chosen)) wantDetails([chosen], ready);
  else ready();
  follow();
});
