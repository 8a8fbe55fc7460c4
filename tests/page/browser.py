"""A headless Chromium, driven over its DevTools protocol.

https://chromedevtools.github.io/devtools-protocol/ has the commands that are used here.
"""

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self, cast

from tests.e2e.farm import until
from websockets.sync.client import connect

ANSWER_S = 30.0
SOUGHT = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless=new",
    "--remote-debugging-port=0",
    "--remote-allow-origins=*",
    "--no-first-run",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--hide-scrollbars",
)


def find_chromium() -> str | None:
    return next((path for name in SOUGHT if (path := shutil.which(name))), None)


class PageError(Exception):
    """The page's script raised, or Chromium refused a command."""


class Browser:
    """One tab. `errors` has what its scripts raised or the page's policy blocked."""

    def __init__(self, folder: Path) -> None:
        self.errors: list[str] = []
        self._number = 0
        self._session = ""
        with ExitStack() as stack:
            self._start(folder, stack)
            port_file = folder / "profile" / "DevToolsActivePort"
            until(
                lambda: port_file.exists() and port_file.read_text().count("\n") >= 1,
                what="Chromium listens",
            )
            port, path = port_file.read_text().splitlines()[:2]
            url = f"ws://127.0.0.1:{port}{path}"
            self._socket = stack.enter_context(connect(url, max_size=None, compression=None))
            target = self._call("Target.createTarget", url="about:blank")["targetId"]
            attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
            self._session = str(attached["sessionId"])
            for domain in ("Page", "Runtime", "Log"):
                self._call(f"{domain}.enable")
            self._stack = stack.pop_all()

    @staticmethod
    def _start(folder: Path, stack: ExitStack) -> None:
        program = find_chromium()
        assert program is not None, "looked for by the fixture"
        # Root may not use Chromium's sandbox; the page is ours.
        flags = (*FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else []))
        log = stack.enter_context((folder / "chromium.log").open("wb"))
        process = subprocess.Popen(
            [program, *flags, f"--user-data-dir={folder / 'profile'}", "about:blank"],
            stdout=log,
            stderr=log,
        )
        stack.callback(process.wait)
        stack.callback(process.kill)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _call(self, method: str, **parameters: object) -> Mapping[str, object]:
        self._number += 1
        command: dict[str, object] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            command["sessionId"] = self._session
        self._socket.send(json.dumps(command))
        deadline = time.monotonic() + ANSWER_S
        while True:
            message = json.loads(self._socket.recv(deadline - time.monotonic()))
            self._note(message)
            if message.get("id") == self._number:
                if "error" in message:
                    raise PageError(f"{method}: {message['error']}")
                return cast("Mapping[str, object]", message["result"])

    def _note(self, message: Mapping[str, object]) -> None:
        parameters = cast("dict[str, object]", message.get("params") or {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(parameters["exceptionDetails"])[:2000])
        elif message.get("method") == "Log.entryAdded":
            entry = cast("dict[str, object]", parameters["entry"])
            # What the server refuses is an answer that the page shows, not a fault of the page.
            if entry["level"] == "error" and entry["source"] != "network":
                self.errors.append(str(entry["text"]))

    def open(self, url: str) -> None:
        self._call("Page.navigate", url=url)

    def save_to(self, folder: Path) -> None:
        """Let the page save files, there and without asking."""
        self._call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(folder))

    def run(self, script: str) -> object:
        """Evaluate an expression in the page; a promise is awaited."""
        answer = self._call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            raise PageError(json.dumps(answer["exceptionDetails"])[:2000])
        result = cast("Mapping[str, object]", answer["result"])
        return result.get("value")

    def text(self, selector: str = "body") -> str:
        """The visible text of an element; empty if it is not there."""
        return str(self.run(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    def click(self, selector: str, text: str = "") -> None:
        """Click the first element like this that has this text."""
        found = self.run(
            f"(() => {{ const each = [...document.querySelectorAll({json.dumps(selector)})]"
            f".find((one) => one.textContent.includes({json.dumps(text)}));"
            " each?.click(); return Boolean(each); })()"
        )
        assert found, f"the page has no {selector} with {text!r}: {self.text()[:2000]}"

    def press(self, key: str, code: int, *, text: str = "", shift: bool = False) -> None:
        """Press a key, as a keyboard would."""
        for kind in ("keyDown", "keyUp"):
            self._call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=code,
                modifiers=8 if shift else 0,
                **({"text": text} if text and kind == "keyDown" else {}),
            )

    def accept_dialogs(self) -> None:
        """Answer yes to what the page asks."""
        self.run("window.confirm = () => true")

    def resize(self, width: int, height: int = 900, *, is_dark: bool = False) -> None:
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, path: Path) -> None:
        shot = self._call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(str(shot["data"])))
