// The list of jobs.
import { get } from "./api.js";
import { h, show } from "./dom.js";
import { empty, jobTable } from "./parts.js";
import { STATUSES } from "./words.js";

const PAGE = 100;

export function jobsView() {
  const abort = new AbortController();
  let limit = PAGE;
  const status = h("select", { id: "status", onchange: () => view.update() },
    h("option", { value: "" }, "any status"), ...STATUSES.map((each) => h("option", { value: each }, each)));
  const name = h("input", { id: "name", type: "search", placeholder: "part of name, id or tag", oninput: () => view.update() });
  const list = h("section", { "aria-label": "Jobs" });
  const more = h("button", { type: "button", hidden: true, onclick: () => { limit += PAGE; view.update(); } }, "Show more");
  const view = {
    abort,
    element: h("div", null, h("h1", null, "Jobs"),
      h("div", { class: "filters" }, h("label", { for: "status" }, "Status"), status, h("label", { for: "name" }, "Find"), name), list, more),
    async update() {
      const query = new URLSearchParams({ limit: Math.min(limit, 1000) });
      if (status.value) query.set("status", status.value);
      const found = await get(`api/v1/jobs?${query}`, abort.signal);
      const wanted = name.value.trim().toLowerCase();
      const shown = wanted ? found.filter((job) => [job.name ?? "", job.job_id, ...job.tags].some((text) => text.toLowerCase().includes(wanted))) : found;
      show(list, shown.length ? jobTable(shown) : empty(wanted || status.value ? "No job is like that." : "No job yet."));
      more.hidden = found.length < limit || limit >= 1000;
    },
  };
  return view;
}
