/* The arena over time: rectangles of step by bytes, what lies where and when. */

const KIND_COLOR = { input: "input", activation: "accent", output: "output", scratch: "scratch" };
const LEFT = 44; /* room for the numbers of the upright axis */

function arenaFigure(detail, id) {
  const kinds = [...new Set(detail.arena.buffers.map((buffer) => buffer.kind))];
  const swatch = (kind) => el("li", {}, el("i", { style: `background:var(--${KIND_COLOR[kind]})` }), kind);
  return el(
    "div",
    {},
    el("h3", {}, `Arena over time: ${kib(detail.arena.arena_bytes)}${fullest(detail.arena)}`),
    el("div", { id }),
    el("ul", { class: "swatches" }, kinds.map(swatch)),
  );
}

/* The step that holds most live bytes is where a smaller network would begin. */
function fullest({ steps, buffers }) {
  if (!buffers.length) return "";
  const live = steps.map((_, i) => covered(buffers.filter((each) => each.first <= i && i <= each.last)));
  const most = Math.max(...live);
  return `, fullest at ${steps[live.indexOf(most)]} with ${kib(most)}`;
}

/* Bytes that lie in any of the buffers: an output may grow into its input, and then both share some. */
function covered(buffers) {
  let [sum, end] = [0, 0];
  for (const { offset, size } of [...buffers].sort((a, b) => a.offset - b.offset)) {
    sum += Math.max(0, offset + size - Math.max(offset, end));
    end = Math.max(end, offset + size);
  }
  return sum;
}

/* `least`: bytes that the upright axis shows at least, so that two arenas can stand side by side. */
function drawArena(detail, id, least = 0) {
  const box = byId(id);
  const { steps, buffers, arena_bytes: arena } = detail.arena;
  if (!buffers.length) {
    box.replaceChildren(el("p", { class: "empty" }, "No plan of the arena is recorded."));
    return;
  }
  const width = Math.max(260, box.clientWidth);
  const high = Math.min(420, Math.max(230, 21 * detail.flash.length - 60)); /* about as high as its neighbour */
  const top = Math.max(least, arena, ...buffers.map((buffer) => buffer.offset + buffer.size));
  const step = (width - LEFT - 4) / steps.length;
  const isTilted = step < 8 * Math.max(...steps.map((name) => name.length));
  const plan = { width, high, top, step, isTilted, y: (bytes) => 8 + high * (1 - bytes / top) };
  const label = `Arena of ${kib(arena)}: ${buffers.length} buffers over ${steps.length} steps`;
  const height = high + (isTilted ? 78 : 30);
  const image = svg("svg", { class: "arena", width, height, role: "img", "aria-label": label });
  const peak = svg("line", { class: "peak", x1: LEFT, x2: width, y1: plan.y(arena), y2: plan.y(arena) });
  image.append(...byteLines(plan), ...buffers.flatMap((buffer) => bufferBox(buffer, plan)), peak);
  image.append(...stepNames(steps, plan));
  box.replaceChildren(image);
}

function byteLines({ width, top, y }) {
  return [0, 1, 2, 3, 4].flatMap((i) => {
    const bytes = (top * i) / 4;
    const place = { class: "axis", x: LEFT - 8, y: y(bytes) + 4, "text-anchor": "end" };
    const line = svg("line", { x1: LEFT, x2: width, y1: y(bytes), y2: y(bytes) });
    return [line, svg("text", place, format(bytes / KIB))];
  });
}

function bufferBox({ name, kind, offset, size, first, last }, { high, top, step, y }) {
  const x = LEFT + first * step + 1;
  const width = (last - first + 1) * step - 2;
  const tall = (high * size) / top;
  const hue = `var(--${KIND_COLOR[kind]})`;
  const box = svg("rect", { x, y: y(offset + size), width, height: Math.max(1.5, tall - 1), fill: hue, stroke: hue });
  box.append(svg("title", {}, `${name}: ${whole(size)} bytes at ${whole(offset)}, steps ${first} to ${last}`));
  if (tall <= 15 || width <= 7.4 * name.length) return [box];
  return [box, svg("text", { x: x + 6, y: y(offset + size) + 14, "pointer-events": "none" }, name)];
}

function stepNames(steps, { high, step, isTilted }) {
  const every = Math.ceil(14 / step);
  const base = high + 24;
  return steps.flatMap((name, i) => {
    if (i % every) return [];
    const x = LEFT + (i + 0.5) * step;
    const tilt = { "text-anchor": "end", transform: `rotate(-40 ${x} ${base})` };
    const place = { class: "axis", x, y: base, ...(isTilted ? tilt : { "text-anchor": "middle" }) };
    return [svg("text", place, name.length > 16 ? `${name.slice(0, 15)}…` : name)];
  });
}
