"""The points of training curves: each curve is read once, and what is drawn of it is remembered by its digest.

The memory, `.curves` beside the report, is never the truth: it is of one state of this code, a damaged one counts as
none, and it may be deleted at any time.
"""

from __future__ import annotations

import csv
import hashlib
import math
import statistics
from array import array
from collections.abc import Mapping
from contextlib import suppress
from functools import cache, cached_property
from pathlib import Path

import msgspec
from msgspec import Struct

from studies.records import memory
from studies.records.digests import Signature
from studies.records.store import Store
from studies.records.typed import Damaged, content_of

NAME = ".curves"
MOST_POINTS = 300  # of a drawn curve; longer ones are averaged over windows
WINDOW = 5
"""Points of a training curve, 10 iterations apart, that its loss is averaged over before it is said to have fallen."""

Point = tuple[float, float]
"""An iteration and the loss there."""


class Drawn(Struct, frozen=True, array_like=True):
    """What is drawn and told of a curve."""

    iterations: bytes  # as an array of doubles: most curves share theirs
    losses: bytes  # the same of finite losses
    fallen: int | None  # the iteration at which the loss has fallen

    @property
    def points(self) -> list[Point]:
        """The points, thinned."""
        return list(zip(array("d", self.iterations), array("d", self.losses), strict=True))


class _Contents(Struct, frozen=True, array_like=True):
    code: str
    iterations: list[bytes]
    curves: dict[str, tuple[int, bytes, int | None]]  # by digest; the iterations by their place


class Curves:
    """The training curves beside a store's records; remembered in `out`, if that is given."""

    def __init__(self, store: Store, out: Path | None = None) -> None:
        self._store, self._path = store, out / NAME if out else None
        self._read: dict[str, Drawn | None] = {}
        self._new = 0

    def of(self, identifier: str) -> Drawn | None:
        """What is drawn of a run's curve; None without one, and where it is damaged, which the store notes."""
        if identifier not in self._read:
            self._read[identifier] = self._found(identifier)
        return self._read[identifier]

    def keep(self) -> None:
        """Remember what was read, where much of it is new. Whoever may not write there does without."""
        if self._path is None or not memory.pays(self._new, len(self._known)):
            return
        lying = {self._digest(name, signature) for name, signature in self._lying.items()}
        kept = {digest: drawn for digest, drawn in self._known.items() if digest in lying}
        places = {x: place for place, x in enumerate(dict.fromkeys(drawn.iterations for drawn in kept.values()))}
        curves = {key: (places[drawn.iterations], drawn.losses, drawn.fallen) for key, drawn in kept.items()}
        with suppress(OSError):
            memory.remember(self._path, _Contents(_code(), list(places), curves))
            self._new = 0

    def _found(self, identifier: str) -> Drawn | None:
        name = f"{identifier}.csv"
        signature = self._lying.get(name)
        digest = self._digest(name, signature) if signature else ""
        if drawn := self._known.get(digest):
            return drawn
        try:
            points = all_points(self._store.folder / "curves" / name)
        except Damaged as damaged:
            self._store.damage.append(damaged)
            return None
        x, y = zip(*thinned(points), strict=True) if points else ((), ())
        drawn = Drawn(array("d", x).tobytes(), array("d", y).tobytes(), fallen(points))
        if digest:
            self._known[digest] = drawn
            self._new += 1
        return drawn

    def _digest(self, name: str, signature: Signature) -> str:
        return self._store.digests.of(f"curves/{name}", signature)

    @cached_property
    def _lying(self) -> Mapping[str, Signature]:
        return self._store.digests.listed("curves")

    @cached_property
    def _known(self) -> dict[str, Drawn]:
        found = memory.recall(self._path, _Contents) if self._path else None
        if found is None or found.code != _code():
            return {}
        return {key: Drawn(found.iterations[place], y, at) for key, (place, y, at) in found.curves.items()}


def all_points(path: Path) -> list[Point]:
    """Every (iteration, loss) of a curve, infinite ones too; none without a file. Raises `Damaged`."""
    remedy = "restore it from git or delete it"
    content = content_of(path, remedy)
    try:
        header, *lines = list(filter(None, csv.reader((content or b"").decode().splitlines(), strict=True))) or [[]]
        if not lines:
            return []
        places = header.index("iteration"), header.index("loss")
        x, y = ([line[place] for line in lines] for place in places)
        return list(zip(_numbers(x), _numbers(y), strict=True))
    except (ValueError, IndexError, csv.Error) as error:
        raise Damaged(path, f"not a readable training curve ({error})", remedy) from None


def _numbers(words: list[str]) -> list[float]:
    return msgspec.convert(words, list[float], strict=False)


def thinned(points: list[Point]) -> list[Point]:
    """The points with a finite loss, averaged over windows to at most `MOST_POINTS`."""
    points = [point for point in points if math.isfinite(point[1])]
    if len(points) <= MOST_POINTS:
        return points
    window = -(-len(points) // MOST_POINTS)
    chunks = (points[start : start + window] for start in range(0, len(points), window))
    return [(statistics.fmean(x for x, _ in chunk), statistics.fmean(y for _, y in chunk)) for chunk in chunks]


def fallen(points: list[Point]) -> int | None:
    """The iteration at which a training loss has fallen below half of what it began with; None where it has not."""
    losses = [loss for _, loss in points]
    if len(losses) < WINDOW:
        return None
    half = statistics.fmean(losses[:WINDOW]) / 2
    ends = range(WINDOW, len(losses) + 1)
    found = next((end for end in ends if math.fsum(losses[end - WINDOW : end]) / WINDOW < half), None)
    return None if found is None else int(points[found - 1][0])


@cache
def _code() -> str:
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
