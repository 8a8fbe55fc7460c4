// The list of jobs: the first page is always fresh, the pages behind it are taken in turns.
import { get } from "./api.js";
import { h, show } from "./dom.js";
import { empty, jobTable } from "./parts.js";
import { STATUSES } from "./words.js";

const PAGE = 100;

export function jobsView() {
  const abort = new AbortController();
  let known = new Map(); // every job that is shown, by id
  let hasMore = false, turn = 0, asked = "";
  const status = h("select", { id: "status", onchange: () => view.update() },
    h("option", { value: "" }, "any status"), ...STATUSES.map((each) => h("option", { value: each }, each)));
  const find = h("input", { id: "name", type: "search", placeholder: "part of name, id or tag", oninput: () => view.update() });
  const list = h("section", { "aria-label": "Jobs" });
  const more = h("button", { type: "button", hidden: true, onclick: () => showMore() }, "Show more");

  function page(before) {
    const query = new URLSearchParams({ limit: PAGE });
    if (status.value) query.set("status", status.value);
    if (find.value.trim()) query.set("find", find.value.trim());
    if (before) query.set("before", before);
    return get(`api/v1/jobs?${query}`, abort.signal);
  }
  const filtersNow = () => `${status.value} ${find.value.trim()}`;
  const inOrder = () => [...known.values()].sort((a, b) => b.submitted_at - a.submitted_at || (a.job_id < b.job_id ? 1 : -1));

  async function showMore() {
    const filters = asked;
    const older = await page(inOrder().at(-1)?.job_id);
    if (filters !== asked) return;
    for (const job of older) known.set(job.job_id, job);
    hasMore = older.length === PAGE;
    draw();
  }

  /** Take one page behind the first anew: its jobs may have moved on, or left what is asked for. */
  async function refreshOlder() {
    const shown = inOrder();
    const at = PAGE * (1 + turn++ % Math.max(1, Math.ceil(shown.length / PAGE) - 1));
    if (shown.length <= at) return;
    const older = await page(shown[at - 1].job_id);
    if (asked !== filtersNow()) return;
    const last = older.length === PAGE ? shown.findIndex((job) => job.job_id === older.at(-1).job_id) : shown.length - 1;
    for (const job of shown.slice(at, last + 1)) known.delete(job.job_id);
    for (const job of older) known.set(job.job_id, job);
    if (known.size <= at + PAGE) hasMore = older.length === PAGE;
  }
  function draw() {
    const jobs = inOrder();
    show(list, jobs.length ? jobTable(jobs) : empty(find.value.trim() || status.value ? "No job is like that." : "No job yet."));
    more.hidden = !hasMore;
  }
  const view = {
    abort,
    element: h("div", null, h("h1", null, "Jobs"),
      h("div", { class: "filters" }, h("span", { class: "pair" }, h("label", { for: "status" }, "Status"), status), h("span", { class: "pair" }, h("label", { for: "name" }, "Find"), find)), list, more),
    async update() {
      const filters = filtersNow();
      const first = await page();
      if (filters !== filtersNow()) return; // what was typed meanwhile asks by itself
      // A page that shares nothing with what is known leaves a hole: then all begins anew.
      if (filters !== asked || known.size <= PAGE || !first.some((job) => known.has(job.job_id))) {
        [known, hasMore, asked] = [new Map(), first.length === PAGE, filters];
      } else await refreshOlder();
      if (filters !== asked) return;
      for (const job of first) known.set(job.job_id, job);
      draw();
    },
  };
  return view;
}
