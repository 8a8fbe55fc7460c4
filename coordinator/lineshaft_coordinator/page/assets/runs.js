// Records of runs: a table to pick from, and several beside each other.
import { get } from "./api.js";
import { Grid, inOrder } from "./charts.js";
import { h, show } from "./dom.js";
import { empty, pill, when } from "./parts.js";
import { Series, history } from "./series.js";
import { duration, number } from "./words.js";

const COLUMNS_AT_FIRST = 6;
const CHIPS_MAX = 200;

export function runsView() {
  const abort = new AbortController();
  const picked = new Set();
  const columns = new Map(); // metric -> whether it has a column
  let runs = [];
  const list = h("section", { "aria-label": "Runs" });
  const compare = h("button", { type: "button", disabled: true, onclick: () => { location.hash = `#/compare/${[...picked].map(encodeURIComponent).join(",")}`; } }, "Compare");
  const find = h("input", { id: "find", type: "search", placeholder: "part of experiment, run or tag", oninput: () => draw() });
  function pick(id, isOn) {
    if (isOn) picked.add(id); else picked.delete(id);
    compare.disabled = picked.size < 2;
    compare.textContent = picked.size ? `Compare ${picked.size}` : "Compare";
  }
  function toggle(name) {
    columns.set(name, !columns.get(name));
    draw();
  }
  function draw() {
    const wanted = find.value.trim().toLowerCase();
    const shown = runs.filter((run) => [run.experiment, run.description ?? "", run.run, ...run.tags].join(" ").toLowerCase().includes(wanted));
    for (const name of shown.flatMap((run) => Object.keys(run.last ?? {}))) {
      if (!columns.has(name)) columns.set(name, columns.size < COLUMNS_AT_FIRST);
    }
    show(list, shown.length ? [chips(columns, toggle), runTable(shown, picked, pick, columns)]
      : empty(wanted ? "No run is like that." : "No run yet: a job becomes one when it tells numbers."));
  }
  return {
    abort,
    element: h("div", null, h("h1", null, "Runs"), h("div", { class: "filters" }, h("span", { class: "pair" }, h("label", { for: "find" }, "Find"), find), compare), list),
    async update() {
      runs = await get("api/v1/runs?limit=500", abort.signal);
      draw();
    },
  };
}

/** One button a metric, pressed where it has a column. */
function chips(columns, toggle) {
  const names = [...columns.keys()].sort();
  const more = names.length - CHIPS_MAX;
  return h("div", { class: "chips", role: "group", "aria-label": "Columns" },
    ...names.slice(0, CHIPS_MAX).map((name) => h("button", { type: "button", "data-key": `chip ${name}`, "aria-pressed": String(columns.get(name)), onclick: () => toggle(name) }, name)),
    more > 0 ? h("small", { class: "note" }, `and ${more} more`) : null);
}

function runTable(runs, picked, pick, columns) {
  const metrics = [...columns.keys()].sort().filter((name) => columns.get(name));
  const title = ["", "run", "experiment", "status", "started", "took"].map((text) => h("th", { scope: "col" }, text));
  return h("table", { class: "cards" }, h("thead", null, h("tr", null, ...title,
      ...metrics.map((name) => h("th", { scope: "col", class: "number" }, name)))),
    h("tbody", null, ...runs.map((run) => h("tr", null,
      h("td", { "data-label": "compare" }, h("input", { type: "checkbox", "aria-label": `compare ${run.description || run.run}`, "data-key": run.run, checked: picked.has(run.run),
        onchange: (event) => pick(run.run, event.target.checked) })),
      h("td", { "data-label": "run" }, h("a", { href: `#/jobs/${encodeURIComponent(run.run)}` }, run.description || run.run)),
      h("td", { "data-label": "experiment" }, run.experiment),
      h("td", { "data-label": "status" }, pill(run.status.toLowerCase())),
      h("td", { "data-label": "started" }, when(Date.parse(run.started_at) / 1000)),
      h("td", { "data-label": "took" }, duration(run.duration_s)),
      ...metrics.map((name) => h("td", { "data-label": name, class: "number" }, number(run.last?.[name])))))));
}

export function compareView(ids) {
  const abort = new AbortController();
  const grid = new Grid("compare", true);
  const table = h("section", { class: "compared", "aria-label": "Last values" });
  const runs = ids.map((id) => ({ id, series: new Series(), isLoaded: false }));
  function draw() {
    const names = [...new Set(runs.flatMap((run) => [...run.series.metrics.keys()]))];
    const { x } = grid.options;
    grid.draw(names.map((name) => [name, runs.filter((run) => run.series.metrics.has(name)).map((run) => {
      const attempts = run.series.metrics.get(name);
      const points = attempts.get(Math.max(...attempts.keys()));
      const begin = points.at[0];
      return { label: run.name ?? run.id, isOld: false, ...inOrder(x === "time" ? points.at.map((at) => at - begin) : points.step, points.value) };
    }), ""]));
    show(table, h("table", null, h("thead", null, h("tr", null, h("th", { scope: "col" }, "last value"), ...runs.map((run) => h("th", { scope: "col", class: "number" }, h("a", { href: `#/jobs/${encodeURIComponent(run.id)}` }, run.name ?? run.id))))),
      h("tbody", null, ...names.map((name) => h("tr", null, h("th", { scope: "row" }, name), ...runs.map((run) => {
        const attempts = run.series.metrics.get(name);
        return h("td", { class: "number" }, number(attempts?.get(Math.max(...attempts.keys())).value.at(-1)));
      }))))));
  }
  grid.redraw = draw;
  abort.signal.addEventListener("abort", () => grid.destroy());
  return {
    abort,
    element: h("div", null, h("h1", null, "Compare"), grid.controls, table, grid.element),
    async update() {
      await Promise.all(runs.map(async (run) => {
        run.name ??= (await get(`api/v1/jobs/${encodeURIComponent(run.id)}`, abort.signal)).name;
        await history(run.id, run.series, abort.signal);
      }));
      draw();
    },
  };
}
