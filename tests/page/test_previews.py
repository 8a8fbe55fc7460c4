"""Looking into what jobs left: pictures, sound, films, tables, texts; and files that mean harm."""

import json
from pathlib import Path

import pytest
from tests.e2e.farm import Farm, until
from tests.page.browser import Browser
from tests.page.test_page import go, shows, start
from tests.page.test_records import until_recorded
from tests.page.test_viewers import buttons

TABLES = """
import csv
import pyarrow as pa, pyarrow.parquet as pq
from lineshaft import run
run.log({"loss": 0.5}, step=1)
with open("many.csv", "w", newline="") as file:
    rows = csv.writer(file)
    rows.writerow(["number", "text"])
    rows.writerows([n, f"row {n}"] for n in range(250))
with open("wide.csv", "w") as file:
    file.write(",".join(f"column-{n}" for n in range(250)) + "\\n" + ",".join("1" * 250) + "\\n")
pq.write_table(pa.table({"n": range(250), "half": [n / 2 for n in range(250)]}), "some.parquet")
open("broken.parquet", "wb").write(b"PAR1 and no more")
for name in ("many.csv", "wide.csv", "some.parquet", "broken.parquet"):
    run.artifact(name)
"""
PICTURES = """
import struct, wave, zlib
from lineshaft import run
run.log({"loss": 0.5}, step=1)
def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
rows = b"".join(b"\\0" + b"\\x20\\x80\\x40" * 30 for _ in range(20))
png = b"\\x89PNG\\r\\n\\x1a\\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 30, 20, 8, 2, 0, 0, 0))
open("shape.png", "wb").write(png + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
open("wrong.png", "wb").write(b"no picture")
with wave.open("tone.wav", "wb") as sound:
    sound.setparams((1, 2, 8000, 0, "NONE", ""))
    sound.writeframes(bytes(16000))
import base64
open("film.webm", "wb").write(base64.b64decode(run.params["film"]))
for name in ("shape.png", "wrong.png", "tone.wav", "film.webm"):
    run.artifact(name)
"""
OWN = "document.title='owned'"
MARKUP = f'<img src=x onerror="{OWN}"><script>{OWN}</script>'
NAMED = "<img src=x onerror=document.title=1>.txt"
HARMFUL = {
    "page.html": f"<!doctype html><title>x</title>{MARKUP}",
    "drawing.svg": (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="30" onload="{OWN}">'
        f"<script>{OWN}</script><rect width='40' height='30' fill='teal'/></svg>"
    ),
    "table.csv": "a,<b>head</b>\n=1+cmd|' /C calc'!A0,\"{}\"\n".format(MARKUP.replace('"', '""')),
    NAMED: "named so",
    "page.json": '{"a": "<script>"}',
}
HARM = f"""
from lineshaft import run
run.log({{"loss": 0.5}}, step=1)
for name, text in {HARMFUL!r}.items():
    open(name, "w").write(text)
    run.artifact(name)
"""
FILM = """
(async () => {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 32;
  const pen = canvas.getContext("2d");
  const recorder = new MediaRecorder(canvas.captureStream(30), { mimeType: "video/webm" });
  const pieces = [];
  recorder.ondataavailable = (event) => pieces.push(event.data);
  const done = new Promise((resolve) => { recorder.onstop = resolve; });
  recorder.start();
  for (let n = 0; n < 12; n += 1) {
    pen.fillStyle = n % 2 ? "teal" : "white";
    pen.fillRect(0, 0, 32, 32);
    await new Promise((resolve) => setTimeout(resolve, 40));
  }
  recorder.stop();
  await done;
  const bytes = new Uint8Array(await new Blob(pieces).arrayBuffer());
  return btoa(String.fromCharCode(...bytes));
})()
"""


def kept(shop: Farm, folder: Path, script: str, **params: str) -> str:
    """A run that left files; returns its id."""
    (folder / "left.py").write_text(script)
    with shop.client() as client:
        job = client.run(
            "left.py", files=[folder / "left.py"], params=params, experiment="previews"
        )
        job.result()
        until_recorded(shop, job.id)
    return str(job.id)


def look(page: Browser, name: str) -> None:
    """Open a file of the list, and nothing else."""
    page.run("document.querySelector('dialog')?.close()")
    until(lambda: page.run("document.querySelector('dialog') === null"))
    page.run(
        f"[...document.querySelectorAll('tr')].find((one) => one.innerText.includes("
        f"{json.dumps(name)})).querySelector('button').click()"
    )
    until(lambda: page.text("dialog .shown") not in ("", "…") or has_media(page))


