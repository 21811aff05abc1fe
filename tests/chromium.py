"""A page in headless Chromium with mouse and keyboard, controlled by its debugging protocol over two pipes."""

import base64
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless",
    "--disable-gpu",
    "--no-sandbox",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
CENTRE = (
    "(e => {e.scrollIntoView({block: 'center'}); const b = e.getBoundingClientRect(); return [b.x + %s, b.y + %s]})"
)


def chromium() -> str:
    """The path of Chromium; if there is none, the calling test is skipped."""
    found = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is None:
        pytest.skip("needs Chromium, to click in a page")
    return found


class Page:
    """An open page."""

    def __init__(self, sent: int, heard: int) -> None:
        self._sent, self._heard = sent, os.fdopen(heard, "rb")
        self._count, self._session = 0, ""
        self.errors: list[str] = []  # exceptions of the page's scripts

    def open(self, path: Path, *, width: int = 1400, height: int = 900) -> None:
        """Load a file, and wait until it is there."""
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime"):
            self._ask(f"{domain}.enable")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._ask("Emulation.setDeviceMetricsOverride", **size)
        self._ask("Page.navigate", url=path.resolve().as_uri())
        while self._next().get("method") != "Page.loadEventFired":
            pass

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        answer = self._ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def click(self, element: str) -> None:
        """Click with the left button on the middle of an element, given as a JavaScript expression."""
        x, y = self.point(element)
        for kind in ("mousePressed", "mouseReleased"):
            self._ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def point(self, element: str, x: str = "b.width / 2", y: str = "b.height / 2") -> tuple[float, float]:
        """Move the pointer to a place in an element, by default its middle; returns the position in the window."""
        place = self.value(f"{CENTRE % (x, y)}({element})")
        self._ask("Input.dispatchMouseEvent", type="mouseMoved", x=place[0], y=place[1])
        return place[0], place[1]

    def type(self, text: str) -> None:
        """Type a text into the element that has the focus."""
        self._ask("Input.insertText", text=text)

    def screenshot(self, path: Path) -> None:
        """Save the window's content as a PNG file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(self._ask("Page.captureScreenshot", format="png")["data"]))

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._sent, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._count:
            pass
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def _next(self) -> dict[str, Any]:
        message = bytearray()
        while (byte := self._heard.read(1)) != b"\0":
            assert byte, "Chromium has ended"
            message += byte
        content = json.loads(message)
        if content.get("method") == "Runtime.exceptionThrown":
            self.errors.append(content["params"]["exceptionDetails"]["exception"]["description"])
        return content


@contextmanager
def browser() -> Iterator[Page]:
    """A page in a new Chromium; fails at the end if a script of the page has raised an exception."""
    program = chromium()
    (theirs_in, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory() as profile:
        shell = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
        command = ["bash", "-c", shell, "bash", program, *FLAGS, f"--user-data-dir={profile}"]
        process = subprocess.Popen(
            command, pass_fds=(theirs_in, theirs_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(theirs_in)
        os.close(theirs_out)
        page = Page(ours_out, ours_in)
        try:
            yield page
            assert not page.errors, page.errors
        finally:
            os.close(ours_out)  # then Chromium exits
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            page._heard.close()
