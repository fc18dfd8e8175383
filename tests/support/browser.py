"""A headless Chromium driven over its debugging pipe: open a page, press keys, evaluate, take a picture of it.

Chromium reads commands from file descriptor 3 and answers on 4, JSON parted by NUL bytes, so that no port is open and
no package is needed. What the page logs as an error, and what it throws, is gathered in `Page.errors`.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, Queue
from typing import Any

NAMES = ("chromium", "google-chrome", "chrome", "chromium-browser")
KEYS = {
    "Enter": ("Enter", 13, "\r"), "Escape": ("Escape", 27, ""), "Tab": ("Tab", 9, ""), " ": ("Space", 32, " "),
    "ArrowLeft": ("ArrowLeft", 37, ""), "ArrowRight": ("ArrowRight", 39, ""),
    "ArrowUp": ("ArrowUp", 38, ""), "ArrowDown": ("ArrowDown", 40, ""),
}  # fmt: skip


def path_of_browser() -> str | None:
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Page:
    """One tab; `width` and `height` in CSS pixels are the picture's, however narrow."""

    def __init__(self, process: subprocess.Popen[bytes], to: int, back: int) -> None:
        self.errors: list[str] = []
        self._process, self._to = process, to
        self._answers: Queue[dict[str, Any]] = Queue()
        self._id, self._session = 0, ""
        self._back = back
        threading.Thread(target=self._read, daemon=True).start()
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def _read(self) -> None:
        rest = b""
        while block := os.read(self._back, 1 << 16):
            *whole, rest = (rest + block).split(b"\0")
            for text in whole:
                said = json.loads(text)
                if "id" in said:
                    self._answers.put(said)
                else:
                    self._note(said["method"], said.get("params", {}))

    def _note(self, method: str, said: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            details = said["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Runtime.consoleAPICalled" and said["type"] in ("error", "warning", "assert"):
            self.errors.append(" ".join(str(a.get("value", a.get("description"))) for a in said["args"]))
        elif method == "Log.entryAdded" and said["entry"]["level"] == "error":
            self.errors.append(f"{said['entry']['text']} {said['entry'].get('url', '')}")

    def call(self, method: str, timeout_s: float = 60, **params: Any) -> dict[str, Any]:
        """Send one command and return its result."""
        self._id += 1
        said = {"id": self._id, "method": method, "params": params}
        if self._session:
            said["sessionId"] = self._session
        os.write(self._to, json.dumps(said).encode() + b"\0")
        while True:
            try:
                answer = self._answers.get(timeout=timeout_s)
            except Empty:
                raise TimeoutError(f"no answer to {method} in {timeout_s} s") from None
            if answer["id"] == self._id:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                result: dict[str, Any] = answer["result"]
                return result

    def size(self, width: int, height: int) -> None:
        mobile = width < 600
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)

    def open(self, url: str) -> None:
        answer = self.call("Page.navigate", url=url)
        if answer.get("errorText"):
            raise RuntimeError(f"{url}: {answer['errorText']}")
        self.until("document.readyState === 'complete'")

    def eval(self, script: str) -> Any:
        """Return the value of an expression, awaited where it is a promise."""
        said = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True)
        if "exceptionDetails" in said:
            raise RuntimeError(said["exceptionDetails"].get("exception", {}).get("description", str(said)))
        return said["result"].get("value")

    def until(self, script: str, timeout_s: float = 30) -> Any:
        """Wait until an expression is true and return its value."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            with contextlib.suppress(RuntimeError):  # the page is being replaced
                if value := self.eval(script):
                    return value
            time.sleep(0.05)
        raise TimeoutError(f"never true: {script}; errors: {self.errors}; text: {self.eval('document.body.innerText')}")

    def press(self, *keys: str) -> None:
        for key in keys:
            code, number, text = KEYS.get(key, (f"Key{key.upper()}", ord(key.upper()[0]), key))
            at = {"key": key, "code": code, "windowsVirtualKeyCode": number}
            self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **at)
            self.call("Input.dispatchKeyEvent", type="keyUp", **at)

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def click(self, selector: str) -> None:
        self.until(f"!!document.querySelector({json.dumps(selector)})")
        self.eval(f"document.querySelector({json.dumps(selector)}).click()")

    def drag(self, what: str, to: str) -> None:
        """Drag the middle of an element to an x; `to` is an expression over its parent's rectangle `s`."""
        x0, y, x1 = self.eval(
            f"(() => {{ const n = {what}, r = n.getBoundingClientRect(), s = n.parentNode.getBoundingClientRect();"
            f"return [r.left + r.width / 2, r.top + r.height / 2, {to}] }})()"
        )
        at = {"y": y, "button": "left", "clickCount": 1}
        self.call("Input.dispatchMouseEvent", type="mousePressed", x=x0, **at)
        for share in (0.5, 1.0):
            self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x0 + share * (x1 - x0), **at)
        self.call("Input.dispatchMouseEvent", type="mouseReleased", x=x1, **at)

    def picture(self, file: Path) -> None:
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))


_PLACED = """
import fcntl, os, sys
pipes = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 10) for fd in sys.argv[1:3]]
for fd, place in zip(pipes, (3, 4)):
    os.dup2(fd, place)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""What puts the pipes where Chromium looks for them, and becomes it."""


@contextlib.contextmanager
def browser(profile: Path, *flags: str) -> Iterator[Page]:
    """Start Chromium with a profile of its own and give its one page."""
    found = path_of_browser()
    assert found is not None
    commands, to = os.pipe()
    back, answers = os.pipe()
    command = [
        found, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--mute-audio", "--autoplay-policy=no-user-gesture-required",
        "--remote-debugging-pipe", "--hide-scrollbars", f"--user-data-dir={profile}", *flags, "about:blank",
    ]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-c", _PLACED, str(commands), str(answers), *command], pass_fds=(commands, answers),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(commands)
    os.close(answers)
    try:
        yield Page(process, to, back)
    finally:
        process.kill()
        process.wait()
        os.close(to)
        os.close(back)