def has_media(page: Browser) -> bool:
    return page.run("document.querySelector('dialog :is(img, audio, video)') !== null") is True


def test_s004_17_of_tables_the_first_rows_are_shown(
    shop: Farm, page: Browser, tmp_path: Path
) -> None:
    run = kept(shop, tmp_path, TABLES)
    go(page, f"/runs/previews/{run}/files")
    shows(page, "many.csv", "table")
    count = "document.querySelectorAll('dialog tbody tr').length"
    look(page, "many.csv")
    shows(page, "100 of 250 rows", "dialog")
    assert page.run(count) == 100
    assert "row 99" in page.text("dialog tbody")
    look(page, "some.parquet")
    shows(page, "100 of 250 rows", "dialog")
    assert "49.5" in page.text("dialog tbody tr:last-child")
    look(page, "broken.parquet")
    shows(page, "broken.parquet cannot be read as Parquet", "dialog")


def test_s004_17_pictures_sound_and_films_are_shown_and_played(
    shop: Farm, page: Browser, tmp_path: Path
) -> None:
    shows(page, "Workers")
    run = kept(shop, tmp_path, PICTURES, film=str(page.run(FILM)))
    go(page, f"/runs/previews/{run}/files")
    shows(page, "shape.png", "table")
    look(page, "shape.png")
    until(lambda: page.run("document.querySelector('dialog img').naturalWidth") == 30)
    look(page, "wrong.png")
    shows(page, "no picture that a browser can draw", "dialog")
    look(page, "tone.wav")
    until(lambda: page.run("document.querySelector('dialog audio').duration") == 1)
    look(page, "film.webm")
    until(lambda: page.run("document.querySelector('dialog video').videoWidth") == 32)
    page.run("document.querySelector('dialog').close()")


def test_s004_17_of_a_text_64_kib_are_shown_and_what_is_none_is_said(
    shop: Farm, page: Browser, tmp_path: Path
) -> None:
    script = (
        "from lineshaft import run\nrun.log({'loss': 0.5}, step=1)\n"
        "open('long.yaml', 'w').write('key: value\\n' * 20_000)\n"
        "open('no-ending', 'w').write('plain words')\nopen('m.bin', 'wb').write(bytes(999))\n"
        "open('nothing.txt', 'w')\n"
        "for name in ('long.yaml', 'no-ending', 'm.bin', 'nothing.txt'): run.artifact(name)\n"
    )
    run = kept(shop, tmp_path, script)
    go(page, f"/runs/previews/{run}/files")
    shows(page, "long.yaml", "table")
    look(page, "long.yaml")
    shows(page, "the first 64 KiB of 215 KiB", "dialog")
    assert page.run("document.querySelector('dialog pre').textContent.length") == 65536
    fetched = (
        "performance.getEntriesByType('resource')"
        ".filter((each) => each.name.includes('long.yaml')).at(-1).encodedBodySize"
    )
    assert page.run(fetched) == 65536, "the rest of it stays where it is"
    look(page, "no-ending")
    shows(page, "plain words", "dialog pre")
    look(page, "m.bin")
    shows(page, "download it", "dialog")
    look(page, "nothing.txt")
    shows(page, "It is empty", "dialog")
    page.save_to(tmp_path / "saved")
    page.click("dialog button", "Download")
    until((tmp_path / "saved" / "nothing.txt").exists, what="the file is saved")


def test_s004_17_a_file_that_means_harm_is_shown_and_does_none(
    shop: Farm, page: Browser, tmp_path: Path
) -> None:
    run = kept(shop, tmp_path, HARM)
    go(page, f"/runs/previews/{run}/files")
    shows(page, "drawing.svg", "table")
    # Workers refuse such a name; a record that was brought from elsewhere may have one.
    told = (
        "import('./assets/words.js').then((words) => words.shortName('turned \\u202egnp.exe')"
        " + words.shortName('\\n' + 'x'.repeat(5000)).length)"
    )
    assert page.run(told) == "turned \ufffdgnp.exe181"
    look(page, "page.html")
    shows(page, MARKUP, "dialog pre")
    look(page, "page.json")
    shows(page, '{"a": "<script>"}', "dialog pre")
    look(page, "drawing.svg")
    until(lambda: page.run("document.querySelector('dialog img').naturalWidth") == 40)
    source = str(page.run("document.querySelector('dialog img').src"))
    assert source.startswith("data:image/svg+xml"), "an address without an origin"
    shows(page, "<script>", "dialog pre")
    look(page, "table.csv")
    shows(page, "=1+cmd|' /C calc'!A0", "dialog td")
    shows(page, MARKUP, "dialog tbody")
    shows(page, "<b>head</b>", "dialog th:last-child")
    look(page, NAMED)
    shows(page, "named so", "dialog pre")
    shows(page, NAMED, "dialog h2")

    assert page.run("document.title.startsWith('Lineshaft')") is True
    made = "document.querySelectorAll('main img, main script, dialog script, dialog b').length"
    assert page.run(made) == 0
    framed = "document.querySelectorAll('iframe, object, embed, frame').length"
    assert page.run(framed) == 0


