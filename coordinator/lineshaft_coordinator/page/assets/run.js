// The record of one run: its curves, both logs, files and what is said of it. It stays when its job is forgotten.
import { bytesOf, download, get, job, run as seedRun, save } from "./api.js";
import { curvesPane } from "./curves.js";
import { h, show, toast } from "./dom.js";
import { edit } from "./editing.js";
import { logsPane } from "./logs.js";
import { saveNotebook } from "./notebook.js";
import { empty, pill, runName, tagList, when } from "./parts.js";
import { preview, tried } from "./preview.js";
import { tabList } from "./tabs.js";
import { inTurn } from "./turns.js";
import { may } from "./who.js";
import { bytes, clock, duration, number, shortName } from "./words.js";

const TABS = ["curves", "logs", "files", "details"];
const LIVE_MS = 3000, STILL_MS = 15_000; // how often its facts are asked for
const HELD_BYTES = 256 * 1024 * 1024; // most that the page holds to save it

/** The run's address below /api/v1: what is asked about it, and how. */
const addressOf = (experiment, id) => (what, asked = {}) => `api/v1/runs/${encodeURIComponent(id)}${what ? `/${what}` : ""}?${new URLSearchParams({ experiment, ...asked })}`;

export function runView(experiment, id, firstTab) {
  const abort = new AbortController();
  const address = addressOf(experiment, id);
  const head = h("section", { class: "head" });
  const panel = h("section", { role: "tabpanel", id: "panel", tabindex: "0" });
  const open = (name) => { location.hash = `#/runs/${encodeURIComponent(experiment)}/${encodeURIComponent(id)}/${name}`; };
  const tabs = tabList("About the run", TABS, open);
  const state = { facts: null, askedAt: 0, job: undefined, tab: null, panes: {} };
  const saveOwn = (name) => tried(() => saveFile({ name, address }));
  const panes = {
    curves: () => curvesPane(id, abort.signal, experiment),
    logs: () => logsPane(address, sizes, abort.signal, saveOwn),
    files: () => filesPane(experiment, id, address, abort.signal),
    details: () => detailsPane(),
  };
  async function sizes() {
    const files = await get(`${seedRun(experiment, id)}/artifacts`, abort.signal);
    return new Map(files.filter((file) => file.is_default).map((file) => [file.path, file.size]));
  }
  function select(name) {
    state.tab = TABS.includes(name) ? name : "curves";
    tabs.mark(state.tab, panel);
    state.panes[state.tab] ??= panes[state.tab]();
    panel.replaceChildren(state.panes[state.tab].element);
    view.update().catch(() => {});
  }
  async function look() {
    const every = state.facts?.status === "RUNNING" ? LIVE_MS : STILL_MS;
    if (Date.now() - state.askedAt < every) return;
    state.facts = await get(address(""), abort.signal);
    state.askedAt = Date.now();
    if (state.job === undefined) state.job = await get(job(id), abort.signal).then(() => true, (error) => { if (error.status !== 404) throw error; return false; });
  }
  function change() {
    const { facts } = state, shown = runName(facts);
    // A job's run has the job's name for its notes, until somebody writes some.
    const notes = facts.description === shown ? "" : facts.description ?? "";
    edit("Edit the run", `${seedRun(experiment, id)}/metadata`, [
      { name: "name", label: "Name", kind: "line", max: 200, value: shown, stored: facts.name },
      { name: "description", label: "Notes", kind: "notes", max: 10_000, value: notes },
      { name: "tags", label: "Tags", kind: "tags", max: 10_000, value: facts.tags },
    ], abort.signal, async () => { state.askedAt = 0; await view.update(); });
  }
  const view = {
    abort, select,
    element: h("div", null, head, tabs.element, panel),
    // The clock and a tab that is opened both ask: two at once would read the same piece of a log twice.
    update: inTurn(async () => {
      await look();
      show(head, ...headOf(state, change));
      tabs.button("logs").hidden = !may("read_output");
      if (state.tab === "logs" && !may("read_output")) { panel.replaceChildren(empty("Logs are not shown to viewers: they may hold secrets.")); return; }
      await state.panes[state.tab].update(state.facts, state.job);
    }),
  };
  abort.signal.addEventListener("abort", () => { for (const pane of Object.values(state.panes)) pane.stop?.(); });
  select(firstTab);
  return view;
}

