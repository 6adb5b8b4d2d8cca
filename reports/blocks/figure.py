"""A figure as files: SVG, PNG, PDF, WebP, and the CSV that it was drawn from; one whose data are as before is kept."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from reports.blocks.style import FIGURE
from studies.records.parallel import spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MANIFEST = "figures.json"
FORMATS = ("svg", "pdf", "png")
MANY = 1  # figures: worth a process, in which matplotlib is imported while this one goes on


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
    drawn: dict[str, bytes] = field(default_factory=dict, init=False, compare=False, repr=False)  # by ending

    def pictures(self, endings: Iterable[str]) -> Mapping[str, bytes]:
        """The figure by ending; drawn now where it is not yet."""
        wanted = [ending for ending in endings if ending not in self.drawn]
        if wanted:
            from matplotlib import rc_context  # takes a second to import, which most reports need not: nothing changed

            with rc_context(FIGURE):
                self.drawn |= save(self.draw(), wanted)
        return {ending: self.drawn[ending] for ending in endings}

    @property
    def svg(self) -> str:
        """The figure as SVG."""
        return self.pictures(["svg"])["svg"].decode()

    def needs(self, formats: Sequence[str]) -> tuple[str, ...]:
        """The endings that it is drawn as: those asked for, and the pixels of pictures, which stand in the page."""
        return tuple(dict.fromkeys((*formats, *(["webp"] if self.photographic else []))))

    def files(self, formats: Sequence[str]) -> dict[str, str | bytes]:
        """By name."""
        drawn = {f"{self.slug}.{ending}": content for ending, content in self.pictures(self.needs(formats)).items()}
        return {f"{self.slug}.csv": self.csv, **drawn}

    @property
    def key(self) -> str:
        """Digest of all that the figure follows from."""
        return digest(json.dumps([self.slug, self.caption, self.description, self.csv, code()]).encode())


def keep(drawings: Iterable[Drawing], folder: Path, formats: Sequence[str]) -> None:
    """Take the pictures of unchanged figures from a folder where they were written, if they are as they were then."""
    path = folder / MANIFEST
    try:
        known = json.loads(path.read_bytes()) if path.is_file() else {}
    except ValueError:
        return
    for drawing in drawings:
        written = known.get(drawing.slug, {})
        if written.get("key") != drawing.key:
            continue
        for ending in drawing.needs(formats):
            path = folder / f"{drawing.slug}.{ending}"
            if path.is_file() and digest(content := path.read_bytes()) == written.get(ending):
                drawing.drawn[ending] = content


@contextmanager
def being_drawn(drawings: Iterable[Drawing], formats: Sequence[str]) -> Iterator[Callable[[], None]]:
    """Begin to draw what is not drawn yet, in other processes; yields what waits until every figure is there.

    matplotlib takes a second to be there, and a fifth for each. Meanwhile the caller makes what holds no figure.
    """
    waiting = [figure for figure in drawings if not set(figure.needs(formats)) <= set(figure.drawn)]
    with spread(lambda place: waiting[place].pictures(waiting[place].needs(formats)), len(waiting), MANY) as made:

        def wait() -> None:
            for figure, pictures in zip(waiting, made(), strict=True):
                figure.drawn |= pictures

        yield wait


def manifest(drawings: Iterable[Drawing], formats: Sequence[str]) -> str:
    """What `keep` reads: by figure the digests of what it follows from and of its files."""
    found = {
        drawing.slug: {
            "key": drawing.key,
            **{ending: digest(content) for ending, content in drawing.pictures(drawing.needs(formats)).items()},
        }
        for drawing in drawings
    }
    return json.dumps(found, indent=1, sort_keys=True) + "\n"


def sheet(width: float, height: float) -> Figure:
    """A figure to draw on, so many inches large, that lays itself out."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)  # which measures text
    return figure


def save(figure: Figure, formats: Sequence[str]) -> dict[str, bytes]:
    """The figure by ending: the same bytes at any time."""
    if (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)
    figure.set_layout_engine("none")  # laid out once, not for every format
    return {ending: _SAVED[ending](figure) for ending in formats}


def _svg(figure: Figure) -> bytes:
    """Drawn once: `savefig` draws every figure twice, which is half of a report's time."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.BytesIO()
    metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    FigureCanvasSVG(figure).print_svg(buffer, metadata=metadata)  # type: ignore[no-untyped-call]
    return buffer.getvalue()


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160, metadata={"Software": None})
    return buffer.getvalue()


def _pdf(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="pdf", metadata=dict.fromkeys(("Creator", "Producer", "CreationDate")))
    return buffer.getvalue()


def _webp(figure: Figure) -> bytes:
    """The shorter of what keeps every pixel and of what looks the same."""
    from PIL import Image

    picture, found = Image.open(io.BytesIO(_png(figure))).convert("RGB"), list[bytes]()
    for options in ({"lossless": True}, {"quality": 85}):
        buffer = io.BytesIO()
        picture.save(buffer, "WEBP", method=4, **options)
        found.append(buffer.getvalue())
    return min(found, key=len)


_SAVED: Mapping[str, Callable[[Figure], bytes]] = {"svg": _svg, "png": _png, "pdf": _pdf, "webp": _webp}


@cache
def code() -> str:
    """Digest of all that draws, and of the version of matplotlib."""
    parts = [path.read_bytes() for path in sorted(Path(__file__).parents[1].rglob("*.py"))]
    return digest(b"".join([version("matplotlib").encode(), *parts]))


def digest(content: bytes) -> str:
    """Sixteen hexadecimal digits of the SHA-256."""
    return hashlib.sha256(content).hexdigest()[:16]
