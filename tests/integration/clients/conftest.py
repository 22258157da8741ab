"""The system as `qzoom serve` runs it, with the built-in model, and a browser to look at it."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

# `qzoom serve`, with more patience for a busy machine.
SERVE = """
import signal, sys
from cli.system import running_system
from deploy.config import AppConfig
from deploy.local import LocalConfig
from qzoom.builtin import builtin_model

port, grpc_port, patience_s = sys.argv[1:]
config = LocalConfig(
    AppConfig(model=builtin_model()),
    port=int(port),
    grpc_port=int(grpc_port),
    start_timeout_s=float(patience_s),
)
try:
    with running_system(config) as system:
        print(system.model, "is served", flush=True)
        signal.pause()
except KeyboardInterrupt:
    pass
"""
START_TIMEOUT_S = 500.0
STOP_TIMEOUT_S = 60.0
ASSETS = Path(__file__).parents[3] / "gateway" / "web" / "assets"
SMALL_PRINT = next(
    example
    for example in json.loads((ASSETS / "examples.json").read_text(encoding="utf-8"))
    if example["hint"] == "small print"
)


@dataclass(frozen=True)
class Served:
    """A running system of two gateways.

    Attributes:
        url: Base URL of REST.
        grpc_target: Target of a gRPC channel.
        model: Name of the model.
    """

    url: str
    grpc_target: str
    model: str

    def get(self, path):
        """Fetch a JSON document."""
        return httpx.get(self.url + path, timeout=30).raise_for_status().json()

    def settled(self, patience_s=60.0):
        """Fetch the figures since the start, once gateways, which report every second, agree."""
        end = time.monotonic() + patience_s
        stats = self.get("/v1/stats?window=0")
        while time.monotonic() < end:
            time.sleep(2.5)
            before, stats = stats, self.get("/v1/stats?window=0")
            if before["requests"] == stats["requests"]:
                break
        return stats

    def trace(self, key, patience_s=60.0):
        """Fetch a waterfall, as soon as the gateway that answered has reported it to the other."""
        end = time.monotonic() + patience_s
        while True:
            reply = httpx.get(f"{self.url}/v1/traces/{key}", timeout=30)
            if reply.status_code != 404 or time.monotonic() > end:
                return reply.raise_for_status().json()
            time.sleep(0.1)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture(scope="package")
def served() -> Iterator[Served]:
    """Start the system once for all tests of this folder."""
    port, grpc_port = free_port(), free_port()
    # Ray's sockets lie below it, at most 107 characters long.
    with tempfile.TemporaryDirectory(prefix="q") as folder:
        output = Path(folder) / "output"
        with output.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-c", SERVE, str(port), str(grpc_port), str(START_TIMEOUT_S)],
                env={**os.environ, "TMPDIR": folder, "QZOOM_GATEWAY_REPLICAS": "2"},
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        try:
            while "is served" not in output.read_text():
                assert process.poll() is None, output.read_text()
                time.sleep(0.5)
            url = f"http://127.0.0.1:{port}"
            [model] = httpx.get(f"{url}/v1/models", timeout=30).json()["data"]
            yield Served(url, f"127.0.0.1:{grpc_port}", model["id"])
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(STOP_TIMEOUT_S)


@pytest.fixture(scope="session")
def example_picture() -> Path:
    """A picture with small print in it: one of the playground's."""
    return ASSETS / SMALL_PRINT["file"]


@pytest.fixture(scope="package")
def browser():
    """A real Chromium without a window."""
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no chromium and chromedriver; scripts/system-packages.sh installs them")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with tempfile.TemporaryDirectory(prefix="chromium", ignore_cleanup_errors=True) as profile:
        for argument in (
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1360,1000",
            f"--user-data-dir={profile}",
        ):
            options.add_argument(argument)
        chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        chrome.set_page_load_timeout(60)
        yield chrome
        chrome.quit()


class Page:
    """One of the pages in the browser.

    Attributes:
        small_print: A question about `example_picture` that needs a closer look.
    """

    small_print = SMALL_PRINT["question"]

    def __init__(self, browser, url, path="/"):
        self.browser, self.url = browser, url
        self.emulate()
        browser.get(url + path)
        browser.get_log("browser"), browser.get_log("performance")
        self.wait(lambda: self.text("health").endswith("is ready"))

    def emulate(self, *, dark=False, width=None):
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        if width:
            screen = {"width": width, "height": 800, "deviceScaleFactor": 2, "mobile": True}
            self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        else:
            self.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

    def script(self, code, *args):
        return self.browser.execute_script(code, *args)

    def find(self, selector):
        return self.browser.find_element("css selector", selector)

    def all(self, selector):
        return self.browser.find_elements("css selector", selector)

    def text(self, name):
        return self.script("return document.getElementById(arguments[0]).textContent", name)

    def wait(self, is_there, patience_s=60.0):
        """Look again until it is there; returns what was found."""
        end = time.monotonic() + patience_s
        while not (found := is_there()):
            problem = self.text("problem")
            assert time.monotonic() < end, f"{problem}; {self.browser.get_log('browser')}"
            time.sleep(0.05)
        return found

    def choose(self, file):
        """Hand a file to the page as the file chooser does."""
        self.find("#file").send_keys(str(file))
        self.wait(lambda: file.name in self.text("picture-name") or self.text("problem"))

    def ask(self, question=None, route=None):
        """Ask and wait for the end; returns what the page says as the answer."""
        if question is not None:
            field = self.find("#question")
            field.clear()
            field.send_keys(question)
        if route is not None:
            self.find(f"input[value={route}]").send_keys(" ")
        before = len(self.all("#recent li"))
        self.find("#ask").click()
        self.wait(lambda: len(self.all("#recent li")) > min(before, 19) and self.idle())
        return self.text("answer")

    def idle(self):
        return self.find("#answer-card").get_attribute("aria-busy") == "false"

    def trace(self):
        """Give the trace of the newest request, as the page names it."""
        return self.text("times").rpartition("trace ")[2].strip()

    def complaints(self):
        """Errors and violations of the policy that the browser wrote into its console.

        The page asks for a trace until its gateway has told it: not found is no complaint.
        """
        log = self.browser.get_log("browser")
        lines = [line["message"] for line in log if line["level"] in {"SEVERE", "WARNING"}]
        return [line for line in lines if "/v1/traces/" not in line or "404" not in line]


@pytest.fixture
def open_page(served, browser):
    """Open a page: `open_page("/dashboard")`."""

    def open_at(path="/"):
        return Page(browser, served.url, path)

    return open_at
