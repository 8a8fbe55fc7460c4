"""Records of runs on the page: what is said of them, their logs, and a notebook of them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.e2e.farm import Farm, until
from tests.page.browser import Browser
from tests.page.test_page import RUNS, go, last_value, shows, start
from tests.page.test_viewers import buttons

TELLING = """
import pathlib, time
from lineshaft import run
print("printed first", flush=True)
run.log({"loss": 0.5, "word": "w"}, step=1)
pathlib.Path("kept.txt").write_text("what was kept")
run.artifact("kept.txt")
gate = pathlib.Path(run.params["gate"])
while not gate.exists():
    time.sleep(0.02)
print("printed last", flush=True)
"""
MARKUP = "<b onclick=x>bold</b>"


def ended(shop: Farm, folder: Path, **options: Any) -> str:
    """A run that is over; returns its id."""
    folder.mkdir(exist_ok=True)
    (folder / "gate").touch()
    with shop.client() as client:
        job = start(client, folder, TELLING, **options)
        job.result()
        until_recorded(shop, job.id)
    return str(job.id)


def until_recorded(shop: Farm, run: str) -> None:
    until(lambda: told(shop, f"/api/v1/runs/{run}").get("status") == "FINISHED")


def told(shop: Farm, path: str) -> dict[str, Any]:
    token = (shop.home / "token").read_text().strip()
    url = f"http://127.0.0.1:{shop.port}{path}"
    found: dict[str, Any] = httpx.get(url, headers={"Authorization": f"Bearer {token}"}).json()
    return found


def fill(page: Browser, selector: str, text: str) -> None:
    page.run(f"document.querySelector({json.dumps(selector)}).value = {json.dumps(text)}")


def type_text(page: Browser, text: str) -> None:
    for letter in text:
        page.press(letter, ord(letter.upper()), text=letter)


def focused(page: Browser) -> str:
    return str(page.run("document.activeElement.dataset.key ?? document.activeElement.id"))


def test_s004_17_a_run_is_named_described_and_tagged_on_the_page(
    shop: Farm, page: Browser, tmp_path: Path
) -> None:
    run = ended(shop, tmp_path, name="plain", experiment="edited")
    go(page, f"/runs/edited/{run}")
    shows(page, "plain", "h1")
    page.click("button", "Edit")
    assert page.run("document.querySelector('#edit-name').value") == "plain"
    fill(page, "#edit-name", f"better {MARKUP}")
    fill(page, "#edit-description", "first line\nsecond line")
    fill(page, "#edit-tags", "good\n\nbest\ngood")
    page.click("dialog button", "Save")

    shows(page, f"better {MARKUP}", "h1")
    shows(page, "first line\nsecond line", ".notes")
    said = told(shop, f"/api/v1/runs/{run}")
    assert (said["name"], said["description"]) == (f"better {MARKUP}", "first line\nsecond line")
    assert said["tags"] == ["good", "best"]
    assert page.run("document.querySelectorAll('dialog, #content b[onclick]').length") == 0
    page.run("location.hash = '#/runs'")
    shows(page, f"better {MARKUP}", RUNS)


def test_s004_17_what_nobody_changed_is_not_sent_and_a_refusal_is_told(
    shop: Farm, page: Browser, tmp_path: Path
) -> None:
    run = ended(shop, tmp_path, name="kept-name", experiment="edited")
    go(page, f"/runs/edited/{run}")
    shows(page, "kept-name", "h1")
    page.click("button", "Edit")
    # The job's name is no note of anybody's.
    assert page.run("document.querySelector('#edit-description').value") == ""
    fill(page, "#edit-name", "")
    page.click("dialog button", "Save")
    shows(page, "name: ", ".problem")
    assert page.run("document.querySelector('.problem').hidden") is False
    fill(page, "#edit-name", "kept-name")
    fill(page, "#edit-tags", "one")
    page.click("dialog button", "Save")

    shows(page, "one", ".tags")
    said = told(shop, f"/api/v1/runs/{run}")
    assert (said["name"], said["description"], said["tags"]) == ("kept-name", "kept-name", ["one"])


def test_s004_17_an_experiment_is_listed_described_and_opened(
    shop: Farm, page: Browser, tmp_path: Path
) -> None:
    run = ended(shop, tmp_path, name="inside", experiment="warm up/50%")
    place = told(shop, f"/api/v1/runs/{run}")["experiment"]
    ended(shop, tmp_path / "other", name="outside", experiment="edited")
    go(page, "/runs")
    shows(page, "experiments", "summary")
    page.click("summary")
    page.click("details a", place)
    shows(page, "inside", RUNS)
    assert "outside" not in page.text(RUNS)
    page.click("button", "Edit")
    fill(page, "#edit-display_name", "Warming up")
    fill(page, "#edit-description", "why it was done")
    fill(page, "#edit-tags", "old")
    fill(page, "#edit-project", "vision")
    page.click("dialog button", "Save")

    shows(page, "Warming up", "h1")
    shows(page, "why it was done", ".notes")
    page.click("a", "all runs")
    shows(page, "experiments", "summary")
    page.click("summary")
    shows(page, "vision", "details")


def test_s004_17_both_logs_stand_side_by_side_and_grow(
    shop: Farm, page: Browser, tmp_path: Path
) -> None:
    with shop.client() as client:
        job = start(client, tmp_path, TELLING, experiment="logs")
        until(lambda: told(shop, f"/api/v1/runs/{job.id}").get("status") == "RUNNING")
        go(page, f"/runs/logs/{job.id}/logs")
        shows(page, "printed first", "pre[aria-label='console.log']")
        shows(page, "artifact kept.txt", "pre[aria-label='run.log']")
        assert "printed last" not in page.text("pre[aria-label='console.log']")
        (tmp_path / "gate").touch()
        shows(page, "printed last", "pre[aria-label='console.log']")
        whole = page.text("pre[aria-label='console.log']").strip()
        assert whole == "printed first\nprinted last"
        lefts = page.run(
            "[...document.querySelectorAll('.logs > section')].map((one) => one.offsetLeft)"
        )
        assert isinstance(lefts, list)
        assert lefts[0] < lefts[1], "beside each other"
        page.resize(390)
        below = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        until(lambda: page.run(below) == 0)
        job.result()


def test_who_comes_back_to_the_page_again_and_again_reads_each_line_once(
    shop: Farm, page: Browser, tmp_path: Path
) -> None:
    run = ended(shop, tmp_path / "often", experiment="often")
    page.run(
        "window.asked = 0; window.askedOf = fetch; window.fetch = (...all) => {"
        " asked += String(all[0]).includes('/text') ? 1 : 0; return askedOf(...all); }"
    )

    go(page, f"/runs/often/{run}/logs")
    for _ in range(5):
        page.run("document.dispatchEvent(new Event('visibilitychange'))")

    shows(page, "printed last", "pre[aria-label='console.log']")
    until(lambda: page.run("asked > 20"), what="it was asked for often enough")
    whole = page.text("pre[aria-label='console.log']").strip()
    assert whole == "printed first\nprinted last"


def test_s004_17_a_notebook_of_a_run_shows_it_and_holds_no_token(
    shop: Farm, page: Browser, tmp_path: Path
) -> None:
    run = ended(shop, tmp_path, name='note"book')
    place = told(shop, f"/api/v1/runs/{run}")["experiment"]
    go(page, f"/runs/{place}/{run}".replace('"', "%22"))
    shows(page, 'note"book', "h1")
    page.save_to(tmp_path / "saved")
    page.click("button", "Notebook")
    file = tmp_path / "saved" / "note_book.ipynb"
    until(file.exists, what="the notebook is saved")
    book = json.loads(file.read_text())
    token = (shop.home / "token").read_text().strip()

    assert (book["nbformat"], book["nbformat_minor"]) == (4, 5)
    assert token not in file.read_text()
    code = ["".join(each["source"]) for each in book["cells"] if each["cell_type"] == "code"]
    compile(code[-1], "the cell that plots", "exec")
    script = "\n".join([*code[:-1], "print(json.dumps([facts[RUNS[0]]['status'], curves]))"])
    environ = {**os.environ, "LINESHAFT_HOME": str(shop.home)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    status, curves = json.loads(done.stdout)
    assert status == "FINISHED"
    assert curves[f"{place}/{run}"]["loss"]["values"] == [0.5]


def test_s004_17_the_keyboard_alone_edits_a_run(shop: Farm, page: Browser, tmp_path: Path) -> None:
    run = ended(shop, tmp_path, name="typed", experiment="edited")
    go(page, f"/runs/edited/{run}")
    shows(page, "typed", "h1")
    page.run("document.querySelector('[data-key=edit]').focus()")
    page.press("Enter", 13, text="\r")
    until(lambda: focused(page) == "edit-name")
    type_text(page, "again ")
    page.run(
        "(() => { const one = document.querySelector('[data-key=edit]');"
        " one.replaceWith(one.cloneNode(true)); })()"
    )
    page.press("Escape", 27)
    until(lambda: page.run("document.querySelector('dialog') === null"))
    until(lambda: focused(page) == "edit", what="the focus is back, though the head was drawn anew")
    shows(page, "typed", "h1")
    page.run("location.hash = '#/runs'")
    shows(page, "Find")
    page.run(f"location.hash = '#/runs/edited/{run}'")
    shows(page, "typed", "h1")
    page.run("document.querySelector('[data-key=edit]').focus()")
    page.press("Enter", 13, text="\r")
    until(lambda: focused(page) == "edit-name")
    page.press("End", 35)
    type_text(page, "x")
    page.press("Enter", 13, text="\r")
    shows(page, "typedx", "h1")
    until(lambda: focused(page) == "edit", what="the focus is back")


def test_s004_17_viewers_look_at_records_and_edit_and_open_nothing(
    shop: Farm, seen: Browser, tmp_path: Path
) -> None:
    run = ended(shop, tmp_path, name="watched", experiment="watched")
    go(seen, f"/runs/watched/{run}/files")
    shows(seen, "kept.txt", "table")
    assert "Notebook" in buttons(seen)
    assert not {"Edit", "Look", "Download", "logs"} & buttons(seen)
    seen.run(f"location.hash = '#/runs/watched/{run}/logs'")
    shows(seen, "not shown to viewers", "#panel")
    seen.run("location.hash = '#/runs/watched'")
    shows(seen, "watched", RUNS)
    assert "Edit" not in buttons(seen)
    asked = (
        "import('./assets/api.js').then((api) => api.patch("
        "'api/experiments/watched/metadata', {project: 'mine'}))"
        ".then(() => 'done', (error) => `${error.status}`)"
    )
    assert seen.run(asked) == "403"


def test_a_run_whose_job_is_forgotten_is_still_shown(
    shop: Farm, page: Browser, tmp_path: Path
) -> None:
    """Nobody knows a job of this name: the record was brought here."""
    run = ended(shop, tmp_path, name="brought", experiment="brought")
    runs = shop.folder / "data" / "runs" / "brought"
    copy = runs / "from-elsewhere"
    subprocess.run(["cp", "-r", runs / run, copy], check=True)
    text = (copy / "run.yaml").read_text()
    (copy / "run.yaml").write_text(text.replace(f"name: {run}", "name: from-elsewhere"))
    go(page, "/runs/brought/from-elsewhere")
    shows(page, "brought", "h1")
    until(lambda: last_value(page, "loss").startswith("loss: 1 points"))
    assert "its job" not in page.text(".facts")
    page.run(f"location.hash = '#/compare/{run},from-elsewhere'")
    shows(page, "0.5000", "table")


@pytest.mark.parametrize("is_dark", [False, True])
def test_s004_17_records_fit_a_telephone(
    shop: Farm, page: Browser, tmp_path: Path, is_dark: bool
) -> None:
    name = "a-name-that-is-much-longer-than-a-telephone-is-wide-" * 3
    run = ended(shop, tmp_path, name=name, experiment="edited")
    token = (shop.home / "token").read_text().strip()
    changed = httpx.patch(
        f"http://127.0.0.1:{shop.port}/api/experiments/edited/runs/{run}/metadata",
        headers={"Authorization": f"Bearer {token}"},
        json={"tags": ["a" * 90, "b"], "description": "word " * 200},
    )
    assert changed.status_code == 200
    page.resize(390, 844, is_dark=is_dark)
    too_wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    for path, sign in (
        ("/runs", "Find"),
        ("/runs/edited", "Find"),
        *((f"/runs/edited/{run}/{tab}", "Notebook") for tab in ("curves", "logs", "files")),
        (f"/runs/edited/{run}/details", "Last values"),
    ):
        go(page, "/") if path == "/runs" else None
        page.run(f"location.hash = {json.dumps('#' + path)}")
        shows(page, sign)
        until(lambda: page.run(too_wide) == 0, what=f"{path} fits")
    page.click("button", "Edit")
    box = page.run("document.querySelector('dialog').getBoundingClientRect().toJSON()")
    assert isinstance(box, dict)
    assert box["left"] >= 0
    assert box["right"] <= 390
    page.run("document.querySelector('dialog').close()")
