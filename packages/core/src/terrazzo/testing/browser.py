"""Headless Chromium for tests and benchmarks, spoken to by plain HTTP (W3C WebDriver).

Needs Chromium and its driver (Debian: ``apt-get install chromium chromium-driver``).
"""

from __future__ import annotations

import base64
import io
import json
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@contextmanager
def driver() -> Iterator[int]:
    """Run chromedriver; yields its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number: int = free.getsockname()[1]
    process = subprocess.Popen(  # noqa: S603 - a fixed command
        ["chromedriver", f"--port={number}"],  # noqa: S607 - wherever it is installed
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(100):
            with socket.socket() as reached:
                if reached.connect_ex(("127.0.0.1", number)) == 0:
                    break
            time.sleep(0.1)
        yield number
    finally:
        process.terminate()
        process.wait()


class Browser:
    """One window.

    Args:
        port: of the driver.
        dark: whether the person prefers dark pages.
        telephone: width and height of the screen of a telephone; a window of a computer without.
    """

    def __init__(
        self, port: int, *, dark: bool = False, telephone: tuple[int, int] | None = None
    ) -> None:
        self._address = f"http://127.0.0.1:{port}"
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,1000"]
        if dark:
            flags.append("--blink-settings=preferredColorScheme=0")
        options: dict[str, Any] = {"args": flags}
        if telephone:
            width, height = telephone
            screen = {"width": width, "height": height, "pixelRatio": 1.0}
            options["mobileEmulation"] = {"deviceMetrics": screen}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        answer = self._call("/session", {"capabilities": {"alwaysMatch": wanted}})
        self._address += f"/session/{answer['sessionId']}"

    def _call(
        self, path: str, body: dict[str, Any] | None = None, method: str | None = None
    ) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._address + path, data, method=method)  # noqa: S310
        with urllib.request.urlopen(request, timeout=120) as response:  # noqa: S310 - this machine
            return json.load(response)["value"]

    def open(self, page: Path | str) -> None:
        """Load a page, by its file or its address, and wait until it is there."""
        url = page if isinstance(page, str) else page.resolve().as_uri()
        self._call("/url", {"url": url})

    def script(self, code: str) -> Any:
        """Run JavaScript; returns what it returns."""
        return self._call("/execute/sync", {"script": code, "args": []})

    def press(self, selector: str, keys: str) -> None:
        """Type into the first element of a CSS selector."""
        found = self._call("/element", {"using": "css selector", "value": selector})
        self._call(f"/element/{next(iter(found.values()))}/value", {"text": keys})

    def screenshot(self) -> NDArray[np.uint8]:
        """Return what the window shows, H×W×3."""
        png = base64.b64decode(self._call("/screenshot"))
        return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))

    def close(self) -> list[dict[str, Any]]:
        """Close the window; returns what its console has said."""
        said: list[dict[str, Any]] = self._call("/se/log", {"type": "browser"})
        self._call("", method="DELETE")
        return said
