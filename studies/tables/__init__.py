"""One file per table of the paper. A study is found by the name of its file."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from studies.declare.study import Study, unknown


@cache
def studies() -> dict[str, Study]:
    """All declared studies by slug, in the paper's order; each is a module of this folder."""
    names = sorted((m.name for m in pkgutil.iter_modules(__path__)), key=_paper_order)
    found = (importlib.import_module(f"{__name__}.{name}").STUDY for name in names)
    return {study.slug: study for study in found}


def study(slug: str) -> Study:
    """The study with this slug. Raises `ValueError`, suggesting the nearest name, if there is none."""
    if slug not in studies():
        raise ValueError(unknown("study", slug, studies()))
    return studies()[slug]


def _paper_order(name: str) -> tuple[bool, str, int]:
    head = name.rstrip("0123456789")
    return head != "table", head, int(name[len(head) :] or 0)
