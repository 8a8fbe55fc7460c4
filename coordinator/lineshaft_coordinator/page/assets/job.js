// One job: why it is where it is, its curves, output, story and files; and what may be done to it.
import { ApiError, download, get, job, post } from "./api.js";
import { curvesPane } from "./curves.js";
import { h, show, toast } from "./dom.js";
import { empty, pill, settle, took, when } from "./parts.js";
import { preview, tried } from "./preview.js";
import { tabList } from "./tabs.js";
import { inTurn } from "./turns.js";
import { may } from "./who.js";
import { bytes, clock, duration, isLive, number, shortName } from "./words.js";

const TABS = ["curves", "output", "story", "files", "details"];
const HIDDEN = "What a job prints is not shown to viewers: it may hold secrets.";
const RECORD_MS = 5000, RECORD_TRIES = 3;
const OUTPUT_MAX = 400_000; // characters kept in the page; the file has all

export function jobView(id, firstTab) {
  const abort = new AbortController();
  const base = job(id);
  const head = h("section", { class: "head" });
  const panel = h("section", { role: "tabpanel", id: "panel", tabindex: "0" });
  const tabs = tabList("About the job", TABS, (name) => { location.hash = `#/jobs/${encodeURIComponent(id)}/${name}`; });
  const state = { tab: null, panes: {}, record: null, asked: "", askedAt: 0, tries: 0 };
  const panes = { curves: (_, __, signal) => curvesPane(id, signal), output: outputPane, story: storyPane, files: filesPane, details: detailsPane };

  function select(name) {
    state.tab = TABS.includes(name) ? name : "curves";
    tabs.mark(state.tab, panel);
    state.panes[state.tab] ??= panes[state.tab](id, base, abort.signal);
    panel.replaceChildren(state.panes[state.tab].element);
    view.update().catch(() => {});
  }

  /** The record may come a moment after what it tells of; but who keeps records sleeps unless asked, so not for ever. */
  function seekRecord(status) {
    if (state.asked !== status) [state.asked, state.askedAt, state.tries] = [status, 0, RECORD_TRIES];
    if (state.record || !state.tries || Date.now() - state.askedAt < RECORD_MS) return;
    state.askedAt = Date.now();
    state.tries -= 1;
    recordOf(id, abort.signal).then((found) => { state.record = found; }, () => {});
  }

  const view = {
    abort, select,
    element: h("div", null, head, tabs.element, panel),
    update: inTurn(async () => { // as in run.js
      const [facts, why] = await Promise.all([get(base, abort.signal), get(`${base}/why`, abort.signal)]);
      seekRecord(facts.status);
      show(head, ...headOf(facts, why, act, state.record));
      tabs.button("output").hidden = !may("read_output");
      const pane = state.panes[state.tab];
      await pane.update(facts);
      settle(view.element);
    }),
  };
  async function act(verb) {
    try {
      const answer = await post(`${base}/${verb}`);
      toast(verb === "retry" ? `runs again as ${answer.job_id}` : `asked to ${verb}`);
      if (verb === "retry") location.hash = `#/jobs/${encodeURIComponent(answer.job_id)}`;
      else await view.update();
    } catch (error) {
      if (error instanceof ApiError) toast(error.message, true);
      else throw error;
    }
  }
  abort.signal.addEventListener("abort", () => { for (const pane of Object.values(state.panes)) pane.stop?.(); });
  select(firstTab);
  return view;
}

/** Which experiment has a record of the job; fails if none has, or nobody can tell now. */
async function recordOf(id, signal) {
  return (await get(`api/v1/runs/${encodeURIComponent(id)}`, signal)).experiment;
}

function headOf(facts, why, act, record) {
  const id = facts.job_id;
  const live = isLive(facts.status);
  const is = (...states) => states.includes(facts.status);
  const button = (verb, text, question) => h("button", {
    type: "button", class: verb === "cancel" ? "danger" : "", "data-key": verb,
    onclick: () => { if (!question || confirm(question)) act(verb); } }, text);
  return [
    h("div", { class: "title" }, h("h1", null, facts.name || facts.job_id), pill(facts.status)),
    h("p", { class: "facts" },
      h("code", null, facts.job_id), ` ${facts.kind}, submitted `, when(facts.submitted_at), facts.finished_at ? `, took ${took(facts)}` : "",
      facts.worker_id ? `${facts.finished_at ? "" : ","} on ${facts.worker_id}` : "", facts.attempt > 1 ? `, attempt ${facts.attempt}` : "",
      facts.checkpoint_step !== null && facts.checkpoint_step !== undefined ? `, saved at step ${number(facts.checkpoint_step)}` : "",
      record ? ", " : "", record ? h("a", { href: `#/runs/${encodeURIComponent(record)}/${encodeURIComponent(id)}`, "data-key": "record" }, "its record") : ""),
    h("ul", { class: "why" }, ...why.reasons.map((reason) => h("li", null, reason))),
    may("control") ? h("div", { class: "actions" },
      is("running") ? button("pause", "Pause") : null,
      is("running") ? button("freeze", "Freeze") : null,
      is("paused", "frozen") ? button("resume", "Resume") : null,
      live ? button("cancel", "Cancel", `Cancel ${facts.name || facts.job_id}?`) : null,
      is("failed", "cancelled") ? button("retry", "Run again") : null) : null,
  ];
}

