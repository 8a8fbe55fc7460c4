// Pieces that several views show.
import { h } from "./dom.js";
import { ago, clock, duration, isLive } from "./words.js";

export const pill = (status) => h("span", { class: `pill ${status}` }, status);

export function bar(share, label, tone = "") {
  const percent = Math.round(Math.min(1, Math.max(0, share || 0)) * 100);
  return h("span", { class: "bar", role: "img", "aria-label": `${label}: ${percent} %`, title: `${label}: ${percent} %` },
    h("span", { class: `fill ${tone || (percent >= 90 ? "full" : "")}`, "data-width": percent }));
}

/** Widths go through the CSSOM: the page's policy allows no style attributes. */
export function settle(element) {
  for (const fill of element.querySelectorAll("[data-width]")) fill.style.width = `${fill.dataset.width}%`;
}

export const when = (at) => at ? h("time", { title: clock(at), datetime: new Date(at * 1000).toISOString() }, ago(at)) : "–";

export const took = (job) => job.finished_at ? duration(job.finished_at - job.submitted_at)
  : isLive(job.status) ? duration(Date.now() / 1000 - job.submitted_at) : "–";

/** What people call a run: the name that somebody gave it, else its job's, else its id. */
export const runName = (run) => run.name && run.name !== run.run ? run.name : (run.description ?? "").split("\n")[0].slice(0, 200) || run.run;

export const tagList = (tags) => Array.isArray(tags) && tags.length ? h("ul", { class: "tags", "aria-label": "Tags" }, ...tags.map((tag) => h("li", null, String(tag)))) : null;

export const empty = (...text) => h("p", { class: "empty" }, ...text);

export function jobTable(jobs) {
  const rows = jobs.map((job) => h("tr", null,
    h("td", { "data-label": "job" },
      h("a", { href: `#/jobs/${encodeURIComponent(job.job_id)}`, "data-key": job.job_id }, job.name || job.job_id),
      job.error ? h("span", { class: "note", title: job.error }, job.error.split("\n")[0].slice(0, 140)) : null),
    h("td", { "data-label": "status" }, pill(job.status)),
    h("td", { "data-label": "kind" }, job.kind),
    h("td", { "data-label": "worker" }, job.worker_id ?? "–"),
    h("td", { "data-label": "submitted" }, when(job.submitted_at)),
    h("td", { "data-label": "took" }, took(job))));
  return h("table", { class: "cards" },
    h("thead", null, h("tr", null, ...["job", "status", "kind", "worker", "submitted", "took"].map((text) => h("th", { scope: "col" }, text)))),
    h("tbody", null, ...rows));
}
