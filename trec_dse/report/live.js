/* Following a search: `trec-dse serve` is asked for changes, and what the reader has set stays as it is. */

const POLL = 2000;
let isAnswering = true;

function follow() {
  if (!isLive) return;
  byId("live").hidden = false;
  sayLive(new Date());
  setInterval(() => document.hidden || refresh(), POLL);
  document.addEventListener("visibilitychange", () => document.hidden || refresh());
}

async function refresh() {
  try {
    const answer = await fetch(`data?version=${document.body.dataset.version}`);
    if (!answer.ok) throw new Error(await answer.text());
    if (answer.status === 200) {
      update(await answer.json());
      document.body.dataset.version = answer.headers.get("X-Version");
    }
    if (answer.status === 200 || !isAnswering) sayLive(new Date());
    isAnswering = true;
  } catch {
    if (isAnswering) sayLive(null);
    isAnswering = false;
  }
}

function sayLive(time) {
  const running = DATA.trials.filter((trial) => trial.state === "running").length;
  byId("live").classList.toggle("warn", !time);
  byId("live").textContent = time
    ? `live: ${whole(DATA.trials.length)} trials, ${running} running, as of ${time.toLocaleTimeString()}`
    : "the server does not answer any more; the page shows what it knew last";
}

/* New data under the same controls: choice, axes, filters, order, budgets, zoom and scroll position stay. */
function update(data) {
  const text = (number) => JSON.stringify(BY_NUMBER.get(number));
  const before = [view.trial, view.other].map(text);
  take(data);
  makeColumns();
  details.clear();
  if (view.trial === null) view.trial = DATA.knee;
  const [isChosenSame, isOtherSame] = [view.trial, view.other].map((number, i) => text(number) === before[i]);
  drawHead();
  if (!isChosenSame) drawCard();
  if (!isChosenSame || !isOtherSame) drawComparison();
  drawPlane();
  drawTable();
  if (byId("budgets").contains(document.activeElement)) drawChoice();
  else drawBudgets();
  drawOverviews();
}
