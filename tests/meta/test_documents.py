"""What documents say is true where a machine can tell: code runs, links lead somewhere."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import unquote

import pytest
from tests.e2e.farm import Farm
from tests.integration.deploy.shop import PROGRAMS
from tests.meta.documents import (
    Block,
    MarkError,
    anchors_of,
    blocks_of,
    links_of,
    matches,
    needs_coordinator,
)
from tests.meta.tree import ROOT, documents, short

BLOCK_S = 300.0
"""Longest time for one block, in seconds."""
PATH = f"{PROGRAMS}:/usr/local/bin:/usr/bin:/bin"


def run(block: Block, folder: Path) -> str:
    """Run a block; returns what it printed."""
    match block.language:
        case "python":
            command = [sys.executable, "-c", block.text]
        case "bash" | "sh" | "console" | "shell":
            command = ["bash", "-euo", "pipefail", "-c", block.text]
        case other:
            raise MarkError(block.place, f"nobody knows how to run {other or 'plain text'}")
    environment = {
        "PATH": PATH,
        "HOME": str(folder),
        "LINESHAFT_HOME": str(folder / ".lineshaft"),
        "PYTHONPATH": str(folder),
    }
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=BLOCK_S,
    )
    assert done.returncode == 0, f"{block.place} failed:\n{block.text}\n{done.stdout}{done.stderr}"
    return done.stdout


def follow(blocks: list[Block], folder: Path) -> None:
    """Do what the document says, in order."""
    printed: str | None = None
    for block in blocks:
        match block.action:
            case "file":
                path = folder / block.name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text)
            case "run":
                printed = run(block, folder)
            case "output":
                if printed is None:
                    raise MarkError(block.place, "nothing was run before it")
                assert matches(block.text, printed), f"{block.place}: it printed\n{printed}"


@contextmanager
def daemons(folder: Path) -> Iterator[None]:
    """A coordinator and a worker with two slots, in the folder that the blocks use."""
    made = Farm(folder, home_name=".lineshaft")
    try:
        made.start_coordinator()
        made.start_worker("docs", "--slots", "2", environ={"PATH": PATH})
        with made.client() as client:
            made.until_ready(client)
        yield
    finally:
        made.close()


def has_blocks(path: Path) -> bool:
    return bool(blocks_of(path, path.read_text()))


@pytest.mark.parametrize("path", [p for p in documents() if has_blocks(p)], ids=short)
def test_the_code_of_a_document_runs(path: Path, tmp_path: Path) -> None:
    text = path.read_text()

    with ExitStack() as stack:
        if needs_coordinator(text):
            stack.enter_context(daemons(tmp_path))
        follow(blocks_of(path, text), tmp_path)


@pytest.mark.parametrize("path", documents(), ids=short)
def test_the_links_of_a_document_lead_somewhere(path: Path) -> None:
    broken: list[str] = []
    for number, link in links_of(path.read_text()):
        if "://" in link or link.startswith("mailto:"):
            continue
        name, _, anchor = unquote(link).partition("#")
        target = (path.parent / name).resolve() if name else path
        if not target.exists() or not target.is_relative_to(ROOT):
            broken.append(f"{short(path)}:{number}: {link}")
        elif anchor and target.suffix == ".md" and anchor not in anchors_of(target.read_text()):
            broken.append(f"{short(path)}:{number}: {link} (no such heading)")

    assert broken == []


# --- the reader of documents itself ---

STORY = """# A *story*

Text with [a link](other.md#part), `[no](link)`.

<!-- file: job.py -->
```python
print("from a file")
```

<!-- run -->
```bash
python job.py
```

<!-- output -->
```text
from ... file
```

```python
this is not run
```
"""


def test_marked_blocks_are_run_in_order_and_others_are_not(tmp_path: Path) -> None:
    blocks = blocks_of(Path("story.md"), STORY)

    follow(blocks, tmp_path)

    assert [block.action for block in blocks] == ["file", "run", "output"]


@pytest.mark.parametrize(
    ("before", "after"),
    [('print("from a file")', "raise SystemExit(3)"), ("from ... file", "from ... another")],
)
def test_a_block_that_fails_or_prints_something_else_is_found(
    before: str, after: str, tmp_path: Path
) -> None:
    blocks = blocks_of(Path("story.md"), STORY.replace(before, after))

    with pytest.raises(AssertionError, match=r"story\.md:"):
        follow(blocks, tmp_path)


@pytest.mark.parametrize(
    "text", ["<!-- run -->\n\n```python\n```\n", "<!-- file -->\n```python\n```\n"]
)
def test_a_mark_without_its_block_is_refused(text: str) -> None:
    with pytest.raises(MarkError, match=r"story\.md:1"):
        blocks_of(Path("story.md"), text)


def test_links_and_headings_are_read_as_the_site_shows_them() -> None:
    text = f"{STORY}\n## Limits, and `code` (v2)\n\n## Limits, and `code` (v2)\n"

    assert links_of(text) == [(3, "other.md#part")]
    assert anchors_of(text) == {"a-story", "limits-and-code-v2", "limits-and-code-v2-1"}


def test_blocks_find_the_coordinator_of_their_document(tmp_path: Path) -> None:
    text = """<!-- needs: coordinator -->
<!-- run -->
```python
import os, urllib.request, json, pathlib
url = json.loads(pathlib.Path(os.environ["LINESHAFT_HOME"], "coordinator.json").read_text())["url"]
print(urllib.request.urlopen("http" + url.removeprefix("ws") + "/readyz").read().decode())
```
<!-- output -->
```text
ok
```
"""

    assert needs_coordinator(text)
    with daemons(tmp_path):
        follow(blocks_of(Path("story.md"), text), tmp_path)
