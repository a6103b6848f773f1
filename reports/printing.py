"""The page as a PDF, printed by a browser that is installed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from tpubench.errors import RunFailedError, UsageError

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_SECONDS = 120


def pdf(html: str) -> bytes:
    """The page ``html`` printed without a header and footer.

    UsageError where no browser is installed; RunFailedError where it printed nothing.
    """
    browser = next((path for name in _BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        raise UsageError(
            "--format pdf needs Chromium: install it, or open the page and print it to a file"
        )
    with tempfile.TemporaryDirectory() as folder:
        page, out = Path(folder) / "report.html", Path(folder) / "report.pdf"
        page.write_text(html, encoding="utf-8")
        command = [
            browser,
            "--headless=new",
            # The page is this suite's own and loads nothing; as root Chromium starts only so.
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--no-pdf-header-footer",
            f"--user-data-dir={folder}/profile",
            f"--print-to-pdf={out}",
            page.as_uri(),
        ]
        try:
            done = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise RunFailedError(f"{browser} printed nothing in {_SECONDS} s") from None
        if done.returncode or not out.is_file():
            raise RunFailedError(f"{browser} could not print the page (exit {done.returncode})")
        return out.read_bytes()