function outputPane(id, base, signal) {
  const pre = h("pre", { class: "output", tabindex: "0" });
  const follow = h("input", { type: "checkbox", checked: true });
  const note = h("small", { class: "note" });
  let offset = "0.0", length = 0;
  return {
    element: h("div", null, h("div", { class: "filters" }, h("label", null, follow, " follow"), note), pre),
    async update() {
      if (!may("read_output")) { pre.textContent = HIDDEN; return; }
      for (let hasMore = true; hasMore;) {
        const page = await get(`${base}/logs?offset=${offset}`, signal);
        hasMore = page.has_more;
        offset = page.offset;
        for (const piece of page.pieces) {
          pre.append(h("span", { class: piece.stream, title: `attempt ${piece.attempt}, ${clock(piece.at)}` }, piece.text));
          length += piece.text.length;
        }
        while (length > OUTPUT_MAX && pre.firstChild) {
          length -= pre.firstChild.textContent.length;
          pre.firstChild.remove();
          note.textContent = `the beginning is left out; 'lineshaft logs ${id}' has all`;
        }
      }
      if (!length) pre.textContent = "";
      if (follow.checked) pre.scrollTop = pre.scrollHeight;
    },
  };
}

function storyPane(id, base, signal) {
  const list = h("ol", { class: "story" });
  return {
    element: list,
    async update() {
      const records = await get(`${base}/story`, signal);
      show(list, ...records.map((record) => {
        const { at, seq, type, job_id, ...rest } = record;
        void seq; void job_id;
        return h("li", null, h("time", { datetime: new Date(at * 1000).toISOString() }, clock(at)), h("b", null, type),
          h("span", null, facts(rest)));
      }));
    },
  };
}

const UNTOLD = ["blob", "file_id", "at", "incarnation", "epoch", "job_id"];

/** A record in words: names and values, without what is empty or only for machines. */
function facts(value) {
  if (value === null || typeof value !== "object") return String(value);
  return Object.entries(value)
    .filter(([name, each]) => !UNTOLD.includes(name) && each !== null && each !== "" && each !== false && !(Array.isArray(each) && !each.length))
    .map(([name, each]) => `${name.replaceAll("_", " ")}: ${told(name, each)}`).join(" · ");
}

function told(name, value) {
  if (Array.isArray(value)) return value.map(facts).join(", ");
  if (typeof value === "object") return `(${facts(value)})`;
  if (typeof value !== "number") return String(value);
  if (name.endsWith("_at")) return clock(value);
  if (name.endsWith("_bytes")) return bytes(value);
  return name.endsWith("_s") ? duration(value) : number(value);
}

function filesPane(id, base, signal) {
  const list = h("div");
  const fetchFile = (file) => tried(() => download(`${base}/files/${encodeURIComponent(file.file_id)}`));
  function look(file) {
    const content = `${base}/files/${encodeURIComponent(file.file_id)}`;
    preview({ name: file.name, size: file.size_bytes, content, table: `${content}/preview`, save: () => fetchFile(file) }, signal);
  }
  return {
    element: list,
    async update() {
      const files = await get(`${base}/files`, signal);
      show(list, files.length ? h("table", { class: "cards" },
        h("thead", null, h("tr", null, ...["file", "kind", "step", "size", "kept", ""].map((text) => h("th", { scope: "col" }, text)))),
        h("tbody", null, ...files.toReversed().map((file) => h("tr", null,
          h("td", { "data-label": "file" }, h("span", { class: "name" }, shortName(file.name)), file.blob ? h("span", { class: "note" }, `sha256 ${file.blob.slice(0, 16)}…`) : null),
          h("td", { "data-label": "kind" }, file.kind),
          h("td", { "data-label": "step" }, number(file.step)),
          h("td", { "data-label": "size" }, bytes(file.size_bytes)),
          h("td", { "data-label": "kept" }, when(file.at)),
          h("td", { "data-label": "" }, file.blob && !may("download") ? null : file.blob
            ? h("span", { class: "pair" }, file.is_folder ? null : h("button", { type: "button", "data-key": `look ${file.file_id}`, "aria-label": `Look at ${shortName(file.name)}`, onclick: () => look(file) }, "Look"),
              h("button", { type: "button", "data-key": file.file_id, "aria-label": `Download ${shortName(file.name)}`, onclick: () => fetchFile(file) }, "Download"))
            : h("span", { class: "note" }, file.problem ?? "not kept"))))))
        : empty("It keeps no files. In the job: ", h("code", null, "run.checkpoint(path)"), " or ", h("code", null, "run.artifact(path)")));
    },
  };
}

function detailsPane() {
  const list = h("dl", { class: "details" });
  return {
    element: list,
    async update(found) {
      show(list, ...Object.entries(found).filter(([, value]) => value !== null && value !== "" && !(Array.isArray(value) && !value.length))
        .map(([name, value]) => h("div", null, h("dt", null, name.replaceAll("_", " ")),
          h("dd", null, told(name, value)))));
    },
  };
}
