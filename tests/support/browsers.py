"""Pages opened in a browser as a user opens them, from disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PATIENCE_MS = 120_000
# Width and height in pixels, and the colours that the user prefers.
Screen = tuple[int, int, Literal["dark", "light"]]
LOCAL = ("file:", "data:", "blob:")


@contextmanager
def opened(browser: Browser, report: Path, screen: Screen) -> Iterator[Page]:
    """Open a page; the test fails if anything was asked of a network, or any error was logged."""
    width, height, scheme = screen
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    asked, errors = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(report.as_uri())
    yield page
    context.close()
    assert not [url for url in asked if not url.startswith(LOCAL)]
    assert errors == []
