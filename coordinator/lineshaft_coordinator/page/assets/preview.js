// Looking into a file that a job left. Whoever wrote it may be hostile: nothing of it becomes a document, a script or a style of
// this page. Texts, HTML too, are text; tables come as values; pictures, sound and films are given to elements that play them and
// run nothing; SVG is drawn as a picture from a data: address, which has no origin, whatever is done with it.
import { ApiError, bytesOf, get } from "./api.js";
import { openDialog } from "./dialog.js";
import { h, toast } from "./dom.js";
import { bytes, number, plural, shortName } from "./words.js";

const TEXT_BYTES = 64 * 1024;
const SVG_BYTES = 256 * 1024;
const MEDIA_BYTES = 64 * 1024 * 1024; // held in the page's memory
const KINDS = {
  png: "image/png", jpg: "image/jpeg", jpeg: "image/jpeg", gif: "image/gif", webp: "image/webp", avif: "image/avif", bmp: "image/bmp",
  mp3: "audio/mpeg", wav: "audio/wav", ogg: "audio/ogg", oga: "audio/ogg", opus: "audio/ogg", flac: "audio/flac", m4a: "audio/mp4", aac: "audio/aac",
  mp4: "video/mp4", m4v: "video/mp4", webm: "video/webm", ogv: "video/ogg",
};

/**
 * Show a file: {name, size, content, table, save}; `content` has its bytes, `table` its first rows, if it can be a table.
 */
export function preview(file, signal) {
  const abort = new AbortController();
  const body = h("div", { class: "shown", "aria-live": "polite" }, h("p", { class: "note" }, "…"));
  const download = h("button", { type: "button", onclick: () => file.save() }, "Download");
  const dialog = openDialog(shortName(file.name), h("div", null,
    h("div", { class: "filters" }, h("span", null, bytes(file.size)), download), body), signal, "wide");
  dialog.addEventListener("close", () => abort.abort());
  fill(body, file, abort.signal).catch((error) => {
    if (error.name === "AbortError") return;
    if (!(error instanceof ApiError)) throw error;
    body.replaceChildren(said(error.message));
  });
}

const said = (text) => h("p", { class: "empty" }, text);

async function fill(body, file, signal) {
  const ending = /\.([^./]+)$/.exec(file.name)?.[1].toLowerCase() ?? "";
  if (file.size === 0) { body.replaceChildren(said("It is empty.")); return; }
  if (["csv", "tsv", "parquet"].includes(ending)) { body.replaceChildren(...tableOf(await get(file.table, signal))); return; }
  if (ending === "svg" && file.size <= SVG_BYTES) {
    const text = new TextDecoder().decode(await bytesOf(file.content, signal));
    body.replaceChildren(picture(`data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`, file), textOf(text, file));
    return;
  }
  if (KINDS[ending]) { await fillMedia(body, file, KINDS[ending], signal); return; }
  const content = new Uint8Array(await bytesOf(file.content, signal, `0-${TEXT_BYTES - 1}`));
  const text = new TextDecoder().decode(content);
  // What no program shows as text: a zero byte, or much that is no UTF-8.
  const strange = text.split("\ufffd").length - 1;
  if (content.includes(0) || strange > text.length / 20) { body.replaceChildren(said("No text, table, picture, sound or film: download it.")); return; }
  body.replaceChildren(textOf(text, file));
}

function textOf(text, file) {
  const isCut = file.size > TEXT_BYTES;
  return h("div", null, isCut ? h("p", { class: "note" }, `the first ${bytes(TEXT_BYTES)} of ${bytes(file.size)}`) : null,
    h("pre", { class: "output", tabindex: "0" }, text.slice(0, TEXT_BYTES)));
}

function picture(address, file) {
  const image = h("img", { src: address, alt: shortName(file.name), class: "picture" });
  image.addEventListener("error", () => image.replaceWith(said("This is no picture that a browser can draw: download it.")));
  return image;
}

async function fillMedia(body, file, kind, signal) {
  if (file.size > MEDIA_BYTES) { body.replaceChildren(said(`Too large to be shown here (more than ${bytes(MEDIA_BYTES)}): download it.`)); return; }
  const content = await bytesOf(file.content, signal);
  // The kind is ours, by the ending alone: a browser takes it at its word, and sees no document in it.
  const address = URL.createObjectURL(new Blob([content], { type: kind }));
  signal.addEventListener("abort", () => URL.revokeObjectURL(address));
  if (signal.aborted) URL.revokeObjectURL(address);
  if (kind.startsWith("image/")) { body.replaceChildren(picture(address, file)); return; }
  const player = h(kind.startsWith("audio/") ? "audio" : "video", { src: address, controls: true, class: "player", "aria-label": shortName(file.name) });
  player.addEventListener("error", () => player.replaceWith(said("This browser cannot play it: download it.")));
  body.replaceChildren(player);
}

function tableOf({ columns, rows, total_rows: total, total_columns: width }) {
  const parts = [];
  parts.push(total === null ? `the first ${plural(rows.length, "row")}` : rows.length < total ? `${number(rows.length)} of ${plural(total, "row")}` : plural(total, "row"));
  if (columns.length < width) parts.push(`${number(columns.length)} of ${plural(width, "column")}`);
  return [h("p", { class: "note" }, parts.join(", ")),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Rows" }, h("table", null,
      h("thead", null, h("tr", null, ...columns.map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", null, ...rows.map((row) => h("tr", null, ...columns.map((name) => cell(row[name])))))))];
}

const cell = (value) => typeof value === "number" ? h("td", { class: "number" }, String(value))
  : h("td", null, value === null || value === undefined ? "–" : typeof value === "object" ? JSON.stringify(value) : String(value));

/** Do what may fail with the coordinator's words, and tell them. */
export async function tried(work) {
  try { await work(); }
  catch (error) { if (error instanceof ApiError) toast(error.message, true); else if (error.name !== "AbortError") throw error; }
}
