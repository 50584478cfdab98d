"""A headless Chromium for the tests of the report page, driven through WebDriver."""

import json
import re
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

DRIVER = shutil.which("chromedriver")
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--enable-unsafe-swiftshader",
)

needs_browser = [pytest.mark.slow, pytest.mark.skipif(DRIVER is None, reason="no chromedriver on the path")]

CARD = "return document.querySelector('#card h2').textContent"
ROWS = "return [...document.querySelectorAll('[data-trial]')].map((row) => Number(row.dataset.trial))"


def call(address: str, method: str, body: object = None) -> Any:
    """One WebDriver command."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["value"]


@dataclass(frozen=True)
class Browser:
    """One window. `session`: address of its WebDriver session."""

    session: str

    def open(self, url: str) -> None:
        """Load a page and wait until its script has come to the end."""
        call(f"{self.session}/url", "POST", {"url": url})
        self.wait("document.body.dataset.ready || document.body.dataset.error")

    def run(self, script: str) -> Any:
        """Run a line of script in the page; what it returns."""
        return call(f"{self.session}/execute/sync", "POST", {"script": script, "args": []})

    def run_async(self, body: str) -> Any:
        """Run the body of an asynchronous function in the page; what it returns."""
        script = f"const done = arguments[0]; (async () => {{ {body} }})().then(done)"
        return call(f"{self.session}/execute/async", "POST", {"script": script, "args": []})

    def wait(self, condition: str) -> Any:
        """Wait until a script's expression is true, at most the driver's 30 s; its value."""
        look = f"const done = arguments[0]; const look = () => {{ const value = {condition}; "
        script = look + "value ? done(value) : setTimeout(look, 25) }; look()"
        return call(f"{self.session}/execute/async", "POST", {"script": script, "args": []})

    def command(self, name: str, **parameters: object) -> Any:
        """A command of Chromium's own protocol."""
        return call(f"{self.session}/goog/cdp/execute", "POST", {"cmd": name, "params": parameters})


@contextmanager
def a_browser() -> Iterator[Browser]:
    """A window with a fresh profile; driver and browser end with the context."""
    assert DRIVER is not None
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        subprocess.Popen([DRIVER, "--port=0"], stdout=subprocess.PIPE, text=True) as process,
    ):
        assert process.stdout is not None
        lines = (re.search(r"on port (\d+)", line) for line in process.stdout)
        driver = f"http://127.0.0.1:{next(found[1] for found in lines if found and found[1] != '0')}"
        options = {"args": [*ARGUMENTS, f"--user-data-dir={Path(profile) / 'chromium'}"]}
        capabilities = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}
        session = f"{driver}/session/{call(f'{driver}/session', 'POST', capabilities)['sessionId']}"
        try:
            yield Browser(session)
        finally:
            call(session, "DELETE")
            process.terminate()
