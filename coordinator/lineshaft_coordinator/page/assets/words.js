// Numbers and times as people say them.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

export function bytes(count) {
  if (typeof count !== "number") return "–";
  let unit = 0;
  while (count >= 1024 && unit < UNITS.length - 1) { count /= 1024; unit += 1; }
  return `${unit && count < 10 ? count.toFixed(1) : Math.round(count)} ${UNITS[unit]}`;
}

export function duration(seconds) {
  if (typeof seconds !== "number" || !Number.isFinite(seconds)) return "–";
  const s = Math.max(0, seconds);
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 60) return `${Math.round(s)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${Math.round(s % 60)} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.round((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.round((s % 86400) / 3600)} h`;
}

export function ago(at) {
  const s = Date.now() / 1000 - at;
  return s < 2 ? "now" : `${duration(s).replace(/\.\d/, "").replace(/( min) .*/, "$1")} ago`;
}

export const clock = (at) => new Date(at * 1000).toLocaleString(undefined, { dateStyle: "short", timeStyle: "medium" });

export function number(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return value.toLocaleString("en");
  const size = Math.abs(value);
  return size !== 0 && (size < 1e-3 || size >= 1e6) ? value.toExponential(3) : value.toPrecision(4);
}

/** A number beside an axis: no digits that say nothing. */
export function short(value) {
  const size = Math.abs(value);
  return size !== 0 && (size < 1e-3 || size >= 1e5) ? value.toExponential(1) : String(Number(value.toPrecision(5)));
}

export const plural = (count, one, many = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;

const LIVE = ["waiting", "queued", "assigned", "preparing", "running", "pausing", "frozen", "paused", "cancelling"];
export const isLive = (status) => !["succeeded", "failed", "cancelled"].includes(status);
export const STATUSES = ["live", ...LIVE, "succeeded", "failed", "cancelled"];

/** A name that somebody else chose: no control characters, none that turn the text around, and no longer than a line. */
export function shortName(name) {
  const clean = name.replace(/[\u0000-\u001f\u007f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, "\ufffd");
  return clean.length > 200 ? `${clean.slice(0, 120)}…${clean.slice(-60)}` : clean;
}
