"""What the runs behind one number must share: precision, torch and data. If they do not, the number is marked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from segnext.config import PRECISIONS
from studies.records.schema import ScoredRecord
from studies.records.store import precision

Origin = Mapping[str, str]
"""A record's precision, release of torch, and the fingerprint of each split that it read, as far as known."""

PRECISION, TORCH = "precision", "torch"


def origin(record: ScoredRecord) -> Origin:
    """The origin of a record. Builds of one release of torch (`+cu130`, `+cpu`) count as the same."""
    found = {PRECISION: precision(record)}
    if torch := record.provenance.torch:
        found[TORCH] = torch.partition("+")[0]
    for split in record.splits_read():
        for name, value in (("images", split.fingerprint), ("contents", split.contents)):
            if value:
                found[f"{split.dataset} {split.split} {name}"] = value
    return found


def origins(records: Mapping[str, ScoredRecord]) -> dict[str, Origin]:
    """The origin of each record. Of thousands few differ: equal ones are one object."""
    alike: dict[tuple[tuple[str, str], ...], Origin] = {}
    return {
        key: alike.setdefault(tuple(found.items()), found)
        for key, record in records.items()
        for found in [origin(record)]
    }


def precisions(origins: Iterable[Origin]) -> str:
    """The precisions of these records, widest first: `float32, bfloat16`."""
    return ", ".join(sorted({found[PRECISION] for found in origins}, key=PRECISIONS.index))


def mixture(origins: Iterable[Origin]) -> str:
    """What these records do not share, as text: `float32 and bfloat16 together`; "" if they may be pooled."""
    values: dict[str, set[str]] = {}
    for found in {id(one): one for one in origins}.values():
        for what, value in found.items():
            values.setdefault(what, set()).add(value)
    return "; ".join(f"{_words(what, several)} together" for what, several in values.items() if len(several) > 1)


def _words(what: str, values: set[str]) -> str:
    if what == PRECISION:
        return _listed(sorted(values, key=PRECISIONS.index))
    if what == TORCH:
        return f"torch {_listed(sorted(values, key=_release))}"
    return f"{what} of fingerprints {_listed(sorted(values))}"


def _release(version: str) -> tuple[list[int], str]:
    return [int(part) for part in re.findall(r"\d+", version)], version


def _listed(words: list[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}"
