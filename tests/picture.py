"""`make picture`: the README's picture of the report's first page, and a digest of the answer that it shows.

Needs Chromium, and `python -m reports.build` before it. tests/test_readme.py tells when the picture is out of date.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from browser import chromium
from tour import answer

from reports.blocks.figure import digest

REPORTS = Path(__file__).resolve().parents[1] / "reports"
WIDTH, HEIGHT = 1280, 780


def shown() -> str:
    """A digest of today's answer."""
    return digest(answer().encode())


def main() -> None:
    """Take the picture."""
    with tempfile.TemporaryDirectory() as folder, chromium(Path(folder)) as browser:
        browser.media()
        browser.call("Emulation.setScrollbarsHidden", hidden=True)
        browser.open(REPORTS / "out" / "index.html", WIDTH, HEIGHT)
        browser.screenshot(REPORTS / "page.png")
    (REPORTS / "page.json").write_text(json.dumps({"answer": shown()}) + "\n")


if __name__ == "__main__":
    main()
