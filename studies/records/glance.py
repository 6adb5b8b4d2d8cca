"""A run's folder as a command sees it that looks at thousands."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import wraps
from pathlib import Path
from sys import intern
from typing import Any, TypeVar, cast

from studies.records import packed
from studies.records.specifications import alike
from studies.records.typed import Damaged
from studies.records.working_state import Attempt, JobSpec, Submission
from studies.records.workspace import Workspace

T = TypeVar("T")

MANY = 2_000  # folders that are worth other processes


def _once(look: Callable[[Glance], T]) -> Callable[[Glance], T]:
    """A look that a `Glance` takes once: what it found, or that the file is damaged, is kept."""
    name = look.__name__

    @wraps(look)
    def seen(self: Glance) -> T:
        if name not in self.kept:
            try:
                self.kept[name] = look(self)
            except Damaged as damaged:
                self.kept[name] = damaged
        found = self.kept[name]
        if found.__class__ is Damaged:
            raise found
        return cast(T, found)

    return seen


class Glance(Workspace):
    """A run's folder of which each small file is read once, at most.

    It is listed once, instead of asking for each file that it may have. For whoever only looks: what decides whether a
    run is started reads the files themselves.
    """

    def __init__(self, run_id: str, runs: Path | str = "") -> None:
        super().__init__(run_id, runs)
        self.kept: dict[str, Any] = {}
        self._seed: int | None = None  # of its specification, where that is its pattern's with this seed
        self._listed: Sequence[str] | None = None

    def look(self, wanted: Callable[[JobSpec], bool]) -> Glance:
        """Read its small files, of a run that is wanted; then it may be sent to another process."""
        try:
            spec = self.spec()
        except Damaged:
            return self
        if spec is not None and wanted(spec):
            self.damage()
            self.last_state()
        return self

    def __getstate__(self) -> dict[str, Any]:
        """What is sent to another process: in place of the specification, its pattern and its seed."""
        state = {**vars(self), "kept": {**self.kept}}
        if self.pattern is not None and (spec := state["kept"].pop("spec", None)) is not None:
            state["_seed"] = spec.seed
        return state

    def has(self, name: str) -> bool:
        """Whether there was a file or a folder of this name when it was listed."""
        if self._listed is None:
            try:
                self._listed = [*map(intern, os.listdir(self._at))]  # the same few names in each
            except (FileNotFoundError, NotADirectoryError):
                self._listed = ()
            except OSError:  # what cannot be listed may be readable
                return super().has(name)
        return name in self._listed

    def look_again(self) -> None:
        """Forget the listing, because somebody may have worked on the run since. The next question lists it anew."""
        self._listed = None

    def exists(self) -> bool:
        """Whether the run was ever started here."""
        return bool(self._listed) or super().exists()

    @_once
    def spec(self) -> JobSpec | None:
        """What the run's worker is to do. Raises `Damaged`."""
        if self.pattern is not None and self._seed is not None:
            return self.pattern.seeded(self._seed)
        content = self._content("spec.json")
        spec, self.pattern = (None, None) if content is None else alike(content, self._spec)
        return spec

    @_once
    def submitted(self) -> Submission | None:
        """The job that is to do it. Raises `Damaged`."""
        return super().submitted()

    def _loose(self, name: str) -> bytes | None:
        if not self.has(name.partition("/")[0]):
            return None
        if (content := super()._loose(name)) is None:  # packed since it was listed, or deleted
            self.look_again()
        return content

    @_once
    def _packed(self) -> Mapping[str, str]:
        return super()._packed() if self.has(packed.NAME) else {}

    @_once
    def _attempts(self) -> tuple[list[tuple[str, Attempt]], list[Damaged]]:
        return super()._attempts()

    @_once
    def last_state(self) -> int:
        """After how many iterations the newest saved state was taken; 0 without one."""
        return super().last_state() if self.has("states") else 0


def glances(
    identifiers: Sequence[str], runs: Path, wanted: Callable[[JobSpec], bool] = lambda spec: True
) -> Iterator[Glance]:
    """These folders, in order. Many are read by other processes while the caller works with those before.

    `wanted`: whether it needs more of a run than its specification.
    """
    if len(identifiers) < MANY:
        return (Glance(identifier, runs) for identifier in identifiers)
    from studies.records.parallel import ahead  # which few commands are worth

    return ahead(lambda identifier: Glance(identifier, runs).look(wanted), identifiers)
