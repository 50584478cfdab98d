/* One candidate in detail: layers, arena over time, Flash by part, the candidate itself. */

const KIND_COLOR = { input: "input", activation: "accent", output: "output", scratch: "scratch" };
const SCOPE_WORDS = { per_slice: "per slice", shared: "shared", kernel_reuse: "kernel reuse" };

function layersTable(trial) {
  const { detail } = trial;
  const total = detail.layers.reduce((sum, layer) => sum + layer.cycles, 0) || 1;
  const most = Math.max(1, ...detail.layers.map((layer) => layer.cycles));
  const seen = detail.measured ? [...detail.measured.n_clusters] : [];
  const heads = [
    "layer",
    "kernel",
    "output",
    "H",
    "L",
    "hash",
    "N_c mean / worst",
    "r_t",
    "MACs",
    "",
    "cycles",
    "share",
    "Flash",
    "scratch",
  ];
  const textual = new Set([0, 1, 5]);
  const rows = detail.layers.map((layer) => {
    const trec = layer.trec;
    const clusters = trec ? `${format(trec.mean_clusters)} / ${whole(trec.worst_clusters)}` : "";
    const measured = trec && seen.length ? `measured: ${format(seen.shift())}` : null;
    return el(
      "tr",
      {},
      el("th", { scope: "row" }, layer.name),
      el("td", { class: "text" }, layer.op),
      el("td", {}, layer.output_shape.join("×")),
      el("td", {}, trec ? trec.config.hash_bits : ""),
      el("td", {}, trec ? trec.config.vector_length : ""),
      el("td", { class: "text" }, trec ? SCOPE_WORDS[trec.config.scope] || trec.config.scope : ""),
      el("td", { title: measured }, clusters),
      el("td", {}, trec ? percent(trec.redundancy_ratio) : ""),
      el("td", {}, whole(layer.macs)),
      el(
        "td",
        { class: "track-cell", "aria-hidden": "true" },
        el("i", { class: "cell", style: `width:${(100 * layer.cycles) / most}%` }),
      ),
      el("td", {}, whole(layer.cycles)),
      el("td", {}, percent(layer.cycles / total)),
      el("td", {}, kib(layer.flash_bytes)),
      el("td", {}, layer.scratch_bytes ? kib(layer.scratch_bytes) : ""),
    );
  });
  const note = clusteringNote(trial);
  return el(
    "div",
    {},
    el("p", { class: "quiet small" }, note),
    el(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-label": "Layers" },
      el(
        "table",
        { class: "numbers" },
        el(
          "thead",
          {},
          el(
            "tr",
            {},
            heads.map((head, i) => el("th", { scope: "col", class: textual.has(i) ? "text" : null }, head)),
          ),
        ),
        el("tbody", {}, rows),
      ),
    ),
  );
}

function clusteringNote(trial) {
  const { layers, dense_macs: dense } = trial.detail;
  if (!layers.some((layer) => layer.trec) || !dense) return "No layer clusters: every convolution is dense.";
  const saved = 1 - (1e6 * value(trial, "macs")) / dense;
  const does = saved >= 0 ? "leaves out" : "costs, hashes included, another";
  return `Clustering ${does} ${percent(Math.abs(saved))} of the ${whole(dense)} MACs of the dense network.`;
}

function arenaFigure(detail) {
  const kinds = [...new Set(detail.arena.buffers.map((buffer) => buffer.kind))];
  return el(
    "div",
    {},
    el("h3", {}, `Arena over time: ${kib(detail.arena.arena_bytes)}`),
    el("div", { id: "arena" }),
    el(
      "ul",
      { class: "swatches" },
      kinds.map((kind) => el("li", {}, el("i", { style: `background:var(--${KIND_COLOR[kind]})` }), kind)),
    ),
  );
}

/* Rectangles of step by bytes: what lies where in the arena, and when. */
function drawArena(detail) {
  const box = byId("arena");
  const { steps, buffers, arena_bytes: arena } = detail.arena;
  if (!buffers.length) {
    box.replaceChildren(el("p", { class: "empty" }, "No plan of the arena is recorded."));
    return;
  }
  const width = Math.max(260, box.clientWidth),
    left = 44;
  const plotHeight = Math.min(420, Math.max(230, 21 * detail.flash.length - 60)); /* about as high as its neighbour */
  const top = Math.max(arena, ...buffers.map((buffer) => buffer.offset + buffer.size));
  const step = (width - left - 4) / steps.length;
  const tilted = step < 8 * Math.max(...steps.map((name) => name.length));
  const height = plotHeight + (tilted ? 78 : 30);
  const y = (bytes) => 8 + plotHeight * (1 - bytes / top);
  const image = svg("svg", {
    class: "arena",
    width,
    height,
    role: "img",
    "aria-label": `Arena of ${kib(arena)}: ${buffers.length} buffers over ${steps.length} steps`,
  });
  for (let i = 0; i <= 4; i++) {
    const bytes = (top * i) / 4;
    image.append(svg("line", { x1: left, x2: width, y1: y(bytes), y2: y(bytes) }));
    image.append(
      svg("text", { class: "axis", x: left - 8, y: y(bytes) + 4, "text-anchor": "end" }, format(bytes / KIB)),
    );
  }
  for (const buffer of buffers) {
    const x = left + buffer.first * step + 1,
      wide = (buffer.last - buffer.first + 1) * step - 2;
    const high = (plotHeight * buffer.size) / top,
      hue = `var(--${KIND_COLOR[buffer.kind]})`;
    const rectangle = svg("rect", {
      x,
      y: y(buffer.offset + buffer.size),
      width: wide,
      height: Math.max(1.5, high - 1),
      fill: hue,
      stroke: hue,
    });
    rectangle.append(
      svg(
        "title",
        {},
        `${buffer.name}: ${whole(buffer.size)} bytes at ${whole(buffer.offset)}, steps ${buffer.first} to ${buffer.last}`,
      ),
    );
    image.append(rectangle);
    const fits = high > 15 && wide > 7.4 * buffer.name.length;
    if (fits)
      image.append(
        svg("text", { x: x + 6, y: y(buffer.offset + buffer.size) + 14, "pointer-events": "none" }, buffer.name),
      );
  }
  image.append(svg("line", { class: "peak", x1: left, x2: width, y1: y(arena), y2: y(arena) }));
  const every = Math.ceil(14 / step);
  steps.forEach((name, i) => {
    if (i % every) return;
    const x = left + (i + 0.5) * step,
      base = plotHeight + 24;
    const text = name.length > 16 ? `${name.slice(0, 15)}…` : name;
    image.append(
      svg(
        "text",
        tilted
          ? { class: "axis", x, y: base, "text-anchor": "end", transform: `rotate(-40 ${x} ${base})` }
          : { class: "axis", x, y: base, "text-anchor": "middle" },
        text,
      ),
    );
  });
  box.replaceChildren(image);
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
