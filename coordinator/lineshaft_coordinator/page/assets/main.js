// Which view is shown, and keeping it up to date.
import { ApiError, forgetToken, get, setToken, takeToken } from "./api.js";
import { h } from "./dom.js";
import { settle } from "./parts.js";
import { compareView, runsView } from "./runs.js";
import { runView } from "./run.js";
import { jobView } from "./job.js";
import { jobsView } from "./jobs.js";
import { overviewView } from "./overview.js";
import { isKnown, known } from "./who.js";

const EVERY_MS = 1000;
const content = document.getElementById("content");
const link = document.getElementById("link");
let current = null; // { stop, update }

const routes = [
  [/^\/?$/, "overview", () => overviewView()],
  [/^\/jobs\/([^/?]+)(?:\/([a-z]+))?$/, "jobs", (id, tab) => jobView(id, tab ?? "curves"), true],
  [/^\/jobs$/, "jobs", () => jobsView()],
  [/^\/runs(?:\/([^/?]+))?$/, "runs", (experiment) => runsView(experiment)],
  [/^\/runs\/([^/?]+)\/([^/?]+?)(?:\/([a-z]+))?$/, "runs", (experiment, id, tab) => runView(experiment, id, tab ?? "curves"), true],
  [/^\/compare\/([^/?]+)$/, "runs", (ids) => compareView(ids.split(","))],
];

/** What an address says, or null if it is no address of this kind. */
function words(match) {
  try { return match && match.slice(1).map((each) => each && decodeURIComponent(each)); }
  catch { return null; } // a stray %
}

function tell(text, isBad) {
  link.textContent = text;
  link.className = `link ${isBad ? "bad" : "good"}`;
}

async function refresh(view) {
  try {
    await known();
    if (view !== current) return;
    await view.update();
    if (view !== current) return;
    settle(content);
    tell("live", false);
  } catch (error) {
    if (view !== current || error.name === "AbortError") return;
    if (!(error instanceof ApiError)) throw error;
    if (error.status === 401 || (error.status === 403 && !isKnown())) { askForToken(error.message); return; }
    if (error.status === 404) { stop(); content.replaceChildren(h("p", { class: "empty" }, error.message)); return; }
    tell(error.message, true);
  }
}

function stop() {
  current?.abort.abort();
  clearTimeout(current?.timer);
  current = null;
}

function open() {
  takeToken();
  const path = location.hash.slice(1).split("?")[0];
  const found = routes.map(([pattern, page, make, hasTabs]) => [words(pattern.exec(path)), page, make, hasTabs]).find(([asked]) => asked);
  if (!found) { location.hash = "#/"; return; }
  const [asked, page, make, hasTabs] = found;
  const place = [page, ...(hasTabs ? asked.slice(0, -1) : asked)].join("/");
  if (hasTabs && current?.place === place) {
    current.select(asked.at(-1) ?? "curves");
    return;
  }
  stop();
  for (const each of document.querySelectorAll("nav a")) {
    if (each.dataset.page === page) each.setAttribute("aria-current", "page");
    else each.removeAttribute("aria-current");
  }
  const view = make(...asked);
  view.abort ??= new AbortController();
  view.place = place;
  current = view;
  content.replaceChildren(view.element);
  loop(view);
}

async function loop(view) {
  const turn = view.turn = {}; // another loop may take over while this one waits for an answer
  await refresh(view);
  if (view !== current || view.turn !== turn) return;
  view.timer = setTimeout(() => loop(view), document.hidden ? 10 * EVERY_MS : EVERY_MS);
}

function askForToken(reason) {
  stop();
  forgetToken();
  tell("no token", true);
  const input = h("input", { type: "password", id: "token", autocomplete: "off", required: true, size: 48 });
  content.replaceChildren(h("form", { class: "token", onsubmit: (event) => { event.preventDefault(); setToken(input.value); open(); } },
    h("h1", null, "A token, please"),
    h("p", null, reason),
    h("p", null, "On a machine that has one, ", h("code", null, "lineshaft dashboard"), " opens this page with it."),
    h("label", { for: "token" }, "Token"), input,
    h("button", { type: "submit" }, "Open")));
  input.focus();
}

document.getElementById("theme").addEventListener("click", () => {
  const isDark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = isDark ? "light" : "dark";
  localStorage.setItem("lineshaft-theme", document.documentElement.dataset.theme);
  dispatchEvent(new Event("themechange"));
});
const theme = localStorage.getItem("lineshaft-theme");
if (theme) document.documentElement.dataset.theme = theme;

addEventListener("hashchange", open);
document.addEventListener("visibilitychange", () => { if (!document.hidden && current) { clearTimeout(current.timer); loop(current); } });
open();
get("api/v1/info").then((info) => { document.title = `Lineshaft ${info.lineshaft}`; }, () => {});
