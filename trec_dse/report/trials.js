/* The sortable table of trials, and its CSV. Only the rows in sight are in the document, however many there are. */

const ROW = 31; /* height of a row in pixels, as the style sheet says */
const MOST_HIGH = 660; /* of the window on the table, as the style sheet says */
const SPARE = 8; /* rows drawn above and below those in sight */
let COLUMNS = [];
let shownTrials = [];

function makeColumns() {
  const parameters = [...new Set(DATA.trials.flatMap((trial) => Object.keys(trial.params)))];
  COLUMNS = [
    { id: "trial", label: "trial", of: (trial) => trial.number },
    {
      id: "state",
      label: "state",
      of: (trial) => (trial.on_front ? "front" : trial.fits || trial.state !== "complete" ? trial.state : "infeasible"),
      text: true,
    },
    ...DATA.axes.flatMap((axis) => [
      { id: axis.name, label: `${axis.label} (${axis.unit})`, of: (trial) => value(trial, axis.name), show: format },
      {
        id: `${axis.name} measured`,
        label: "↳ measured",
        head: `${axis.label} measured (${axis.unit})`,
        of: (trial) => reading(trial, axis.name),
        show: format,
      },
    ]),
    ...parameters.map((name) => ({
      id: `param.${name}`,
      label: name,
      of: (trial) => trial.params[name] ?? null,
      text: true,
    })),
  ].filter((column) => !column.id.endsWith(" measured") || DATA.trials.some((trial) => isKnown(column.of(trial))));
  for (const column of COLUMNS) column.width = widthOf(column);
}

/* In characters, from the heading and a sample: columns must not jump while rows come and go. */
function widthOf(column) {
  const every = Math.ceil(DATA.trials.length / 300);
  const texts = DATA.trials.filter((_, i) => i % every === 0).map((trial) => cellText(column, trial));
  return Math.min(34, Math.max(column.label.length, ...texts.map((text) => text.length)) + 4);
}

function cellText(column, trial) {
  const content = column.of(trial);
  return column.show ? column.show(content) : isKnown(content) ? String(content) : "–";
}

/* Unknown values sort last either way. */
function sorted(trials) {
  const column = COLUMNS.find((each) => each.id === view.sort.column);
  const sign = view.sort.down ? -1 : 1;
  return [...trials].sort((left, right) => {
    const a = column.of(left),
      b = column.of(right);
    if (!isKnown(a) || !isKnown(b)) return Number(!isKnown(a)) - Number(!isKnown(b)) || left.number - right.number;
    const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
    return sign * order || left.number - right.number;
  });
}

function drawTable() {
  const table = byId("table");
  shownTrials = sorted(DATA.trials.filter(isShown));
  table.tHead.replaceChildren(el("tr", {}, COLUMNS.map(headCell)));
  table.querySelector("colgroup").replaceChildren(...COLUMNS.map(({ width }) => el("col", { style: `width:${width}ch` })));
  table.style.width = `${COLUMNS.reduce((sum, { width }) => sum + width, 0)}ch`;
  table.setAttribute("aria-rowcount", shownTrials.length + 1);
  byId("count").textContent =
    shownTrials.length < DATA.trials.length ? `${whole(shownTrials.length)} of ${whole(DATA.trials.length)}` : "";
  drawRows();
}

/* The rows in sight, between two rows that are as high as what is left out. */
function drawRows() {
  const box = byId("rows");
  const n = shownTrials.length;
  const inSight = Math.ceil(Math.max(box.clientHeight, MOST_HIGH) / ROW); /* empty at first, it is less high */
  const first = Math.max(0, Math.min(Math.floor(box.scrollTop / ROW), n - inSight) - SPARE);
  const last = Math.min(n, first + inSight + 2 * SPARE);
  const gap = (count) => (count > 0 ? [el("tr", { class: "gap", style: `height:${count * ROW}px` })] : []);
  const rows = shownTrials.slice(first, last).map((trial, i) => tableRow(trial, first + i));
  byId("table").tBodies[0].replaceChildren(...gap(first), ...rows, ...gap(n - last));
  markRow();
}

/* Bring the row of the trial that is chosen into the window of the table. */
function scrollToChosen() {
  const box = byId("rows");
  const place = shownTrials.findIndex((trial) => trial.number === view.trial);
  if (place < 0) return;
  const [top, inner] = [place * ROW, box.clientHeight - 2 * ROW];
  if (top < box.scrollTop || top > box.scrollTop + inner) box.scrollTop = Math.max(0, top - inner / 2);
}

function headCell(column) {
  const isSorted = view.sort.column === column.id;
  const direction = view.sort.down ? "descending" : "ascending";
  const sortBy = () => {
    view.sort = { column: column.id, down: isSorted && !view.sort.down };
    drawTable();
    byId("table").querySelector("th[aria-sort] button").focus();
  };
  const label = column.head ? `Sort by ${column.head}` : null;
  return el(
    "th",
    { scope: "col", class: column.text ? "text" : null, "aria-sort": isSorted ? direction : null },
    el("button", { type: "button", onclick: sortBy, title: column.head || null, "aria-label": label }, column.label),
  );
}

function tableRow(trial, place) {
  const cells = COLUMNS.slice(1).map((column) =>
    el("td", { class: column.text ? "text" : null }, cellText(column, trial)),
  );
  const openCard = (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return; /* the reader wants the link in another tab */
    event.preventDefault();
    goTo(trial.number);
  };
  const link = el("a", { href: `#trial=${trial.number}` }, String(trial.number));
  return el(
    "tr",
    { "data-trial": trial.number, "aria-rowindex": place + 2, class: trial.fits ? null : "off", onclick: openCard },
    el("th", { scope: "row" }, link),
    cells,
  );
}

function markRow() {
  for (const row of byId("table").tBodies[0].rows) {
    const isChosen = Number(row.dataset.trial) === view.trial;
    row.classList.toggle("chosen", isChosen);
    if (isChosen) row.setAttribute("aria-current", "true");
    else row.removeAttribute("aria-current");
  }
}

function csv() {
  const quote = (cell) => (/[",\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);
  const line = (cells) => cells.map((cell) => quote(isKnown(cell) ? String(cell) : "")).join(",");
  const rows = DATA.trials.map((trial) => line(COLUMNS.map((column) => column.of(trial))));
  return [line(COLUMNS.map((column) => column.head || column.label)), ...rows].join("\n") + "\n";
}

function saveCsv() {
  const link = el("a", { href: URL.createObjectURL(new Blob([csv()], { type: "text/csv" })), download: "trials.csv" });
  link.click();
  URL.revokeObjectURL(link.href);
}
