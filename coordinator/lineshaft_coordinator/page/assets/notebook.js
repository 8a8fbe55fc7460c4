// A notebook that opens runs where its user works: it asks as that user, and holds no token.
import { save } from "./api.js";

// JSON's texts are Python's, too: no name can end one of them.
const text = JSON.stringify;

function cells(runs, url) {
  return [
    ["markdown", "# Runs of Lineshaft\nIt asks the coordinator as you: with the token that `lineshaft login` keeps, or the one in `LINESHAFT_TOKEN`. If you reach the coordinator by another address than the page did, change `URL`."],
    ["code", `# %pip install lineshaft matplotlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

URL = ${text(url)}
RUNS = ${text(runs)}


def lineshaft(*words):
    command = [sys.executable, "-m", "lineshaft", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout`],
    ["code", `def show(run):
    return json.loads(lineshaft("runs", "show", "--json", "--url", URL, "--", run))


facts = {run: show(run) for run in RUNS}
{run: {"status": each["status"], "parameters": each["config"], "last": each["last"]} for run, each in facts.items()}`],
    ["code", `def curves_of(run):
    """Each metric, with steps, values, times and attempts."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "curves.json")
        lineshaft("runs", "export", "-f", "json", "-o", str(file), "--url", URL, "--", run)
        return json.loads(file.read_text())


curves = {run: curves_of(run) for run in RUNS}
{run: {metric: len(each["values"]) for metric, each in found.items()} for run, found in curves.items()}`],
    ["code", `import matplotlib.pyplot as plt

for metric in sorted({metric for found in curves.values() for metric in found}):
    plt.figure()
    plt.title(metric)
    for run, found in curves.items():
        if metric in found:
            line = [(step, value) for step, value in zip(found[metric]["steps"], found[metric]["values"]) if isinstance(value, float)]
            plt.plot(*zip(*line), label=run) if line else None
    plt.legend()`],
  ].map(([kind, source], index) => ({
    id: `cell-${index}`, cell_type: kind, metadata: {}, source: source.split(/(?<=\n)/), ...(kind === "code" ? { outputs: [], execution_count: null } : {}),
  }));
}

/** Save one that shows these runs, by name. */
export function saveNotebook(runs, name) {
  const url = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}`;
  const book = { nbformat: 4, nbformat_minor: 5, metadata: { kernelspec: { name: "python3", display_name: "Python 3", language: "python" } }, cells: cells(runs, url) };
  save(new Blob([JSON.stringify(book, null, 1)], { type: "application/x-ipynb+json" }), `${name.replace(/[^\w.-]+/g, "_").slice(0, 100)}.ipynb`);
}
