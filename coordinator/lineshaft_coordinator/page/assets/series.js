// The numbers that jobs told, by metric and attempt; and where to get them.
import { ApiError, follow, get, job } from "./api.js";

const PAGE = 1000;
const POINTS = 2000;
const RETRY_MS = 1000;

/** Points of one job. A point is {metric, attempt, step, at, value}; value is null where it was no finite number. */
export class Series {
  constructor() {
    this.metrics = new Map(); // name -> Map(attempt -> {step: [], at: [], value: [], strange: 0})
    this.place = [0, 0]; // attempt and number of the last event seen
    this.labels = new Map(); // name -> how much of it is shown
    this.version = 0;
  }

  add(name, attempt, step, at, value) {
    let attempts = this.metrics.get(name);
    if (!attempts) this.metrics.set(name, attempts = new Map());
    let points = attempts.get(attempt);
    if (!points) attempts.set(attempt, points = { step: [], at: [], value: [], strange: 0 });
    const isNumber = typeof value === "number" && Number.isFinite(value);
    if (!isNumber) points.strange += 1;
    points.step.push(step ?? points.step.length);
    points.at.push(at);
    points.value.push(isNumber ? value : null);
    this.version += 1;
  }

  /** An event as the coordinator tells it; what was seen before is left out. */
  take(event) {
    const [attempt, seq] = this.place;
    if (event.attempt < attempt || (event.attempt === attempt && event.seq <= seq)) return;
    this.place = [event.attempt, event.seq];
    if (event.kind !== "metrics") return;
    for (const [name, value] of Object.entries(event.body.metrics ?? {})) {
      this.add(name, event.attempt, event.body.step, event.at, value);
    }
  }
}

/** Names of metrics with those of the machine after what the job itself told; else as they came. */
export const ownFirst = (names) => [...names].sort((a, b) => a.startsWith("sys/") - b.startsWith("sys/"));

/** Everything so far, thinned if it is much: from the run's record and what it does not have yet, or from the events. */
export async function history(id, series, signal, experiment) {
  let isComplete = false;
  try {
    const found = await get(`api/v1/runs/${encodeURIComponent(id)}/metrics?attempts=all&system=true&max_points=${POINTS}${experiment === undefined ? "" : `&experiment=${encodeURIComponent(experiment)}`}`, signal);
    isComplete = takeRecord(found, series);
  } catch (error) {
    // No run (yet), or no recorder: the events have all, one by one.
    if (!(error instanceof ApiError) || ![404, 500, 503].includes(error.status)) throw error;
  }
  if (!isComplete) await catchUp(id, series, signal);
}

/** Returns whether nothing will follow. */
function takeRecord({ metrics, upto }, series) {
  for (const [name, curve] of Object.entries(metrics)) {
    curve.steps.forEach((step, index) => series.add(name, curve.attempts[index], step, curve.times[index], curve.values[index]));
    if (curve.there_are > curve.steps.length) series.labels.set(name, curve.label);
  }
  if (upto) series.place = upto;
  return !upto;
}

/** What was told since, page by page. */
export async function catchUp(id, series, signal) {
  for (;;) {
    const [attempt, seq] = series.place;
    const events = await get(`${job(id)}/events?limit=${PAGE}&after_attempt=${attempt}&after_seq=${seq}`, signal);
    for (const event of events) series.take(event);
    if (events.length < PAGE) return;
  }
}

/** Take in numbers as they are told, until the job is over; calls onchange for each. Survives cuts. */
export async function followNumbers(id, series, signal, onchange) {
  let isOver = false, isLagging = false;
  while (!isOver && !signal.aborted) {
    try {
      // What was left out for us, because we were slow, is in the history.
      if (isLagging) await catchUp(id, series, signal);
      isLagging = false;
      await follow(`${job(id)}/live?kinds=metrics&since=${series.place.join(".")}`, signal, (message) => {
        if (message.type === "metrics") {
          const [attempt, seq] = message.seq.split(".").map(Number);
          series.take({ kind: "metrics", attempt, seq, at: message.at, body: message.data });
        }
        isOver ||= message.type === "end";
        isLagging = message.type === "lagged";
        onchange();
        return isLagging;
      });
    } catch (error) {
      if (!(error instanceof ApiError)) { if (!signal.aborted) throw error; return; }
      if (error.status === 404) return;
    }
    if (!isOver && !isLagging) await pause(RETRY_MS);
  }
}

const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });
