/* One candidate in detail: layers and their clusters, Flash by part, the candidate itself. */

const SCOPE_WORDS = { per_slice: "per slice", shared: "shared", kernel_reuse: "kernel reuse" };

const LAYER_HEADS = [
  ["layer", true],
  ["kernel", true],
  ["output"],
  ["H"],
  ["L"],
  ["hash", true],
  ["N_c mean / worst"],
  ["r_t"],
  ["MACs"],
  [""],
  ["cycles"],
  ["share"],
  ["Flash"],
  ["scratch"],
];

function layersTable(trial, detail) {
  const { layers, measured } = detail;
  const total = layers.reduce((sum, layer) => sum + layer.cycles, 0) || 1;
  const most = Math.max(1, ...layers.map((layer) => layer.cycles));
  const seen = measured ? [...measured.n_clusters] : []; /* one per clustering layer, in order */
  const rows = layers.map((layer) => layerRow(layer, total, most, layer.trec ? seen.shift() : undefined));
  const heads = LAYER_HEADS.map(([head, isText]) => el("th", { scope: "col", class: isText ? "text" : null }, head));
  return el(
    "div",
    {},
    el("p", { class: "quiet small" }, clusteringNote(trial, detail)),
    el(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-label": "Layers" },
      el("table", { class: "numbers" }, el("thead", {}, el("tr", {}, heads)), el("tbody", {}, rows)),
    ),
  );
}

function layerRow(layer, total, most, seen) {
  const bar = el("i", { class: "cell", style: `width:${(100 * layer.cycles) / most}%` });
  return el(
    "tr",
    {},
    el("th", { scope: "row" }, layer.name),
    el("td", { class: "text" }, layer.op),
    el("td", {}, layer.output_shape.join("×")),
    ...clusterCells(layer, seen),
    el("td", {}, whole(layer.macs)),
    el("td", { class: "track-cell", "aria-hidden": "true" }, bar),
    el("td", {}, whole(layer.cycles)),
    el("td", {}, percent(layer.cycles / total)),
    el("td", {}, kib(layer.flash_bytes)),
    el("td", {}, layer.scratch_bytes ? kib(layer.scratch_bytes) : ""),
  );
}

/* Five columns, for a dense layer empty or with the reason why TREC left it so. What a firmware counted stands behind
   the estimate. */
function clusterCells({ trec, note }, seen) {
  if (note) return [el("td", { class: "text quiet small", colspan: 5 }, note)];
  if (!trec) return Array.from({ length: 5 }, () => el("td", {}));
  const counted = isKnown(seen) ? el("span", { class: "quiet" }, ` (${format(seen)} measured)`) : null;
  return [
    el("td", {}, trec.config.hash_bits),
    el("td", {}, trec.config.vector_length),
    el("td", { class: "text" }, SCOPE_WORDS[trec.config.scope] || trec.config.scope),
    el("td", {}, `${format(trec.mean_clusters)} / ${whole(trec.worst_clusters)}`, counted),
    el("td", {}, percent(trec.redundancy_ratio)),
  ];
}

function clusteringNote(trial, { layers, dense_macs: dense }) {
  if (!layers.some((layer) => layer.trec) || !dense) return "No layer clusters: every convolution is dense.";
  const saved = 1 - (1e6 * value(trial, "macs")) / dense;
  const does = saved >= 0 ? "leaves out" : "costs, hashes included, another";
  return `Clustering ${does} ${percent(Math.abs(saved))} of the ${whole(dense)} MACs of the dense network.`;
}

const N_BINS = 24;

/* Per clustering layer, how r_t spreads over the calibration images, between its guarantee and 1. */
function redundancy(detail) {
  const counted = (layer) => detail.n_clusters[layer.name] || [];
  const layers = detail.layers.filter((layer) => layer.trec && counted(layer).length);
  if (!layers.length) return [];
  const figures = layers.map((layer) => redundancyFigure(layer, counted(layer)));
  const n = counted(layers[0]).length;
  return [
    el("h3", { class: "apart" }, `Redundancy r_t of each layer over ${n} calibration images`),
    el("div", { class: "small-multiples" }, figures),
  ];
}

