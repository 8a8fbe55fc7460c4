// One job: why it is where it is, its curves, output, story and files; and what may be done to it.
import { ApiError, download, get, job, post } from "./api.js";
import { Grid, inOrder } from "./charts.js";
import { h, show, toast } from "./dom.js";
import { empty, pill, settle, took, when } from "./parts.js";
import { Series, followNumbers, history } from "./series.js";
import { may } from "./who.js";
import { bytes, clock, duration, isLive, number, plural } from "./words.js";

const TABS = ["curves", "output", "story", "files", "details"];
const HIDDEN = "What a job prints is not shown to viewers: it may hold secrets.";
const OUTPUT_MAX = 400_000; // characters kept in the page; the file has all

export function jobView(id, firstTab) {
  const abort = new AbortController();
  const base = job(id);
  const head = h("section", { class: "head" });
  const panel = h("section", { role: "tabpanel", id: "panel", tabindex: "0" });
  const tabs = h("div", { role: "tablist", class: "tabs", "aria-label": "About the job" });
  const state = { facts: null, tab: null, panes: {}, progress: null };
  const buttons = TABS.map((name) => h("button", {
    role: "tab", type: "button", id: `tab-${name}`, "aria-controls": "panel",
    onclick: () => { location.hash = `#/jobs/${encodeURIComponent(id)}/${name}`; } }, name));
  tabs.append(...buttons);
  tabs.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const shown = buttons.filter((button) => !button.hidden);
    const next = shown[(shown.indexOf(event.target) + step + shown.length) % shown.length];
    next.focus();
    next.click();
  });
  const panes = { curves: curvesPane, output: outputPane, story: storyPane, files: filesPane, details: detailsPane };

  function select(name) {
    state.tab = TABS.includes(name) ? name : "curves";
    for (const [index, button] of buttons.entries()) {
      button.setAttribute("aria-selected", String(TABS[index] === state.tab));
      button.tabIndex = TABS[index] === state.tab ? 0 : -1;
    }
    panel.setAttribute("aria-labelledby", `tab-${state.tab}`);
    state.panes[state.tab] ??= panes[state.tab](id, base, abort.signal);
    panel.replaceChildren(state.panes[state.tab].element);
    view.update().catch(() => {});
  }

  const view = {
    abort, select,
    element: h("div", null, head, tabs, panel),
    async update() {
      const [facts, why] = await Promise.all([get(base, abort.signal), get(`${base}/why`, abort.signal)]);
      state.facts = facts;
      show(head, ...headOf(facts, why, act));
      buttons[TABS.indexOf("output")].hidden = !may("read_output");
      const pane = state.panes[state.tab];
      await pane.update(facts);
      settle(view.element);
    },
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

function headOf(facts, why, act) {
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
      facts.checkpoint_step !== null && facts.checkpoint_step !== undefined ? `, saved at step ${number(facts.checkpoint_step)}` : ""),
    h("ul", { class: "why" }, ...why.reasons.map((reason) => h("li", null, reason))),
    may("control") ? h("div", { class: "actions" },
      is("running") ? button("pause", "Pause") : null,
      is("running") ? button("freeze", "Freeze") : null,
      is("paused", "frozen") ? button("resume", "Resume") : null,
      live ? button("cancel", "Cancel", `Cancel ${facts.name || facts.job_id}?`) : null,
      is("failed", "cancelled") ? button("retry", "Run again") : null) : null,
  ];
}

function curvesPane(id, base, signal) {
  const series = new Series();
  const grid = new Grid(`job-${id}`);
  const note = h("div");
  let isLoaded = false, isDue = false, drawn = 0;
  function draw() {
    const { x } = grid.options;
    const metrics = [...series.metrics].map(([name, attempts]) => {
      const numbers = [...attempts.keys()].sort((a, b) => a - b);
      let strange = 0;
      const lines = numbers.map((attempt) => {
        const points = attempts.get(attempt);
        strange += points.strange;
        const isOld = attempt !== numbers.at(-1);
        return { label: numbers.length > 1 ? `attempt ${attempt}` : name, isOld, ...inOrder(x === "time" ? points.at : points.step, points.value) };
      });
      const last = lines.at(-1).ys.at(-1);
      const shown = series.labels.has(name) ? ` · ${series.labels.get(name)} points` : "";
      return [name, lines, `${number(last)}${shown}${strange ? ` · ${plural(strange, "value")} not finite or no number` : ""}`];
    });
    grid.draw(metrics);
    show(note, series.metrics.size ? null : empty("It has told no numbers. In the job: ", h("code", null, "run.log({\"loss\": loss}, step=step)")));
  }
  grid.redraw = () => { if (isLoaded) draw(); };
  function drawSoon() {
    if (isDue || drawn === series.version) return;
    isDue = true;
    requestAnimationFrame(() => { isDue = false; drawn = series.version; draw(); });
  }
  return {
    element: h("div", null, grid.controls, note, grid.element),
    async update() {
      if (!isLoaded) {
        await history(id, series, signal);
        isLoaded = true;
        draw();
        followNumbers(id, series, signal, drawSoon);
      }
      grid.fit();
    },
    stop: () => grid.destroy(),
  };
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
  async function fetchFile(file) {
    try { await download(`${base}/files/${encodeURIComponent(file.file_id)}`); }
    catch (error) { if (error instanceof ApiError) toast(error.message, true); else throw error; }
  }
  return {
    element: list,
    async update() {
      const files = await get(`${base}/files`, signal);
      show(list, files.length ? h("table", { class: "cards" },
        h("thead", null, h("tr", null, ...["file", "kind", "step", "size", "kept", ""].map((text) => h("th", { scope: "col" }, text)))),
        h("tbody", null, ...files.toReversed().map((file) => h("tr", null,
          h("td", { "data-label": "file" }, file.name, file.blob ? h("span", { class: "note" }, `sha256 ${file.blob.slice(0, 16)}…`) : null),
          h("td", { "data-label": "kind" }, file.kind),
          h("td", { "data-label": "step" }, number(file.step)),
          h("td", { "data-label": "size" }, bytes(file.size_bytes)),
          h("td", { "data-label": "kept" }, when(file.at)),
          h("td", { "data-label": "" }, file.blob && !may("download") ? null : file.blob
            ? h("button", { type: "button", "data-key": file.file_id, onclick: () => fetchFile(file) }, "Download")
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
