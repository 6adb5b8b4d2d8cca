"""A figure as files: SVG, PNG and PDF with the CSV that it was drawn from; one whose data are as before is kept."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from reports.blocks.parallel import spread
from reports.blocks.style import FIGURE

MANIFEST = "figures.json"
ENDINGS = ("svg", "png", "pdf")
MANY = 12  # figures: worth processes


@dataclass
class Drawing:
    """A figure with its caption, the words for those who cannot see it, and the data it is drawn from, drawn late.

    What `draw` shows must follow from the other fields and from the code: what is unchanged in them is not drawn again.
    """

    slug: str
    caption: str
    description: str
    csv: str
    draw: Callable[[], Figure]
    photographic: bool = False  # of pixels more than of lines
    drawn: Mapping[str, bytes] | None = field(default=None, init=False, compare=False, repr=False)  # by ending

    @property
    def pictures(self) -> Mapping[str, bytes]:
        """The figure by ending."""
        if self.drawn is None:
            with matplotlib.rc_context(FIGURE):
                self.drawn = save(self.draw())
        return self.drawn

    @property
    def svg(self) -> str:
        """The figure as SVG."""
        return self.pictures["svg"].decode()

    @property
    def files(self) -> dict[str, str | bytes]:
        """By name."""
        return {f"{self.slug}.csv": self.csv, **{f"{self.slug}.{e}": self.pictures[e] for e in ENDINGS}}

    @property
    def key(self) -> str:
        """Digest of all that the figure follows from."""
        return digest(json.dumps([self.slug, self.caption, self.description, self.csv, code()]).encode())


def keep(drawings: Iterable[Drawing], folder: Path) -> None:
    """Take the pictures of unchanged figures from a folder where they were written, if they are as they were then."""
    path = folder / MANIFEST
    try:
        known = json.loads(path.read_bytes()) if path.exists() else {}
    except ValueError:
        return
    for drawing in drawings:
        written = known.get(drawing.slug, {})
        if written.get("key") != drawing.key:
            continue
        paths = {ending: folder / f"{drawing.slug}.{ending}" for ending in ENDINGS}
        found = {ending: path.read_bytes() for ending, path in paths.items() if path.is_file()}
        if all(digest(found.get(ending, b"")) == written.get(ending) for ending in ENDINGS):
            drawing.drawn = found


def draw(drawings: Iterable[Drawing]) -> None:
    """Draw what is not drawn yet: many figures in processes, for matplotlib takes half a second for each."""
    waiting = [drawing for drawing in drawings if drawing.drawn is None]
    made = spread(lambda place: waiting[place].pictures, len(waiting), MANY)
    for drawing, pictures in zip(waiting, made, strict=True):
        drawing.drawn = pictures


def manifest(drawings: Iterable[Drawing]) -> str:
    """What `keep` reads: by figure the digests of what it follows from and of its files."""
    found = {
        drawing.slug: {"key": drawing.key, **{ending: digest(drawing.pictures[ending]) for ending in ENDINGS}}
        for drawing in drawings
    }
    return json.dumps(found, indent=1, sort_keys=True) + "\n"


def save(figure: Figure) -> dict[str, bytes]:
    """The figure as SVG, PNG and PDF: the same bytes at any time."""
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # laid out once, not for every format
    svg, png, pdf = io.BytesIO(), io.BytesIO(), io.BytesIO()
    nothing: Mapping[str, None] = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(svg, format="svg", metadata=nothing)
    figure.savefig(png, format="png", dpi=160, metadata={"Software": None})
    figure.savefig(pdf, format="pdf", metadata=dict.fromkeys(("Creator", "Producer", "CreationDate")))
    return {"svg": svg.getvalue(), "png": png.getvalue(), "pdf": pdf.getvalue()}


@cache
def code() -> str:
    """Digest of all that draws, and of the version of matplotlib."""
    parts = [path.read_bytes() for path in sorted(Path(__file__).parents[1].rglob("*.py"))]
    return digest(b"".join([matplotlib.__version__.encode(), *parts]))


def digest(content: bytes) -> str:
    """Sixteen hexadecimal digits of the SHA-256."""
    return hashlib.sha256(content).hexdigest()[:16]
