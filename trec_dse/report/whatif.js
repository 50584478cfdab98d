/* What if the trained network clustered otherwise? Sliders over a grid that the page holds, or that the server fills. */

const LIVE_BITS = [1, 2, 3, 4, 5, 6, 7, 8];
const LIVE_POLICIES = ["channels", "kernel_row", "whole"];
const POLICY_WORDS = { channels: "one pixel", kernel_row: "one kernel row", whole: "all of K", custom: "as the trial has it" };

const whatIf = { trial: null, bits: null, policy: null, reuse: null };
const grids = new Map(); /* trial -> { nImages, trained, points: Map of setting -> point } */
const settingKey = ({ bits, policy, reuse }) => `${bits} ${policy} ${reuse}`;

function addGrid(grid) {
  const known = grids.get(grid.trial) || { points: new Map(), settings: [] };
  known.nImages = grid.n_images;
  known.trained = grid.trained;
  grid.settings.forEach((setting, i) => {
    const of = { bits: setting.hash_bits, policy: setting.slice_policy, reuse: setting.n_kernel_reuse };
    if (!known.points.has(settingKey(of))) known.settings.push(of);
    known.points.set(settingKey(of), grid.points[i]);
  });
  grids.set(grid.trial, known);
}

/* What the sliders can be set to for a trained trial whose detail is here; null where there is nothing to ask. */
function choicesOf(trial) {
  const grid = grids.get(trial.number);
  if (isLive) {
    const convolutions = detailOf(trial).layers.filter((layer) => /^(conv2d|trec_(strip_)?conv2d)$/.test(layer.op)).length;
    return { bits: LIVE_BITS, policies: LIVE_POLICIES, reuse: Math.min(3, convolutions) };
  }
  if (!grid) return null;
  const distinct = (name) => [...new Set(grid.settings.map((setting) => setting[name]))];
  return { bits: distinct("bits").sort((a, b) => a - b), policies: distinct("policy"), reuse: Math.max(...distinct("reuse")) };
}

function drawWhatIf(trial) {
  const isTrained = isKnown(value(trial, "error")) && trial.state !== "stopped"; /* a stopped one left no network */
  byId("what-if").hidden = !isTrained;
  if (!isTrained) return;
  const choices = choicesOf(trial);
  byId("h-what-if").textContent = `What if trial ${trial.number} clustered otherwise?`;
  byId("what-if-hint").hidden = Boolean(choices);
  byId("what-if-body").hidden = !choices;
  byId("what-if-hint").replaceChildren(
    "Its trained network can be asked without training anything: ",
    el("code", {}, `trec-dse report ${STUDY} --what-if ${trial.number}`),
    " computes a grid for this page, ",
    el("code", {}, `trec-dse serve ${STUDY}`),
    " answers at once.",
  );
  if (!choices) return;
  if (whatIf.trial !== trial.number) {
    Object.assign(whatIf, startingAt(trial, choices));
    fillWhatIf(choices);
  }
  answerWhatIf();
}

/* The trial's own setting where the sliders have it, else the middle. */
function startingAt(trial, choices) {
  const own = detailOf(trial).candidate.trec || {};
  const among = (list, wanted, otherwise) => (list.includes(wanted) ? wanted : otherwise);
  return {
    trial: trial.number,
    bits: among(choices.bits, own.hash_bits_early, choices.bits[choices.bits.length >> 1]),
    policy: among(choices.policies, own.slice_policy, choices.policies[0]),
    reuse: Math.min(choices.reuse, own.n_kernel_reuse || 0),
  };
}

function fillWhatIf({ bits, policies, reuse }) {
  const slider = (id, label, list, name) => {
    const input = el("input", { type: "range", id, min: 0, max: list.length - 1, step: 1 });
    input.value = list.indexOf(whatIf[name]);
    const shown = el("output", { for: id }, String(whatIf[name]));
    input.addEventListener("input", () => {
      whatIf[name] = list[Number(input.value)];
      shown.textContent = whatIf[name];
      answerWhatIf();
    });
    return el("div", { class: "slider" }, el("label", { for: id }, label), input, shown);
  };
  const select = el(
    "select",
    { id: "what-if-policy" },
    policies.map((policy) => el("option", { value: policy }, POLICY_WORDS[policy])),
  );
  select.value = whatIf.policy;
  select.addEventListener("change", () => {
    whatIf.policy = select.value;
    answerWhatIf();
  });
  byId("what-if-controls").replaceChildren(
    slider("what-if-bits", "Hash bits H", bits, "bits"),
    slider("what-if-reuse", "Layers with kernel reuse", Array.from({ length: reuse + 1 }, (_, i) => i), "reuse"),
    el("div", { class: "slider" }, el("label", { for: "what-if-policy" }, "A vector L is"), select),
  );
}

let askedFor = "";

/* Show the answer to the present setting, asking the server for it if need be, a moment after the last move. */
function answerWhatIf() {
  const grid = grids.get(whatIf.trial);
  const point = grid && grid.points.get(settingKey(whatIf));
  if (point) showAnswer(grid, point);
  else if (isLive) {
    byId("what-if-note").textContent = "The server computes this one …";
    const wanted = { ...whatIf };
    askedFor = settingKey(wanted);
    setTimeout(() => askedFor === settingKey(wanted) && askWhatIf(wanted), 250);
  }
}

