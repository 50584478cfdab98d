/* The sortable table of trials, and its CSV. */

const PARAMETERS = [...new Set(DATA.trials.flatMap((trial) => Object.keys(trial.params)))];
const COLUMNS = [
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
  ...PARAMETERS.map((name) => ({
    id: `param.${name}`,
    label: name,
    of: (trial) => trial.params[name] ?? null,
    text: true,
  })),
].filter((column) => !column.id.endsWith(" measured") || DATA.trials.some((trial) => isKnown(column.of(trial))));

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
  const shown = sorted(DATA.trials.filter(isShown));
  table.tHead.replaceChildren(el("tr", {}, COLUMNS.map(headCell)));
  table.tBodies[0].replaceChildren(...shown.slice(0, view.rows).map(tableRow));
  const more = byId("more");
  more.hidden = shown.length <= view.rows;
  more.textContent = `Show all ${shown.length} trials`;
  markRow();
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

function tableRow(trial) {
  const cells = COLUMNS.slice(1).map((column) => {
    const content = column.of(trial);
    const text = column.show ? format(content) : isKnown(content) ? String(content) : "–";
    return el("td", { class: column.text ? "text" : null }, text);
  });
  const openCard = (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return; /* the reader wants the link in another tab */
    event.preventDefault();
    goTo(trial.number);
  };
  const link = el("a", { href: `#trial=${trial.number}` }, String(trial.number));
  return el(
    "tr",
    { "data-trial": trial.number, class: trial.fits ? null : "off", onclick: openCard },
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
