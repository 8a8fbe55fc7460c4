// One chart a metric, drawn by uPlot; all of a page move their cursors together.
import { save } from "./api.js";
import { h } from "./dom.js";
import { number, short } from "./words.js";

const HEIGHT = 220;
const COLOURS = {
  light: ["#0f766e", "#c2410c", "#4f46e5", "#be185d", "#a16207", "#0369a1", "#15803d", "#7e22ce"],
  dark: ["#2dd4bf", "#fb923c", "#a5b4fc", "#f472b6", "#facc15", "#38bdf8", "#4ade80", "#c084fc"],
};

/** Lines are {label, xs, ys, isOld}; xs rise. */
export class Chart {
  constructor(name, options, sync) {
    this.name = name;
    this.options = options;
    this.sync = sync;
    this.note = h("small", { class: "note" });
    this.box = h("div", { class: "plot" });
    this.element = h("figure", { class: "chart" }, h("figcaption", null, h("b", null, name), this.note,
      h("button", { type: "button", class: "quiet", title: "save as PNG", "aria-label": `save ${name} as PNG`, onclick: () => this.save() }, "⤓")), this.box);
    this.lines = [];
    this.plot = null;
    this.signature = "";
  }

  draw(lines, note) {
    this.lines = lines;
    this.note.textContent = note;
    const { x, isLog, smooth } = this.options;
    const signature = JSON.stringify([lines.map((line) => [line.label, line.isOld]), x, isLog, getComputedStyle(document.documentElement).colorScheme, this.width()]);
    const data = joined(lines.map((line) => ({ xs: line.xs, ys: smooth > 0 ? smoothed(line.ys, smooth) : line.ys })));
    if (signature !== this.signature) {
      this.plot?.destroy();
      this.plot = new uPlot(this.settings(lines), data, this.box);
      this.signature = signature;
    } else {
      this.plot.setData(data);
    }
    const last = lines.at(-1);
    this.element.setAttribute("aria-label", `${this.name}: ${last ? `${last.ys.length} points, last ${number(last.ys.at(-1))}` : "no points"}`);
  }

  settings(lines) {
    const style = getComputedStyle(document.documentElement);
    const ink = style.getPropertyValue("--muted").trim(), grid = style.getPropertyValue("--line").trim();
    const { x, isLog, isRelative } = this.options;
    const axis = { stroke: ink, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid }, font: "12px system-ui", size: 52 };
    return {
      width: this.width(), height: HEIGHT,
      cursor: { sync: { key: this.sync }, points: { size: 6 } },
      legend: { live: true },
      scales: { x: { time: x === "time" && !isRelative }, y: { distr: isLog ? 3 : 1 } },
      axes: [{ ...axis, size: 34 }, { ...axis, values: (_, ticks) => ticks.map((tick) => tick === null ? "" : short(tick)) }],
      series: [{ label: x === "time" && isRelative ? "seconds" : x, value: (_, value) => value === null ? "–" : x === "time" && !isRelative ? new Date(value * 1000).toLocaleTimeString() : number(value) },
        ...lines.map((line, index) => ({
          label: line.label, stroke: this.colour(line, index), width: 1.6,
          spanGaps: true, points: { show: line.ys.length < 2 }, value: (_, value) => number(value) }))],
    };
  }

  /** Save what is drawn, under its name and with what each colour means. */
  save() {
    if (!this.plot) return;
    const drawn = this.plot.ctx.canvas, style = getComputedStyle(document.documentElement);
    const row = 18 * devicePixelRatio, left = 8 * devicePixelRatio;
    const canvas = h("canvas", { width: drawn.width, height: drawn.height + row * (this.lines.length + 1.5) });
    const pen = canvas.getContext("2d");
    pen.fillStyle = style.getPropertyValue("--card").trim();
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.drawImage(drawn, 0, row);
    pen.font = `${13 * devicePixelRatio}px system-ui`;
    pen.fillStyle = style.getPropertyValue("--ink").trim();
    pen.fillText(this.name, left, row);
    this.lines.forEach((line, index) => {
      pen.fillStyle = this.colour(line, index);
      pen.fillText(`— ${line.label}`, left, drawn.height + row * (index + 2));
    });
    canvas.toBlob((blob) => {
      save(blob, `${this.name.replace(/[^\w.-]+/g, "_")}.png`);
    }, "image/png");
  }

  colour(line, index) {
    const colours = COLOURS[getComputedStyle(document.documentElement).colorScheme.includes("dark") ? "dark" : "light"];
    return colours[index % colours.length] + (line.isOld ? "66" : "");
  }

  fits() { return this.plot?.width === this.width(); }

  width() { return Math.max(240, this.box.clientWidth); }

  destroy() { this.plot?.destroy(); this.plot = null; this.signature = ""; }
}

