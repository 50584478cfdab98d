/* The card of one candidate: figures, estimate against measurement, budgets, parameters. */

function drawCard() {
  const trial = BY_NUMBER.get(view.trial);
  const card = byId("card");
  if (!trial) {
    card.replaceChildren(
      el("h2", {}, "No trial chosen"),
      el("p", { class: "empty" }, "Choose a point of the plane or a row of the table."),
    );
    byId("detail").hidden = true;
    byId("what-if").hidden = true;
    return;
  }
  byId("said").textContent = `Trial ${trial.number}: ${pointValues(trial).join(", ")}`;
  const why = trial.message ? [el("p", { class: "warn small" }, trial.message)] : [];
  const detail = detailOf(trial);
  card.replaceChildren(
    cardHead(trial),
    tags(trial, detail),
    ...why,
    ...(isEvaluated(trial) ? [keyFigures(trial)] : []),
    ...(detail ? cardBody(trial, detail) : []),
    parameters(trial),
  );
  if (detail) {
    drawDetail(trial, detail);
    drawWhatIf(trial);
  } else if (isEvaluated(trial)) wantDetails([trial], () => view.trial === trial.number && drawCard());
  else for (const id of ["detail", "what-if"]) byId(id).hidden = true;
}

function drawDetail(trial, detail) {
  byId("detail").hidden = false;
  byId("detail").replaceChildren(
    el("h2", {}, `Trial ${trial.number} in detail`),
    layersTable(trial, detail),
    ...redundancy(detail),
    el("div", { class: "halves" }, arenaFigure(detail, "arena"), flashList(detail)),
    el("div", { class: "halves" }, candidateText(detail), origin(detail)),
  );
  drawArena(detail, "arena");
}

function cardHead(trial) {
  const line = planeFront(view.x, view.y);
  const place = line.indexOf(trial);
  const step = (label, text, by) => {
    const to = line[place + by];
    return el(
      "button",
      {
        type: "button",
        class: "plain",
        "aria-label": label,
        title: label,
        disabled: place < 0 || !to,
        onclick: () => choose(to.number),
      },
      text,
    );
  };
  return el(
    "div",
    { class: "bar" },
    el("h2", {}, `Trial ${trial.number}`),
    el(
      "div",
      { class: "steps" },
      holdButton(trial),
      step("Previous on the front", "←", -1),
      step("Next on the front", "→", 1),
    ),
  );
}

function tags(trial, detail) {
  const tag = (text, kind) => el("li", { class: kind }, text);
  const measured = detail && detail.measured;
  const over = Object.entries(detail ? detail.violations : {}).filter(([, excess]) => excess > 0);
  return el(
    "ul",
    { class: "tags" },
    trial.number === DATA.knee ? tag("knee", "good") : null,
    trial.on_front ? tag("on the front", "good") : null,
    trial.fits || trial.state === "infeasible" ? null : tag(trial.state, trial.state === "failed" ? "bad" : ""),
    over.map(([name, excess]) => tag(`${name} ${percent(excess, 0)} over`, "bad")),
    isEvaluated(trial) && !isKnown(value(trial, "error")) ? tag("not trained", "") : null,
    measured
      ? tag(
          measured.n_mismatches
            ? `${measured.n_mismatches} of ${measured.n_images} images differ`
            : `bit-exact on ${measured.n_images} images, ${measured.executor}`,
          measured.n_mismatches ? "bad" : "good",
        )
      : null,
    isEvaluated(trial) && !isMeasured(trial) ? tag("not measured", "") : null,
  );
}

function keyFigures(trial) {
  const keys = DATA.objectives.map((name) =>
    el(
      "div",
      {},
      el("dt", { title: AXIS[name].summary }, AXIS[name].label),
      el("dd", {}, format(value(trial, name)), el("small", {}, AXIS[name].unit)),
    ),
  );
  return el("dl", { class: "keys" }, keys);
}

function cardBody(trial, detail) {
  const { memory } = detail;
  return [
    comparison(trial, detail),
    budget("SRAM", DATA.board.sram_bytes, [
      ["arena", memory.arena, "accent"],
      ["stack", memory.stack, "scratch"],
      ["other", memory.static, "output"],
    ]),
    budget("Flash", DATA.board.flash_bytes, [
      ["weights", memory.weights, "accent"],
      ["code", memory.code, "faint"],
    ]),
  ];
}