function redundancyFigure(layer, counts) {
  const all = layer.trec.n_slices * layer.trec.n_positions;
  const ratios = counts.map((count) => 1 - count / all);
  const least = 1 - layer.trec.worst_clusters / all;
  const low = Math.max(0, Math.min(least, ...ratios));
  const [width, height] = [220, 64];
  const x = (ratio) => ((ratio - low) / (1 - low || 1)) * width;
  const bins = Array(N_BINS).fill(0);
  for (const ratio of ratios) bins[Math.min(N_BINS - 1, Math.floor((x(ratio) / width) * N_BINS))] += 1;
  const most = Math.max(...bins);
  const mean = ratios.reduce((sum, ratio) => sum + ratio, 0) / ratios.length;
  const text =
    `mean ${percent(mean)}, ${percent(Math.min(...ratios))} to ${percent(Math.max(...ratios))}; ` +
    `at least ${percent(least)}: N_c ≤ ${whole(layer.trec.worst_clusters)}`;
  const image = svg("svg", { class: "bins", viewBox: `0 0 ${width} ${height + 16}`, role: "img", "aria-label": text });
  const step = width / N_BINS;
  image.append(
    ...bins.map((count, i) => {
      const tall = (count / most) * height;
      const bar = svg("rect", { x: i * step + 0.5, y: height - tall, width: step - 1, height: tall });
      bar.append(svg("title", {}, `${count} of ${ratios.length} images`));
      return bar;
    }),
    svg("line", { x1: 0, x2: width, y1: height, y2: height }),
    svg("line", { class: "mean", x1: x(mean), x2: x(mean), y1: 0, y2: height }),
    svg("text", { x: 0, y: height + 13 }, percent(low, 0)),
    svg("text", { x: width, y: height + 13, "text-anchor": "end" }, "100 %"),
  );
  return el("figure", {}, el("figcaption", {}, layer.name), image, el("p", { class: "quiet small" }, text));
}

function flashList(detail) {
  const most = Math.max(1, ...detail.flash.map((part) => part.value));
  const total = detail.flash.reduce((sum, part) => sum + part.value, 0);
  const last = detail.flash.length - 1;
  return el(
    "div",
    {},
    el("h3", {}, `Flash by part: ${kib(total)}`),
    el(
      "ul",
      { class: "bars" },
      detail.flash.map((part, i) =>
        el(
          "li",
          {},
          el("span", {}, part.name),
          el("i", {
            class: i === last ? "other" : null,
            style: `width:${(100 * part.value) / most}%`,
            "aria-hidden": "true",
          }),
          el("span", {}, kib(part.value)),
        ),
      ),
    ),
  );
}

function candidateText(detail) {
  const text = JSON.stringify(detail.candidate, null, 2);
  return el("details", {}, el("summary", {}, "Candidate as JSON"), copyButton(text), el("pre", { tabindex: 0 }, text));
}

function copyButton(text) {
  const button = el(
    "button",
    {
      type: "button",
      class: "plain",
      onclick: () => {
        navigator.clipboard.writeText(text).then(
          () => {
            button.textContent = "Copied";
          },
          () => {
            button.textContent = "Select the text below";
          },
        );
      },
    },
    "Copy",
  );
  return button;
}

function origin(detail) {
  const entries = [
    ["key", detail.key],
    ["evaluated in", `${format(detail.seconds)} s`],
    ...Object.entries(detail.versions),
  ];
  return el(
    "details",
    {},
    el("summary", {}, "Made with"),
    el(
      "dl",
      { class: "pairs" },
      entries.flatMap(([name, text]) => [el("dt", {}, name), el("dd", {}, text)]),
    ),
  );
}