function headOf({ facts, job: hasJob }, change) {
  const notes = facts.description && facts.description !== runName(facts) ? facts.description : "";
  return [
    h("div", { class: "title" }, h("h1", null, runName(facts)), pill(facts.status.toLowerCase())),
    h("p", { class: "facts" }, "in ", h("a", { href: `#/runs/${encodeURIComponent(facts.experiment)}`, "data-key": "experiment" }, facts.experiment), ", ", h("code", null, facts.run),
      ", started ", when(Date.parse(facts.started_at) / 1000), typeof facts.duration_s === "number" ? `, took ${duration(facts.duration_s)}` : "",
      hasJob ? ", " : "", hasJob ? h("a", { href: `#/jobs/${encodeURIComponent(facts.run)}`, "data-key": "job" }, "its job") : ""),
    tagList(facts.tags),
    notes ? h("p", { class: "notes" }, notes) : null,
    h("div", { class: "actions" },
      may("control") ? h("button", { type: "button", "data-key": "edit", onclick: change }, "Edit") : null,
      h("button", { type: "button", "data-key": "notebook", title: "save a Jupyter notebook that opens this run", onclick: () => saveNotebook([`${facts.experiment}/${facts.run}`], runName(facts)) }, "Notebook")),
  ];
}

/** Save a file of the run: by a ticket while its job is known, else by way of the page. */
async function saveFile({ name, size = 0, fileId, id, address, which = { path: name } }) {
  if (fileId) {
    try { await download(`${job(id)}/files/${encodeURIComponent(fileId)}`); return; }
    catch (error) { if (error.status !== 404) throw error; }
  }
  if (size > HELD_BYTES) { toast(`too large to be saved from here: ask for ${address("artifacts/content", which)} with a token`, true); return; }
  const content = await bytesOf(address("artifacts/content", which));
  save(new Blob([content], { type: "application/octet-stream" }), name.split("/").at(-1));
}

function filesPane(experiment, id, address, signal) {
  const list = h("div");
  let own = null, ownAt = 0;
  function row(path, size, fileId, sha256, step) {
    // A checkpoint of each step has one name: its id tells them apart.
    const which = fileId ? { path, file_id: fileId } : { path };
    const file = { name: path, size, content: address("artifacts/content", which), table: address("artifacts/content", { ...which, preview: "true" }),
      save: () => tried(() => saveFile({ name: path, size, fileId, id, address, which })) };
    return h("tr", null,
      h("td", { "data-label": "file" }, h("span", { class: "name" }, shortName(path)), sha256 ? h("span", { class: "note" }, `sha256 ${sha256.slice(0, 16)}…`) : null),
      h("td", { "data-label": "step", class: "number" }, number(step)),
      h("td", { "data-label": "size", class: "number" }, bytes(size)),
      h("td", { "data-label": "" }, may("download") ? h("span", { class: "pair" },
        h("button", { type: "button", "data-key": `look ${fileId ?? ""}${path}`, "aria-label": `Look at ${shortName(path)}`, onclick: () => preview(file, signal) }, "Look"),
        h("button", { type: "button", "data-key": `save ${fileId ?? ""}${path}`, "aria-label": `Download ${shortName(path)}`, onclick: () => file.save() }, "Download")) : null));
  }
  return {
    element: list,
    async update(facts, hasJob) {
      if (Date.now() - ownAt > LIVE_MS) {
        own = (await get(`${seedRun(experiment, id)}/artifacts`, signal)).filter((file) => file.is_default);
        ownAt = Date.now();
      }
      const isLive = facts.status === "RUNNING" && hasJob;
      show(list, isLive ? h("p", { class: "note" }, "What the job keeps stands here once it has ended; now it is among ",
        h("a", { href: `#/jobs/${encodeURIComponent(id)}/files`, "data-key": "live files" }, "the files of the job"), ".") : null,
      h("table", { class: "cards" },
        h("thead", null, h("tr", null, h("th", { scope: "col" }, "file"), h("th", { scope: "col", class: "number" }, "step"), h("th", { scope: "col", class: "number" }, "size"), h("th", { scope: "col" }))),
        h("tbody", null, ...facts.artifacts.map((file) => row(file.path, file.size_bytes, file.file_id, file.sha256, file.step)), ...own.map((file) => row(file.path, file.size)))));
    },
  };
}

function detailsPane() {
  const list = h("div");
  const at = (time) => time ? clock(Date.parse(time) / 1000) : null;
  const entry = (name, value) => h("div", null, h("dt", null, name), h("dd", null, value));
  return {
    element: list,
    async update(facts) {
      const about = [["status", facts.status], ["started", at(facts.started_at)], ["finished", at(facts.finished_at)], ["group", facts.group], ["rank", facts.rank],
        ["language", facts.language], ["rows", number(facts.rows)], ["size", bytes(facts.size_bytes)]];
      const params = Object.entries(facts.config), last = Object.entries(facts.last);
      show(list, h("dl", { class: "details" }, ...about.filter(([, value]) => value !== null && value !== undefined).map(([name, value]) => entry(name, String(value)))),
        h("h2", null, "Parameters"), params.length ? h("dl", { class: "details" }, ...params.map(([name, value]) => entry(name, typeof value === "object" ? JSON.stringify(value) : String(value)))) : empty("It was given none."),
        h("h2", null, "Last values"), last.length ? h("dl", { class: "details" }, ...last.map(([name, value]) => entry(name, number(value)))) : empty("It has told no numbers."));
    },
  };
}
