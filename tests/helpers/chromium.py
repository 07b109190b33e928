"""A small driver of headless Chromium: the DevTools protocol over two pipes, nothing to install.

with Browser(folder) as browser:
    page = browser.open(path)
    page.evaluate("document.title")
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

PROGRAM = next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None)
PATIENCE_S = 60.0
ARGUMENTS = (
    "--headless=new", "--no-sandbox", "--remote-debugging-pipe", "--disable-gpu", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
    "--hide-scrollbars", "--mute-audio",
)  # fmt: skip
LOCAL = ("file:", "data:", "about:", "blob:")


class Browser:
    """Chromium with a profile of its own in `folder`; ends with the `with` block."""

    def __init__(self, folder: Path) -> None:
        if PROGRAM is None:
            raise FileNotFoundError("Chromium")
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 50) for fd in (theirs_in, theirs_out)]
        silent = os.open(os.devnull, os.O_RDWR)
        actions = [(os.POSIX_SPAWN_DUP2, silent, n) for n in (0, 1, 2)]
        actions += [(os.POSIX_SPAWN_DUP2, fd, n) for fd, n in zip(high, (3, 4), strict=True)]
        command = [PROGRAM, *ARGUMENTS, f"--user-data-dir={folder / 'profile'}", "about:blank"]
        self.process = os.posix_spawn(PROGRAM, command, dict(os.environ), file_actions=actions, setpgroup=0)
        for fd in (theirs_in, theirs_out, silent, *high):
            os.close(fd)
        self.sink, self.source = os.fdopen(ours_out, "wb"), os.fdopen(ours_in, "rb")
        os.set_blocking(self.source.fileno(), False)
        self.pending = b""
        self.count = 0
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.killpg(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)
        self.sink.close()
        self.source.close()

    def send(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """The answer to one command; events that come before it are kept."""
        self.count += 1
        message: dict[str, Any] = {"id": self.count, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        self.sink.write(json.dumps(message).encode() + b"\0")
        self.sink.flush()
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            for answer in self._messages():
                if answer.get("id") == self.count:
                    if "error" in answer:
                        raise RuntimeError(f"{method}: {answer['error']['message']}")
                    result: dict[str, Any] = answer["result"]
                    return result
        raise TimeoutError(method)

    def poll(self) -> None:
        """Take in what has happened since."""
        self._messages()

    def _messages(self) -> list[dict[str, Any]]:
        """Answers that have come; events go to the list."""
        data = self.source.read()
        if not data:
            time.sleep(0.005)
            return []
        *whole, self.pending = (self.pending + data).split(b"\0")
        messages = [json.loads(text) for text in whole]
        self.events += [m for m in messages if "id" not in m]
        return [m for m in messages if "id" in m]

    def open(
        self,
        path: Path | str,
        *,
        width: int = 1280,
        height: int = 900,
        ratio: float = 1,
        script: bool = True,
        before: str = "",
    ) -> Page:
        """A page from a file or an address, in a window of this size; `before` runs before its script."""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.send(f"{domain}.enable")
        page.send("Emulation.setScriptExecutionDisabled", value=not script)
        page.resize(width, height, ratio)
        page.send("Page.addScriptToEvaluateOnNewDocument", source=before)
        page.send("Page.navigate", url=path if isinstance(path, str) else path.resolve().as_uri())
        page.wait(lambda: any(e["method"] == "Page.loadEventFired" for e in page.events()))
        return page


class Page:
    """One tab."""

    def __init__(self, browser: Browser, session: str) -> None:
        self.browser, self.session = browser, session

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        return self.browser.send(method, self.session, **params)

    def events(self) -> list[dict[str, Any]]:
        self.browser.poll()
        return [e for e in self.browser.events if e.get("sessionId") == self.session]

    def wait(self, done: Callable[[], bool], what: str = "the page") -> None:
        until = time.monotonic() + PATIENCE_S
        while not done():
            if time.monotonic() > until:
                raise TimeoutError(f"{what}; {self.complaints()}")
            time.sleep(0.02)

    def evaluate(self, expression: str) -> Any:
        """The value of an expression of the page's language, awaited."""
        answer = self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"].get("exception", {}).get("description", "a fault"))
        return answer["result"].get("value")

    def settle(self) -> None:
        """Until two frames have been painted."""
        self.evaluate("new Promise(r => requestAnimationFrame(() => requestAnimationFrame(() => r(1))))")

    def resize(self, width: int, height: int, ratio: float = 1) -> None:
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=ratio,
            mobile=False,
        )

    def complaints(self) -> list[str]:
        """Errors and warnings of the console, refusals of the policy, faults of the script."""
        said = []
        for event in self.events():
            params = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                said.append(params["exceptionDetails"]["text"])
            elif event["method"] == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                said.append(params["entry"]["text"])
            elif event["method"] == "Runtime.consoleAPICalled" and params["type"] in (
                "error",
                "warning",
                "assert",
            ):
                said.append(str([a.get("value", a.get("description")) for a in params["args"]]))
        return said

    def requests(self) -> list[str]:
        """Addresses asked for, the page's own file among them."""
        urls = [e["params"] for e in self.events() if e["method"] == "Network.requestWillBeSent"]
        return [u["request"]["url"] for u in urls]

    def requests_outside(self) -> list[str]:
        """Addresses that are neither a file's nor within the page."""
        return [url for url in self.requests() if not url.startswith(LOCAL)]

    def middle(self, selector: str, *, across: float = 0.5, down: float = 0.5) -> tuple[float, float]:
        """A place in an element, scrolled into sight."""
        found = self.evaluate(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            " e.scrollIntoView({block: 'center', behavior: 'instant'}); const b = e.getBoundingClientRect();"
            " return [b.left, b.top, b.width, b.height]; })()"
        )
        left, top, width, height = found
        return left + across * width, top + down * height

    def click(self, selector: str, *, across: float = 0.5, down: float = 0.5) -> None:
        x, y = self.middle(selector, across=across, down=down)
        self._mouse("mouseMoved", x, y)
        self._mouse("mousePressed", x, y, button="left", buttons=1, clickCount=1)
        self._mouse("mouseReleased", x, y, button="left", buttons=0, clickCount=1)
        self.settle()

    def wheel(self, selector: str, by: float, *, across: float = 0.5, down: float = 0.5) -> None:
        """Turn the wheel over an element; positive is towards the user."""
        x, y = self.middle(selector, across=across, down=down)
        self._mouse("mouseMoved", x, y)
        self._mouse("mouseWheel", x, y, deltaX=0, deltaY=by)
        self.settle()

    def press(self, key: str, code: int) -> None:
        for kind in ("rawKeyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)
        self.settle()

    def _mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def screenshot(self, path: Path | None = None, *, whole: bool = True) -> bytes:
        """The page as a PNG."""
        data = base64.b64decode(
            self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        )
        if path is not None:
            path.write_bytes(data)
        return data

    def pdf(self, path: Path) -> None:
        """The page as it prints."""
        answer = self.send("Page.printToPDF", preferCSSPageSize=True, printBackground=False)
        path.write_bytes(base64.b64decode(answer["data"]))
