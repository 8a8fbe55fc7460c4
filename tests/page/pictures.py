"""Pictures of the page for the documents (``python -m tests.page.pictures FOLDER``)."""

import sys
import tempfile
from pathlib import Path

from tests.e2e.farm import farm, until
from tests.nvml.standin import GIB, StandinState, build_standin, environment
from tests.page.browser import Browser

from lineshaft_coordinator.server.admission import Tokens

TRAINING = """
import math, random, sys
from lineshaft import run
rate, dice = run.params["rate"], random.Random(str(run.params["rate"]))
for step in range(400):
    loss = math.exp(-step * rate / 40) + dice.random() * 0.08
    run.progress(step + 1, 400)
    run.log({"loss": loss, "val/loss": loss * 1.1 + 0.02, "accuracy": 1 - loss / 1.5}, step=step)
    if step % 100 == 0:
        print(f"step {step}: loss {loss:.4f}", flush=True)
        open("model.bin", "wb").write(bytes(200_000 + step))
        run.checkpoint("model.bin", step=step)
with open("errors.csv", "w") as file:
    file.write("image,truth,guess,share\\n")
    file.writelines(f"{n:05}.png,{n % 7},{n % 5},{dice.random():.3f}\\n" for n in range(340))
run.artifact("errors.csv")
print("waits to be stopped", flush=True)
while run.params["stays"] and not run.should_pause():
    import time; time.sleep(0.1)
"""


def main(target: Path) -> None:
    """Run a small farm with GPUs that are none, and take pictures."""
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        state = StandinState(folder / "nvml.txt")
        for index in range(2):
            state.add_gpu(f"GPU-{index}", name="RTX 4090", memory=24 * GIB)
        environ = environment(build_standin(folder), state)
        with farm(folder / "farm", "first_workers_s=0") as made, made.client() as client:
            made.start_worker("box-1", "--slots", "4", environ=environ)
            made.start_worker("box-2", "--slots", "2")
            made.until_ready(client)
            (folder / "train.py").write_text(TRAINING)
            jobs = [
                client.run(
                    "train.py",
                    files=folder / "train.py",
                    name=f"resnet-{rate}",
                    params={"rate": rate, "stays": rate == 0.1},
                    resources={"gpus": gpus},
                )
                for rate, gpus in ((0.4, 0), (0.2, 0), (0.1, 1))
            ]
            for job in jobs[:2]:
                job.result()
            until(lambda: jobs[2].story() and "'step': 300" in str(jobs[2].story()))
            token = (made.home / "token").read_text().strip()
            viewer = Tokens(made.folder / "data", token).create("viewer")[1]
            with Browser(folder) as page:
                url = f"http://127.0.0.1:{made.port}/"
                _take(page, target, url, token, [j.id for j in jobs])
                _take_records(page, target, jobs[0].id)
                page.resize(1200, 660)
                page.open("about:blank")
                page.open(f"http://127.0.0.1:{made.port}/#token={viewer}")
                until(lambda: "signed in as viewer" in page.text())
                page.run(f"location.hash = '#/jobs/{jobs[2].id}'")
                until(lambda: page.run("document.querySelectorAll('canvas').length") == 3)
                page.picture(target / "viewer.png")


def _take(page: Browser, target: Path, url: str, token: str, jobs: list[str]) -> None:
    page.resize(1200, 760)
    page.open(f"{url}#token={token}")
    until(lambda: "RTX 4090" in page.text())
    page.picture(target / "overview.png")
    page.run(f"location.hash = '#/jobs/{jobs[2]}'")
    until(lambda: page.run("document.querySelectorAll('canvas').length") == 3)
    page.picture(target / "job.png")
    page.resize(390, 760, is_dark=True)
    page.picture(target / "narrow-dark.png")
    page.resize(1200, 760, is_dark=True)
    page.run(f"location.hash = '#/compare/{','.join(jobs)}'")
    until(lambda: "val/loss" in page.text("table"))
    until(lambda: page.run("document.querySelectorAll('canvas').length") == 3)
    page.picture(target / "compare-dark.png")


def _take_records(page: Browser, target: Path, run: str) -> None:
    page.resize(1200, 760)
    page.run(f"location.hash = '#/runs/resnet-0.4/{run}/files'")
    until(lambda: "errors.csv" in page.text("table"))
    page.click("button[aria-label$='errors.csv']", "Look")
    until(lambda: "100 of 340 rows" in page.text("dialog"))
    page.picture(target / "preview.png")
    page.run("document.querySelector('dialog').close()")
    page.resize(1200, 660, is_dark=True)
    page.click("[role=tab]", "logs")
    until(lambda: "step 300:" in page.text("pre[aria-label='console.log']"))
    until(lambda: "errors.csv" in page.text("pre[aria-label='run.log']"))
    page.picture(target / "logs-dark.png")
    page.resize(390, 760)
    page.click("button", "Edit")
    page.run("document.querySelector('#edit-description').value = 'The rate of the paper.'")
    page.picture(target / "edit-narrow.png")
    page.run("document.querySelector('dialog').close()")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
