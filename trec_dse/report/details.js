/* Details of trials: unpacked from the page, or asked of the server that wrote it, and kept. */

const details = new Map(); /* trial number -> detail */
const asked = new Map(); /* what is on its way: block or number -> promise */
const blockOf = new Map();
for (const block of document.querySelectorAll("script.block"))
  for (const number of block.dataset.trials.split(" ")) blockOf.set(Number(number), block);

const detailOf = (trial) => details.get(trial.number);

/* Call `then` once the details of `trials` are here; those that cannot be read are told on the page. */
function wantDetails(trials, then) {
  const missing = trials.filter((trial) => !details.has(trial.number));
  Promise.all(missing.map(fetchDetail)).then(then);
}

function fetchDetail(trial) {
  const source = blockOf.get(trial.number) || trial.number;
  if (!asked.has(source)) asked.set(source, (blockOf.has(trial.number) ? unpack(source) : askServer(source)).finally(() => asked.delete(source)));
  return asked.get(source);
}

/* A block is gzip in base64: an object of details by trial number. */
async function unpack(block) {
  const bytes = Uint8Array.from(atob(block.textContent), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const found = untabulated(JSON.parse(await new Response(stream).text()));
  for (const [number, detail] of Object.entries(found)) details.set(Number(number), detail);
}

async function askServer(number) {
  const answer = await fetch(`detail?trial=${number}`);
  if (!answer.ok) throw new Error(`the server has no detail of trial ${number}: ${answer.status}`);
  details.set(number, untabulated(await answer.json()));
}
