// What the page asks the coordinator. Every failure is an ApiError with the coordinator's own words.

const KEY = "lineshaft-token";

export class ApiError extends Error {
  constructor(status, text) { super(text); this.status = status; }
}

/** The token comes in the fragment, which browsers send to nobody, and goes from the address bar at once. */
export function takeToken() {
  const found = /[#&?]token=([^&]+)/.exec(location.hash);
  if (!found) return;
  sessionStorage.setItem(KEY, decodeURIComponent(found[1]));
  history.replaceState(null, "", `${location.pathname}#/`);
}

export const setToken = (token) => sessionStorage.setItem(KEY, token.trim());
export const forgetToken = () => sessionStorage.removeItem(KEY);
export const token = () => sessionStorage.getItem(KEY) ?? "";
const headers = () => ({ Authorization: `Bearer ${token()}` });

async function answered(response) {
  if (response.ok) return response;
  let text = response.statusText;
  try { text = (await response.json()).error ?? text; } catch { /* not JSON: the status says it */ }
  throw new ApiError(response.status, text);
}

async function call(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, headers: { ...headers(), ...options.headers } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "the coordinator does not answer");
  }
  return answered(response);
}

export const get = async (path, signal) => (await call(path, { signal })).json();
/** A file's bytes as they are; `range` is the part of them that is wanted, as "0-99". */
export const bytesOf = async (path, signal, range) => (await call(path, { signal, headers: range ? { Range: `bytes=${range}` } : {} })).arrayBuffer();
export const patch = async (path, said) => (await call(path, { method: "PATCH", headers: { "Content-Type": "application/json" }, body: JSON.stringify(said) })).json();
export const post = async (path) => (await call(path, { method: "POST" })).json();
export const run = (experiment, id) => `api/experiments/${encodeURIComponent(experiment)}/runs/${encodeURIComponent(id)}`;
export const job = (id) => `api/v1/jobs/${encodeURIComponent(id)}`;

/** Follow server-sent events; calls on(message) for each, until the stream ends or on() returns true. */
export async function follow(path, signal, on) {
  const response = await call(path, { signal, headers: { Accept: "text/event-stream" } });
  if (!response.body) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    let read;
    try { read = await reader.read(); } catch { throw new ApiError(0, "the coordinator does not answer"); }
    if (read.done) return;
    const blocks = (rest + read.value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const data = block.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5));
      if (data.length && on(JSON.parse(data.join("\n")))) { await reader.cancel(); return; }
    }
  }
}

/** Save a kept file of a job: a ticket for this file alone, so that the browser itself writes it to disk. */
export async function download(path) {
  const { url } = await post(`${path}/ticket`);
  const link = document.createElement("a");
  link.href = url;
  link.download = "";
  link.click();
}

/** Save what the page holds itself. */
export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  // The browser needs the address until it has begun to write.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