/* Estimate against measurement. */
function comparison(trial, detail) {
  const { memory, measured } = detail;
  const ms = (number) => (isKnown(number) ? `${format(number)} ms` : "–");
  const mj = (number) => (isKnown(number) ? `${format(number)} mJ` : "–");
  const seen = measured || {};
  const rows = [
    comparisonRow("SRAM", value(trial, "sram") * KIB, seen.sram_bytes, kib),
    comparisonRow("Flash", value(trial, "flash") * KIB, seen.flash_bytes, kib),
    comparisonRow("Arena", memory.arena, seen.arena_bytes, kib),
    comparisonRow("Stack", memory.stack, seen.stack_bytes, kib),
    comparisonRow("Latency", value(trial, "latency"), reading(trial, "latency"), ms),
    comparisonRow("… of half the images", value(trial, "median_latency"), reading(trial, "median_latency"), ms),
    comparisonRow("… of 99 in 100", value(trial, "p99_latency"), reading(trial, "p99_latency"), ms),
    comparisonRow("Worst latency", value(trial, "worst_latency"), reading(trial, "worst_latency"), ms),
    comparisonRow("Energy", value(trial, "energy"), reading(trial, "energy"), mj),
  ];
  /* a reserve and a bound are no predictions: how far the measurement stays below them is no error */
  for (const i of [3, 7]) rows[i].lastChild.textContent = "";
  const heads = ["estimated", "measured", "apart"].map((head) => el("th", { scope: "col" }, head));
  return el(
    "div",
    {},
    el("table", { class: "numbers" }, el("thead", {}, el("tr", {}, el("td", {}), heads)), el("tbody", {}, rows)),
    accuracyLine(detail),
    energyLine(detail),
  );
}

function comparisonRow(label, estimate, seen, text) {
  const apart = isKnown(estimate) && seen ? estimate / seen - 1 : 0;
  const sign = Math.abs(apart) < 0.0005 ? "" : apart > 0 ? "+" : "−";
  return el(
    "tr",
    {},
    el("th", { scope: "row" }, label),
    el("td", {}, text(estimate)),
    el("td", {}, text(seen)),
    el("td", { class: Math.abs(apart) > 0.05 ? "warn" : "quiet" }, seen ? `${sign}${percent(Math.abs(apart))}` : ""),
  );
}

function accuracyLine(detail) {
  const { float_accuracy: float, int8_accuracy: int8, test_accuracy: test, measured } = detail;
  const known = Object.entries({ float, int8, test }).filter(([, share]) => isKnown(share));
  const parts = known.map(([name, share]) => `${name} ${percent(share, 2)}`);
  if (measured)
    parts.push(`${measured.executor} ${percent(measured.accuracy, 2)} of ${whole(measured.n_images)} images`);
  return parts.length ? el("p", { class: "quiet small" }, `Accuracy: ${parts.join(", ")}`) : null;
}

function energyLine({ measured }) {
  const energy = measured && measured.energy;
  if (!energy) return null;
  const spread = `${format(energy.mj_least)} to ${format(energy.mj_most)} mJ`;
  const currents = `${format(energy.run_ma)} mA at ${format(energy.volts)} V, ${format(energy.idle_ma)} mA while it waits`;
  const seen = `Energy of ${whole(energy.n_inferences)} inferences by ${energy.instrument}`;
  return el("p", { class: "quiet small", id: "metered" }, `${seen}: ${spread}; ${currents}`);
}

function budget(label, capacity, parts) {
  const used = parts.reduce((sum, [, bytes]) => sum + bytes, 0);
  const scale = Math.max(used, capacity);
  return el(
    "div",
    { class: "budget" },
    el(
      "p",
      {},
      el("span", {}, label),
      el(
        "span",
        { class: used > capacity ? "warn" : "quiet" },
        `${kib(used)} of ${plain(capacity / KIB)} KiB, ${percent(used / capacity, 0)}`,
      ),
    ),
    el(
      "div",
      { class: "track", "aria-hidden": "true" },
      parts.map(([, bytes, hue]) => el("i", { style: `width:${(100 * bytes) / scale}%;background:var(--${hue})` })),
    ),
    el(
      "ul",
      { class: "swatches" },
      parts.map(([name, bytes, hue]) =>
        el("li", {}, el("i", { style: `background:var(--${hue})` }), `${name} ${kib(bytes)}`),
      ),
    ),
  );
}

function parameters(trial) {
  const entries = Object.entries(trial.params);
  return el(
    "details",
    { open: entries.length <= 6 },
    el("summary", {}, `Parameters (${entries.length})`),
    el(
      "dl",
      { class: "pairs" },
      entries.flatMap(([name, setting]) => [
        el("dt", {}, name),
        el("dd", {}, isKnown(setting) ? String(setting) : "–"),
      ]),
    ),
  );
}
