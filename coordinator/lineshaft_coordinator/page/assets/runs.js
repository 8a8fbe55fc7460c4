// Records of runs: a table to pick from, and several beside each other.
import { ApiError, get, job } from "./api.js";
import { Grid, inOrder } from "./charts.js";
import { h, show } from "./dom.js";
import { edit } from "./editing.js";
import { saveNotebook } from "./notebook.js";
import { empty, pill, runName, tagList, when } from "./parts.js";
import { Series, history, ownFirst } from "./series.js";
import { may } from "./who.js";
import { duration, number, plural } from "./words.js";

const COLUMNS_AT_FIRST = 6;
const CHIPS_MAX = 200;

const EXPERIMENTS_MS = 15_000;

/** All runs, or those of one experiment and what is said of it. */
export function runsView(experiment) {
  const abort = new AbortController();
  const picked = new Set();
  const columns = new Map(); // metric -> whether it has a column
  let runs = [], experiments = [], askedAt = 0;
  const head = h("section", { class: "head" }), others = h("section", { "aria-label": "Experiments" });
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
    const shown = runs.filter((run) => [run.experiment, run.description ?? "", run.name ?? "", run.run, ...run.tags].join(" ").toLowerCase().includes(wanted));
    for (const name of shown.flatMap((run) => Object.keys(run.last ?? {}))) {
      if (!columns.has(name)) columns.set(name, columns.size < COLUMNS_AT_FIRST);
    }
    show(list, shown.length ? [chips(columns, toggle), runTable(shown, picked, pick, columns)]
      : empty(wanted ? "No run is like that." : "No run yet: a job becomes one when it tells numbers."));
  }
  function change(found) {
    edit("Edit the experiment", `api/experiments/${encodeURIComponent(experiment)}/metadata`, [
      { name: "display_name", label: "Name", kind: "line", max: 200, value: found.display_name === found.id ? "" : found.display_name },
      { name: "description", label: "Notes", kind: "notes", max: 10_000, value: found.description },
      { name: "tags", label: "Tags", kind: "tags", max: 10_000, value: Array.isArray(found.tags) ? found.tags.map(String) : [] },
      { name: "project", label: "Project", kind: "line", max: 200, value: found.project },
    ], abort.signal, async () => { askedAt = 0; await view.update(); });
  }
  const view = {
    abort,
    element: h("div", null, head, others, h("div", { class: "filters" }, h("span", { class: "pair" }, h("label", { for: "find" }, "Find"), find), compare), list),
    async update() {
      const only = experiment === undefined ? "" : `&experiment=${encodeURIComponent(experiment)}`;
      runs = await get(`api/v1/runs?limit=500${only}`, abort.signal);
      if (Date.now() - askedAt > EXPERIMENTS_MS) {
        experiments = await get("api/experiments", abort.signal);
        askedAt = Date.now();
      }
      const found = experiments.find((each) => each.id === experiment);
      if (experiment !== undefined && !found) throw new ApiError(404, `There is no experiment ${experiment}.`);
      show(head, ...(found ? experimentHead(found, () => change(found)) : [h("h1", null, "Runs")]));
      if (!found) show(others, experiments.length > 1 ? experimentTable(experiments, others.querySelector("details")?.open) : null);
      draw();
    },
  };
  return view;
}

function experimentHead(found, change) {
  return [
    h("h1", null, found.display_name),
    h("p", { class: "facts" }, h("a", { href: "#/runs", "data-key": "all" }, "all runs"), ` / `, h("code", null, found.id), found.project ? `, project ${found.project}` : ""),
    tagList(found.tags),
    found.description ? h("p", { class: "notes" }, found.description) : null,
    may("control") ? h("div", { class: "actions" }, h("button", { type: "button", "data-key": "edit", onclick: change }, "Edit")) : null,
  ];
}

