"""Real Chromium, and what a person does in it. Every request, console message and error of a page is kept."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
SERIOUS = ("serious", "critical")
Theme = Literal["light", "dark"]
WIDTHS = (1280, 390)
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


expect.set_options(timeout=60_000)  # milliseconds; a busy machine takes longer than the library waits


@contextmanager
def chromium() -> Iterator[Browser]:
    """The Chromium of this machine; Debian's package ``chromium`` has it."""
    found = shutil.which("chromium")
    assert found, "install Debian's package chromium"
    without_proxy: dict[str, str | float | bool] = {k: v for k, v in os.environ.items() if k not in PROXIES}
    with tempfile.TemporaryDirectory(prefix="chromium-") as home, sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=found, args=list(FLAGS), env=without_proxy | {"HOME": home, "XDG_CONFIG_HOME": home}
        )
        try:
            yield launched
        finally:
            launched.close()


@dataclass
class Tab:
    """One tab of one reader: ``requests`` are the URLs it asked for, ``complaints`` console errors and exceptions."""

    page: Page
    home: str
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def open(self, path: str) -> Page:
        """The page at ``path``, once it is loaded."""
        self.page.goto(self.home + path, wait_until="load")
        return self.page

    def sign_in(self, token: str, to: str = "/") -> None:
        """Sign in by the form, as a person would; ends on ``to``."""
        self.open(to)
        self.page.get_by_label("Token").fill(token)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.wait_for_url(self.home + to)

    def theme(self, theme: Theme, width: int = 1280, height: int = 900) -> None:
        """Prefer a theme, in a window of that width."""
        self.page.emulate_media(color_scheme=theme)
        self.page.set_viewport_size({"width": width, "height": height})

    @property
    def strangers(self) -> list[str]:
        """Requests that left for another host than the server's."""
        own = urlsplit(self.home).netloc
        return [url for url in self.requests if urlsplit(url).scheme != "data" and urlsplit(url).netloc != own]

    def findings(self) -> list[str]:
        """What axe-core finds serious or critical on the page, one line for each rule and element."""
        rules: list[dict[str, Any]] = Axe().run(self.page).response["violations"]
        return [
            f"{rule['id']}: {node['html'][:160]} {node['failureSummary'][:200]}"
            for rule in rules
            if rule["impact"] in SERIOUS
            for node in rule["nodes"]
        ]

    def overflow(self) -> int:
        """By how many pixels the page is wider than its window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    def first_paint(self) -> float:
        """Milliseconds from the navigation to the first contentful paint."""
        script = """() => new Promise(done => new PerformanceObserver(list => {
            const found = list.getEntriesByName("first-contentful-paint")[0];
            if (found) done(found.startTime);
        }).observe({ type: "paint", buffered: true }))"""
        return float(self.page.evaluate(script))


@contextmanager
def tab(browser: Browser, home: str, *, script: bool = True) -> Iterator[Tab]:
    """A fresh reader of the server at ``home``: no cookie and nothing cached. ``script``: whether scripts run."""
    context = browser.new_context(java_script_enabled=script, viewport={"width": 1280, "height": 900})
    opened = Tab(context.new_page(), home)

    def note(request: Request) -> None:
        opened.requests.append(request.url)

    def heard(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            opened.complaints.append(message.text)

    context.on("request", note)
    context.on("console", heard)
    opened.page.on("pageerror", lambda error: opened.complaints.append(str(error)))
    try:
        yield opened
    finally:
        context.close()