async function askWhatIf({ trial, bits, policy, reuse }) {
  try {
    const answer = await fetch(`what-if?trial=${trial}&bits=${bits}&policy=${policy}&reuse=${reuse}`);
    if (!answer.ok) throw new Error(await answer.text());
    addGrid(untabulated(await answer.json()));
    if (whatIf.trial === trial) answerWhatIf();
  } catch (problem) {
    byId("what-if-note").textContent = `No answer: ${problem.message}`;
  }
}

function showAnswer({ nImages, trained, points }, point) {
  byId("what-if-note").textContent = point.refusal
    ? `There is no such network: ${point.refusal}.`
    : "Nothing is retrained: the weights stay, a layer whose clustering changes gets a hash from the principal directions " +
      `of the calibration images. Accuracy: int8, by the C code, on ${whole(nImages)} validation images.`;
  byId("what-if-answer").hidden = Boolean(point.refusal);
  if (point.refusal) return;
  const ms = (cycles, of) => (1000 * cycles) / of.clock_hz;
  const row = (label, of, show, lessIsBetter, isPoints) => {
    const [a, b] = [of(trained), of(point)];
    const change = isPoints ? 100 * (b - a) : a ? 100 * (b / a - 1) : 0;
    const text = change ? `${signed(change, isPoints ? 2 : 1)} ${isPoints ? "pp" : "%"}` : "";
    return figureRow(label, show(a), show(b), text, change ? (change < 0 === lessIsBetter ? "good" : "warn") : null);
  };
  const share = (ratio) => percent(ratio, 2);
  const time = (number) => `${format(number)} ms`;
  byId("what-if-figures").replaceChildren(
    el("thead", {}, el("tr", {}, el("td"), ["as trained", "as set", "change"].map((head) => el("th", { scope: "col" }, head)))),
    el(
      "tbody",
      {},
      row("Accuracy", (p) => p.accuracy, share, false, true),
      row("SRAM", (p) => p.sram_bytes, kib, true),
      row("Flash", (p) => p.flash_bytes, kib, true),
      row("Latency", (p) => ms(p.cycles, p), time, true),
      row("Worst latency", (p) => ms(p.worst_cycles, p), time, true),
      row("MACs", (p) => p.macs, whole, true),
    ),
  );
  drawWhatIfLayers(trained, point);
  drawWhatIfPlane(trained, point, points);
}

function drawWhatIfLayers(trained, point) {
  const names = [...new Set([trained, point].flatMap((each) => Object.keys(each.configs)))];
  const text = (config) =>
    config ? `${config.hash_bits}, ${config.vector_length}${config.scope === "kernel_reuse" ? " reuse" : ""}` : "dense";
  const cells = (each, name) => [
    el("td", { class: "text first" }, text(each.configs[name])),
    el("td", {}, name in each.redundancy ? percent(each.redundancy[name]) : ""),
  ];
  const rows = names.map((name) => el("tr", {}, el("th", { scope: "row" }, name), cells(trained, name), cells(point, name)));
  const heads = [0, 1].map(() => [el("th", { scope: "col", class: "text first" }, "H, L"), el("th", { scope: "col" }, "r_t")]);
  const whose = ["as trained", "as set"].map((head) => el("th", { scope: "colgroup", colspan: 2, class: "first" }, head));
  byId("what-if-layers").replaceChildren(
    el("thead", {}, el("tr", {}, el("td"), whose), el("tr", {}, el("td", {}, "layer"), heads)),
    el("tbody", {}, rows),
  );
}

/* Every answer so far in the plane of latency and error; a click sets the sliders. */
function drawWhatIfPlane(trained, point, points) {
  const colors = palette();
  const known = [...points].filter(([, each]) => !each.refusal);
  const ms = (each) => (1000 * each.cycles) / each.clock_hz;
  const trace = (each, keys, marker, name) => ({
    type: "scatter",
    mode: "markers",
    name,
    x: each.map(ms),
    y: each.map((one) => 100 * (1 - one.accuracy)),
    customdata: keys,
    text: each.map((one) => `${percent(one.accuracy, 2)}, ${kib(one.sram_bytes)} SRAM, ${format(ms(one))} ms`),
    hovertemplate: `%{text}<extra>${name}</extra>`,
    marker,
  });
  const says = known.map(([key]) => {
    const [bits, policy, reuse] = key.split(" ");
    return `H ${bits}, L ${POLICY_WORDS[policy]}, ${reuse} reuse`;
  });
  const all = { ...trace(known.map(([, each]) => each), known.map(([key]) => key), { size: 7, color: colors.faint }, "asked so far") };
  all.hovertemplate = "%{hovertext}<br>%{text}<extra></extra>";
  all.hovertext = says;
  const hollow = { size: 11, symbol: "diamond-open", color: colors.ink, line: { width: 1.6 } };
  const traces = [all, trace([point], [null], { size: 11, color: colors.accent }, "as set"), trace([trained], [null], hollow, "as trained")];
  const plot = byId("what-if-plane");
  const more = { showlegend: true, legend: { orientation: "h", y: 1.12, x: 0 }, hovermode: "closest" };
  Plotly.react(plot, traces, layout(colors, "latency (ms)", "error (pp)", more), QUIET);
  if (plot.dataset.wired) return;
  plot.dataset.wired = "true";
  plot.on("plotly_click", (event) => {
    const key = event.points[0].customdata;
    if (!key) return;
    const [bits, policy, reuse] = key.split(" ");
    Object.assign(whatIf, { bits: Number(bits), policy, reuse: Number(reuse) });
    fillWhatIf(choicesOf(BY_NUMBER.get(whatIf.trial)));
    answerWhatIf();
  });
}