function experimentTable(experiments, isOpen) {
  return h("details", { open: isOpen }, h("summary", { "data-key": "experiments" }, plural(experiments.length, "experiment")),
    h("table", { class: "cards" }, h("thead", null, h("tr", null, ...["experiment", "project", "tags"].map((text) => h("th", { scope: "col" }, text)), h("th", { scope: "col", class: "number" }, "runs"))),
      h("tbody", null, ...experiments.map((each) => h("tr", null,
        h("td", { "data-label": "experiment" }, h("a", { href: `#/runs/${encodeURIComponent(each.id)}`, "data-key": `experiment ${each.id}` }, each.display_name),
          each.description ? h("span", { class: "note" }, each.description.split("\n")[0].slice(0, 140)) : null),
        h("td", { "data-label": "project" }, each.project || "–"),
        h("td", { "data-label": "tags" }, tagList(each.tags) ?? "–"),
        h("td", { "data-label": "runs", class: "number" }, number(each.runs_count)))))));
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
      h("td", { "data-label": "compare" }, h("input", { type: "checkbox", "aria-label": `compare ${runName(run)}`, "data-key": run.run, checked: picked.has(run.run),
        onchange: (event) => pick(run.run, event.target.checked) })),
      h("td", { "data-label": "run" }, h("a", { href: `#/runs/${encodeURIComponent(run.experiment)}/${encodeURIComponent(run.run)}`, "data-key": `open ${run.run}` }, runName(run)), tagList(run.tags)),
      h("td", { "data-label": "experiment" }, h("a", { href: `#/runs/${encodeURIComponent(run.experiment)}`, "data-key": `in ${run.run}` }, run.experiment)),
      h("td", { "data-label": "status" }, pill(run.status.toLowerCase())),
      h("td", { "data-label": "started" }, when(Date.parse(run.started_at) / 1000)),
      h("td", { "data-label": "took" }, duration(run.duration_s)),
      ...metrics.map((name) => h("td", { "data-label": name, class: run.last?.[name] === undefined ? "number none" : "number" }, number(run.last?.[name])))))));
}

/** From the record, which stays when the job is forgotten; a job that has none yet says it itself. */
async function nameOf(id, signal) {
  try {
    const found = await get(`api/v1/runs/${encodeURIComponent(id)}`, signal);
    return { name: runName(found), params: found.config, href: `#/runs/${encodeURIComponent(found.experiment)}/${encodeURIComponent(id)}` };
  } catch (error) {
    if (!(error instanceof ApiError) || ![404, 500, 503].includes(error.status)) throw error;
    return { name: (await get(job(id), signal)).name || id, href: `#/jobs/${encodeURIComponent(id)}` };
  }
}

export function compareView(ids) {
  const abort = new AbortController();
  const grid = new Grid("compare", true);
  const table = h("section", { class: "compared", "aria-label": "Last values" });
  const runs = ids.map((id) => ({ id, series: new Series(), isLoaded: false }));
  function draw() {
    const names = ownFirst(new Set(runs.flatMap((run) => [...run.series.metrics.keys()])));
    const { x } = grid.options;
    grid.draw(names.map((name) => [name, runs.filter((run) => run.series.metrics.has(name)).map((run) => {
      const attempts = run.series.metrics.get(name);
      const points = attempts.get(Math.max(...attempts.keys()));
      const begin = points.at[0];
      return { label: run.name ?? run.id, isOld: false, ...inOrder(x === "time" ? points.at.map((at) => at - begin) : points.step, points.value) };
    }), ""]));
    show(table, h("table", null, h("thead", null, h("tr", null, h("th", { scope: "col" }, "last value"), ...runs.map((run) => h("th", { scope: "col", class: "number" }, h("a", { href: run.href, "data-key": run.id }, run.name ?? run.id))))),
      h("tbody", null, ...names.map((name) => h("tr", null, h("th", { scope: "row" }, name), ...runs.map((run) => {
        const attempts = run.series.metrics.get(name);
        return h("td", { class: "number" }, number(attempts?.get(Math.max(...attempts.keys())).value.at(-1)));
      }))), ...differing())));
  }
  /** Parameters that are not the same in all of them. */
  function differing() {
    const of = (run, name) => run.params?.[name] === undefined ? "–" : typeof run.params[name] === "object" ? JSON.stringify(run.params[name]) : String(run.params[name]);
    const names = [...new Set(runs.flatMap((run) => Object.keys(run.params ?? {})))].filter((name) => new Set(runs.map((run) => of(run, name))).size > 1).sort();
    return names.length ? [h("tr", null, h("th", { scope: "col", colspan: runs.length + 1 }, "parameters that differ")),
      ...names.map((name) => h("tr", null, h("th", { scope: "row" }, name), ...runs.map((run) => h("td", { class: "number" }, of(run, name)))))] : [];
  }
  grid.redraw = draw;
  abort.signal.addEventListener("abort", () => grid.destroy());
  return {
    abort,
    element: h("div", null, h("h1", null, "Compare"), h("div", { class: "actions" },
      h("button", { type: "button", title: "save a Jupyter notebook that opens these runs", onclick: () => saveNotebook(ids, "compare") }, "Notebook")), grid.controls, table, grid.element),
    async update() {
      await Promise.all(runs.map(async (run) => {
        // Each time: the record of a run that has just begun has its parameters a moment later.
        Object.assign(run, await nameOf(run.id, abort.signal));
        await history(run.id, run.series, abort.signal);
      }));
      draw();
    },
  };
}
