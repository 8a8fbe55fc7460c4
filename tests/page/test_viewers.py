"""The page for those who only look."""

import json
from pathlib import Path
from typing import cast

from tests.e2e.farm import Farm, until
from tests.page.browser import Browser
from tests.page.test_page import go, last_value, shows, start

SPILLING = """
import pathlib, time
from lineshaft import run
print("words of its output", flush=True)
run.log({"loss": 0.25}, step=0)
pathlib.Path("m.bin").write_bytes(b"weights")
run.checkpoint("m.bin", step=0)
gate = pathlib.Path(run.params["gate"])
while not gate.exists():
    time.sleep(0.02)
raise ValueError("what it raised")
"""


def buttons(page: Browser) -> set[str]:
    found = page.run(
        "[...document.querySelectorAll('main button')].filter((one) => !one.hidden)"
        ".map((one) => one.textContent)"
    )
    return set(cast("list[str]", found))


def test_a_viewer_sees_curves_and_files_and_no_controls_output_and_downloads(
    shop: Farm, seen: Browser, tmp_path: Path
) -> None:
    with shop.client() as client:
        job = start(client, tmp_path, SPILLING)
        until(lambda: job.status == "running")
        shows(seen, "signed in as viewer", "#role")
        go(seen, f"/jobs/{job.id}")
        until(lambda: last_value(seen, "loss") == "loss: 1 points, last 0.2500")
        shows(seen, "running", ".pill")
        assert {"curves", "story", "files", "details"} <= buttons(seen)
        assert not {"Pause", "Freeze", "Cancel", "output"} & buttons(seen)
        seen.click("[role=tab]", "files")
        shows(seen, "m.bin", "table")
        assert "Download" not in buttons(seen)
        go_on = tmp_path / "gate"
        go_on.touch()
        shows(seen, "failed", ".pill")
        shows(seen, "it failed: exception ValueError; its text is not shown to viewers", ".why")
        assert "Run again" not in buttons(seen)
        for tab in ("story", "details"):
            seen.click("[role=tab]", tab)
            shows(seen, "ValueError" if tab == "story" else job.id, "#panel")
            assert "what it raised" not in seen.text()
        seen.run(f"location.hash = {json.dumps(f'#/jobs/{job.id}/output')}")
        shows(seen, "not shown to viewers: it may hold secrets", ".output")
        assert "words of its output" not in seen.text()


def test_the_server_refuses_a_viewer_whose_page_was_forged(
    shop: Farm, seen: Browser, tmp_path: Path
) -> None:
    with shop.client() as client:
        job = start(client, tmp_path)
        until(lambda: job.status == "running")
        go(seen, f"/jobs/{job.id}")
        shows(seen, "running", ".pill")
        asked = (
            "import('./assets/api.js').then(async (api) => { const found = [];"
            f" for (const verb of ['cancel', 'pause', 'freeze', 'retry', 'files/x/ticket'])"
            f" await api.post(`api/v1/jobs/{job.id}/${{verb}}`).then(() => found.push('done'),"
            " (error) => found.push(`${error.status} ${error.message}`)); return found; })"
        )

        answers = cast("list[str]", seen.run(asked))

        assert all(each.startswith("403 this token is for a viewer") for each in answers)
        assert len(answers) == 5
        assert job.status == "running"
        job.cancel()


def test_who_may_control_is_not_told_who_they_are(page: Browser) -> None:
    shows(page, "box-1")

    assert page.text("#role") == ""
