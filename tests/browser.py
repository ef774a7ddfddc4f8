"""A real browser without a window, for the tests of pages; skipped where there is none."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def chromium() -> Iterator[Any]:
    """One browser; `make browser` installs it."""
    reason = "needs playwright, which 'puriflow[dev]' brings"
    playwright = pytest.importorskip("playwright.sync_api", reason=reason)
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no Chromium is here: `make browser` installs it by apt")
    arguments = ["--headless=new", "--no-sandbox"]
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=found, args=arguments)
        yield started
        started.close()


@contextmanager
def opened(
    browser: Any, address: str, width: int = 1280, height: int = 900, forgiven: str | None = None
) -> Iterator[Any]:
    """A page, which must leave no error on the console and ask nobody but its own place.

    `forgiven` is what a library says there of itself.
    """
    page = browser.new_page(viewport={"width": width, "height": height})
    said, asked = [], []
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    yield page
    page.close()
    wrong = [line for line in said if line.startswith(("error", "warning"))]
    wrong = [line for line in wrong if line != forgiven]
    own = (address.rpartition("/")[0], "data:", "blob:")
    wrong += [f"asked {url}" for url in asked if not url.startswith(own)]
    assert not wrong, wrong


def violations(page: Any) -> list[str]:
    """What axe finds of WCAG A and AA, one line each."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe")
    options = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}
    found = axe.Axe().run(page, options=options).response["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html'][:120]}" for one in found]
