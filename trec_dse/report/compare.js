/* Two candidates side by side: figures, layers, arenas over time, parameters that differ. */

function holdButton(trial) {
  const isHeld = view.other === trial.number;
  const label = isHeld ? "Let go" : "Compare";
  const title = isHeld ? "Compare with nothing" : "Hold this trial, then choose another to see both side by side";
  const hold = () => {
    view.other = isHeld ? null : trial.number;
    writeAddress();
    drawCard();
    drawComparison();
    moveShapes();
  };
  return isEvaluated(trial) && el("button", { type: "button", class: "plain", id: "hold", title, onclick: hold }, label);
}

function drawComparison() {
  const box = byId("comparison");
  const held = BY_NUMBER.get(view.other);
  const chosen = BY_NUMBER.get(view.trial);
  box.hidden = !held;
  if (!held) return;
  if (!chosen || chosen === held || !isEvaluated(chosen)) {
    box.replaceChildren(
      comparisonHead(`Trial ${held.number} and …`),
      el("p", { class: "empty" }, "Choose another trial, in the plane or in the table, to see both side by side."),
    );
    return;
  }
  const pair = [held, chosen];
  if (!pair.every(detailOf)) {
    wantDetails(pair, () => view.other === held.number && view.trial === chosen.number && drawComparison());
    return;
  }
  const both = pair.map(detailOf);
  const most = Math.max(...both.map((detail) => detail.arena.arena_bytes));
  box.replaceChildren(
    comparisonHead(`Trial ${held.number} and trial ${chosen.number}`),
    el("div", { class: "pair" }, figuresTable(pair, both), differences(pair)),
    pairedLayers(pair, both),
    el(
      "div",
      { class: "pair" },
      both.map((detail, i) =>
        el("div", {}, el("h3", { class: "whose" }, `Trial ${pair[i].number}`), arenaFigure(detail, `arena-${i}`)),
      ),
    ),
  );
  both.forEach((detail, i) => drawArena(detail, `arena-${i}`, most));
}

function comparisonHead(text) {
  const letGo = () => {
    view.other = null;
    writeAddress();
    drawCard();
    drawComparison();
    moveShapes();
  };
  const swap = () => {
    const held = view.other;
    view.other = view.trial;
    choose(held);
  };
  const button = (label, act) => el("button", { type: "button", class: "plain", onclick: act }, label);
  return el(
    "div",
    { class: "bar" },
    el("h2", { id: "h-comparison" }, text),
    el("div", { class: "steps" }, button("Swap", swap), button("Close", letGo)),
  );
}

/* Every objective and the accuracies of both, and how far the second is from the first. */
function figuresTable(pair, both) {
  const objectives = DATA.axes.map(({ name, unit, direction }) => {
    const [a, b] = pair.map((trial) => value(trial, name));
    const isPoints = unit === "pp";
    const change = isKnown(a) && isKnown(b) ? (isPoints ? b - a : a ? b / a - 1 : null) : null;
    const text = !isKnown(change) ? "" : isPoints ? `${signed(change, 2)} pp` : `${signed(100 * change, 1)} %`;
    const isBetter = isKnown(change) && change !== 0 && (change < 0 ? direction === "minimize" : direction === "maximize");
    return figureRow(AXIS[name].title, format(a), format(b), text, change ? (isBetter ? "good" : "warn") : "quiet");
  });
  const share = (of) => both.map((detail) => percent(of(detail), 2));
  const accuracies = [
    ["Accuracy, float", ...share((detail) => detail.float_accuracy)],
    ["Accuracy, int8", ...share((detail) => detail.int8_accuracy)],
    ["Accuracy, test", ...share((detail) => detail.test_accuracy)],
  ].filter(([, a, b]) => a !== "–" || b !== "–");
  const seen = ["sram", "flash", "latency"]
    .filter((name) => pair.some((trial) => isKnown(reading(trial, name))))
    .map((name) => [`${AXIS[name].title}, measured`, ...pair.map((trial) => format(reading(trial, name)))]);
  const heads = pair.map((trial) => el("th", { scope: "col" }, `trial ${trial.number}`));
  const rows = [...objectives, ...[...accuracies, ...seen].map((cells) => figureRow(...cells, "", null))];
  return el(
    "div",
    { class: "scroll" },
    el(
      "table",
      { class: "numbers", id: "figures-of-two" },
      el("thead", {}, el("tr", {}, el("td", {}), heads, el("th", { scope: "col" }, "change"))),
      el("tbody", {}, rows),
    ),
  );
}

