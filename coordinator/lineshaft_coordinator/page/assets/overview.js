// The cluster as it is now.
import { get } from "./api.js";
import { h, show } from "./dom.js";
import { bar, empty, jobTable } from "./parts.js";
import { bytes, duration, plural } from "./words.js";

const SHOWN = 12;

export function overviewView() {
  const abort = new AbortController();
  const tiles = h("section", { class: "tiles", "aria-label": "Counts" });
  const workers = h("section", { class: "workers", "aria-label": "Workers" });
  const jobs = h("section", { "aria-label": "Jobs" });
  return {
    abort,
    element: h("div", null, tiles, h("h2", null, "Workers"), workers,
      h("h2", null, "Latest jobs ", h("a", { class: "more", href: "#/jobs" }, "all jobs")), jobs),
    async update() {
      const [info, found, latest] = await Promise.all([
        get("api/v1/info", abort.signal), get("api/v1/workers", abort.signal), get(`api/v1/jobs?limit=${SHOWN}`, abort.signal)]);
      show(tiles, ...counts(info, found));
      show(workers, ...(found.length ? found.map(card)
        : [empty("No worker is connected. On a machine with GPUs: ", h("code", null, "lineshaft-worker --url … --token …"))]));
      show(jobs, latest.length ? jobTable(latest)
        : empty("No job yet. Try ", h("code", null, "lineshaft run train.py")));
    },
  };
}

function counts(info, workers) {
  const here = workers.filter((worker) => worker.status !== "away");
  const gpus = here.flatMap((worker) => worker.gpus);
  const free = gpus.filter((gpu) => !gpu.jobs && !gpu.fault).length;
  const running = here.reduce((sum, worker) => sum + worker.used_slots, 0);
  return [
    tile(here.length, here.length === 1 ? "worker" : "workers", workers.length > here.length ? `${workers.length - here.length} away` : ""),
    tile(running, running === 1 ? "slot in use" : "slots in use", `of ${here.reduce((sum, worker) => sum + worker.slots, 0)}`),
    tile(gpus.length, gpus.length === 1 ? "GPU" : "GPUs", gpus.length ? `${free} free` : ""),
    tile(info.queued_jobs, "queued", ""),
    tile(info.live_jobs, info.live_jobs === 1 ? "live job" : "live jobs", ""),
  ];
}

const tile = (count, what, more) => h("div", { class: "tile" },
  h("b", null, count.toLocaleString("en")), h("span", null, what), h("small", null, more));

function card(worker) {
  const load = worker.load ?? {};
  return h("article", { class: `worker ${worker.status}` },
    h("header", null, h("h3", null, worker.worker_id), h("span", { class: `pill ${worker.status}` }, worker.status)),
    h("dl", null,
      meter("slots", worker.used_slots / worker.slots, `${worker.used_slots} of ${worker.slots}`, "plain"),
      meter("CPU", load.cpu_usage, `${plural(worker.cpus, "core")}`),
      meter("memory", load.memory_usage, bytes(worker.memory_bytes))),
    ...worker.gpus.map((gpu, index) => gpuRow(gpu, load.gpu_usage?.[index], load.gpu_memory_used_bytes?.[index])),
    h("footer", null, worker.jobs.length
      ? worker.jobs.slice(0, 4).map((id) => h("a", { href: `#/jobs/${encodeURIComponent(id)}`, "data-key": `${worker.worker_id}/${id}` }, id))
      : h("span", null, worker.status === "away" ? "not connected" : "nothing to do"),
    worker.jobs.length > 4 ? h("span", null, `and ${worker.jobs.length - 4} more`) : null,
    worker.silent_s > 5 ? h("span", { class: "warn" }, `silent for ${duration(worker.silent_s)}`) : null));
}

const meter = (name, share, text, tone) => h("div", null, h("dt", null, name), h("dd", null, bar(share, name, tone), h("span", null, text)));

function gpuRow(gpu, usage, usedBytes) {
  return h("div", { class: `gpu ${gpu.fault ? "fault" : ""}` },
    h("b", null, gpu.name), h("span", null, gpu.fault ? `out of use: ${gpu.fault}` : gpu.jobs ? plural(gpu.jobs, "job") : "free"),
    bar(usage, "busy"), bar((usedBytes ?? 0) / gpu.memory_bytes, "GPU memory"),
    h("small", null, `${bytes(usedBytes)} of ${bytes(gpu.memory_bytes)}`));
}