/** Put lines with x values of their own on one x axis. */
export function joined(lines) {
  if (lines.length === 0) return [[], []];
  if (lines.length === 1) return [lines[0].xs, lines[0].ys];
  return uPlot.join(lines.map((line) => [line.xs, line.ys]));
}

/** Exponential moving average; what is no number stays a gap. */
export function smoothed(values, weight) {
  let mean = null;
  return values.map((value) => {
    if (value === null) return null;
    mean = mean === null ? value : mean * weight + value * (1 - weight);
    return mean;
  });
}

/** Sort by x and keep the last value of each: training goes back when it resumes. */
export function inOrder(xs, ys) {
  let isSorted = true;
  for (let i = 1; i < xs.length && isSorted; i += 1) isSorted = xs[i] > xs[i - 1];
  if (isSorted) return { xs: xs.slice(), ys: ys.slice() };
  const last = new Map();
  xs.forEach((x, index) => last.set(x, ys[index]));
  const sorted = [...last.keys()].sort((a, b) => a - b);
  return { xs: sorted, ys: sorted.map((x) => last.get(x)) };
}

/** The controls above charts; calls onchange with the options. */
export function chartControls(options, onchange) {
  const change = (name, read) => (event) => { options[name] = read(event.target); onchange(); };
  return h("div", { class: "filters" },
    h("label", null, "x ", h("select", { onchange: change("x", (target) => target.value) },
      h("option", { value: "step" }, "step"), h("option", { value: "time" }, "time"))),
    h("label", null, h("input", { type: "checkbox", onchange: change("isLog", (target) => target.checked) }), " log scale"),
    h("label", null, "smooth ", h("input", { type: "range", min: 0, max: 0.99, step: 0.01, value: 0, onchange: change("smooth", (target) => Number(target.value)) })),
    h("label", null, "only ", h("input", { type: "search", placeholder: "metrics named…", oninput: change("only", (target) => target.value.toLowerCase()) })));
}

/** A grid of charts for {name: lines}. */
export class Grid {
  constructor(sync, isRelative = false) {
    this.options = { x: "step", isLog: false, smooth: 0, only: "", isRelative };
    this.charts = new Map();
    this.sync = sync;
    this.element = h("div", { class: "charts" });
    this.redraw = () => {};
    this.controls = chartControls(this.options, () => this.redraw());
    this.onresize = () => this.redraw();
    addEventListener("resize", this.onresize);
    addEventListener("themechange", this.onresize);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", this.onresize);
  }

  /** Draw; `metrics` is [[name, lines, note]]. */
  draw(metrics) {
    const wanted = metrics.filter(([name]) => name.toLowerCase().includes(this.options.only));
    const names = new Set(wanted.map(([name]) => name));
    for (const [name, chart] of this.charts) {
      if (!names.has(name)) { chart.destroy(); chart.element.remove(); this.charts.delete(name); }
    }
    for (const [place, [name, lines, note]] of wanted.entries()) {
      let chart = this.charts.get(name);
      if (!chart) this.charts.set(name, chart = new Chart(name, this.options, this.sync));
      const there = this.element.children[place] ?? null;
      if (there !== chart.element) this.element.insertBefore(chart.element, there);
      chart.draw(lines, note);
    }
  }

  /** Draw again if it was drawn while it could not be seen. */
  fit() {
    if ([...this.charts.values()].some((chart) => !chart.fits())) this.redraw();
  }

  destroy() {
    removeEventListener("resize", this.onresize);
    removeEventListener("themechange", this.onresize);
    matchMedia("(prefers-color-scheme: dark)").removeEventListener("change", this.onresize);
    for (const chart of this.charts.values()) chart.destroy();
  }
}