@pytest.mark.parametrize("name", ["page.html", "drawing.svg"])
def test_s004_17_a_file_that_a_browser_opens_by_itself_runs_nothing(
    shop: Farm, page: Browser, tmp_path: Path, name: str
) -> None:
    run = kept(shop, tmp_path, HARM)
    shows(page, "Workers")
    kind, policy, disposition = str(
        page.run(
            "import('./assets/api.js').then(async (api) => { const answer = await fetch("
            f"`api/v1/runs/{run}/artifacts/content?path=artifacts/{name}`,"
            " { headers: { Authorization: `Bearer ${api.token()}` } });"
            " return ['x-content-type-options', 'content-security-policy', 'content-disposition']"
            ".map((each) => answer.headers.get(each)).join('\\n'); })"
        )
    ).split("\n")
    assert kind == "nosniff"
    assert policy.startswith("sandbox; default-src 'none'")
    assert disposition.startswith("attachment")


def test_s004_17_a_file_of_a_job_that_runs_is_looked_at_by_keyboard(
    shop: Farm, page: Browser, tmp_path: Path
) -> None:
    script = (
        "import pathlib, time\nfrom lineshaft import run\n"
        "open('t.csv', 'w').write('a,b\\n1,2\\n')\nrun.artifact('t.csv')\n"
        "while not pathlib.Path(run.params['gate']).exists(): time.sleep(0.02)\n"
    )
    with shop.client() as client:
        job = start(client, tmp_path, script)
        go(page, f"/jobs/{job.id}/files")
        shows(page, "t.csv", "table")
        key = "document.querySelector('[data-key^=\"look \"]')"
        page.run(f"{key}.focus()")
        page.press("Enter", 13, text="\r")
        shows(page, "1 row", "dialog")
        page.press("Escape", 27)
        until(lambda: page.run(f"document.activeElement === {key}"), what="the focus is back")
        (tmp_path / "gate").touch()
        job.result()


def test_s004_17_viewers_look_into_no_file(shop: Farm, seen: Browser, tmp_path: Path) -> None:
    run = kept(shop, tmp_path, TABLES)
    go(seen, f"/jobs/{run}/files")
    shows(seen, "many.csv", "table")
    assert not {"Look", "Download"} & buttons(seen)
    paths = (
        f"api/v1/runs/{run}/artifacts/content?preview=true&path=artifacts/many.csv",
        f"api/v1/jobs/{run}/files/1.1/preview",
    )
    for path in paths:
        asked = (
            f"import('./assets/api.js').then((api) => api.get({json.dumps(path)}))"
            ".then(() => 'done', (error) => `${error.status}`)"
        )
        assert seen.run(asked) == "403"


def test_s004_17_previews_fit_a_telephone(shop: Farm, page: Browser, tmp_path: Path) -> None:
    run = kept(shop, tmp_path, TABLES)
    page.resize(390, 844)
    go(page, f"/runs/previews/{run}/files")
    shows(page, "many.csv", "table")
    look(page, "wide.csv")
    shows(page, "1 row, 200 of 250 columns", "dialog")
    box = page.run("document.querySelector('dialog').getBoundingClientRect().toJSON()")
    assert isinstance(box, dict)
    assert box["left"] >= 0
    assert box["right"] <= 390
    assert box["bottom"] <= 844
    beside = "(({ scrollWidth, clientWidth }) => scrollWidth - clientWidth)"
    assert page.run(f"{beside}(document.querySelector('dialog'))") == 0
    assert page.run(f"{beside}(document.documentElement)") == 0
    page.run("document.querySelector('dialog').close()")
