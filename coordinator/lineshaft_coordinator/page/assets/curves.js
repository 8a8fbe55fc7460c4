// The curves of one job, drawn as its numbers come.
import { Grid, inOrder } from "./charts.js";
import { h, show } from "./dom.js";
import { empty } from "./parts.js";
import { Series, followNumbers, history, ownFirst } from "./series.js";
import { number, plural } from "./words.js";

/** The curves of a job or of its run; those of a run without a job stand still. */
export function curvesPane(id, signal, experiment) {
  const series = new Series();
  const grid = new Grid(`job-${id}`);
  const note = h("div");
  let isLoaded = false, isDue = false, drawn = 0;
  function draw() {
    const { x } = grid.options;
    const metrics = ownFirst(series.metrics.keys()).map((name) => {
      const attempts = series.metrics.get(name);
      const numbers = [...attempts.keys()].sort((a, b) => a - b);
      let strange = 0;
      const lines = numbers.map((attempt) => {
        const points = attempts.get(attempt);
        strange += points.strange;
        const isOld = attempt !== numbers.at(-1);
        return { label: numbers.length > 1 ? `attempt ${attempt}` : name, isOld, ...inOrder(x === "time" ? points.at : points.step, points.value) };
      });
      const last = lines.at(-1).ys.at(-1);
      const shown = series.labels.has(name) ? ` · ${series.labels.get(name)} points` : "";
      return [name, lines, `${number(last)}${shown}${strange ? ` · ${plural(strange, "value")} not finite or no number` : ""}`];
    });
    grid.draw(metrics);
    show(note, series.metrics.size ? null : empty("It has told no numbers. In the job: ", h("code", null, "run.log({\"loss\": loss}, step=step)")));
  }
  grid.redraw = () => { if (isLoaded) draw(); };
  function drawSoon() {
    if (isDue || drawn === series.version) return;
    isDue = true;
    requestAnimationFrame(() => { isDue = false; drawn = series.version; draw(); });
  }
  return {
    element: h("div", null, grid.controls, note, grid.element),
    async update() {
      if (!isLoaded) {
        await history(id, series, signal, experiment);
        isLoaded = true;
        draw();
        followNumbers(id, series, signal, drawSoon);
      }
      grid.fit();
    },
    stop: () => grid.destroy(),
  };
}