function figureRow(label, a, b, change, kind) {
  return el("tr", {}, el("th", { scope: "row" }, label), el("td", {}, a), el("td", {}, b), el("td", { class: kind }, change));
}

function signed(number, digits) {
  const text = Math.abs(number).toFixed(digits);
  return Number(text) === 0 ? text : `${number < 0 ? "−" : "+"}${text}`;
}

function differences(pair) {
  const names = [...new Set(pair.flatMap((trial) => Object.keys(trial.params)))];
  const text = (setting) => (isKnown(setting) ? String(setting) : "–");
  const rows = names
    .map((name) => [name, ...pair.map((trial) => text(trial.params[name]))])
    .filter(([, a, b]) => a !== b)
    .map(([name, a, b]) => el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, a), el("td", {}, b)));
  const same = names.length - rows.length;
  const heads = pair.map((trial) => el("th", { scope: "col" }, `trial ${trial.number}`));
  const table = el(
    "table",
    { class: "numbers" },
    el("thead", {}, el("tr", {}, el("td", {}, "parameter"), heads)),
    el("tbody", {}, rows),
  );
  return el(
    "div",
    { class: "scroll" },
    rows.length ? table : el("p", { class: "empty" }, "Both have the same parameters."),
    same ? el("p", { class: "quiet small" }, `The other ${same} parameters are the same.`) : null,
  );
}

/* Layers by name, in the order of the first network, then those that only the second has. */
function pairedLayers(pair, both) {
  const names = [...new Set(both.flatMap((detail) => detail.layers.map((layer) => layer.name)))];
  const find = (detail, name) => detail.layers.find((layer) => layer.name === name);
  const most = Math.max(1, ...both.flatMap((detail) => detail.layers.map((layer) => layer.cycles)));
  const rows = names.map((name) => {
    const layers = both.map((detail) => find(detail, name));
    return el("tr", {}, el("th", { scope: "row" }, name), layers.map((layer) => layerCells(layer, most)));
  });
  const totals = both.map((detail) => {
    const sum = (of) => detail.layers.reduce((all, layer) => all + of(layer), 0);
    return [el("td", { class: "text first" }), el("td"), el("td"), el("td", {}, whole(sum((l) => l.cycles))), el("td", {}, kib(sum((l) => l.flash_bytes)))];
  });
  const whose = pair.map((trial) => el("th", { scope: "colgroup", colspan: 5, class: "first" }, `trial ${trial.number}`));
  const heads = pair.flatMap(() => ["H, L", "r_t", "", "cycles", "Flash"].map((head, i) => el("th", { scope: "col", class: i ? null : "text first" }, head)));
  return el(
    "div",
    { class: "scroll apart", tabindex: 0, role: "region", "aria-label": "Layers of both" },
    el(
      "table",
      { class: "numbers two" },
      el("thead", {}, el("tr", {}, el("td", {}), whose), el("tr", {}, el("td", {}, "layer"), heads)),
      el("tbody", {}, rows, el("tr", { class: "sum" }, el("th", { scope: "row" }, "all"), totals)),
    ),
  );
}

function layerCells(layer, most) {
  if (!layer) return [el("td", { class: "quiet text first", colspan: 5 }, "not there")];
  const { trec } = layer;
  const reuse = trec && trec.config.scope === "kernel_reuse" ? " reuse" : "";
  return [
    el("td", { class: "text first" }, trec ? `${trec.config.hash_bits}, ${trec.config.vector_length}${reuse}` : "dense"),
    el("td", {}, trec ? percent(trec.redundancy_ratio) : ""),
    el("td", { class: "track-cell narrow", "aria-hidden": "true" }, el("i", { class: "cell", style: `width:${(100 * layer.cycles) / most}%` })),
    el("td", {}, whole(layer.cycles)),
    el("td", {}, kib(layer.flash_bytes)),
  ];
}
