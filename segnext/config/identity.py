"""Ids: the hash of a fully resolved configuration, defaults included (DESIGN.md, "Identity")."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any


def canonical(value: Any) -> Any:
    """The fully resolved configuration as JSON-ready data, defaults included: ids are its hash.

    A field that was added after results existed carries `metadata={"frozen": literal}` and is left out while it equals
    that literal. So old ids stay valid, and a changed default changes the id (DESIGN.md, "Identity").

    The result is cached in the value, because thousands of runs share their data and recipe: treat it as read-only.
    """
    if dataclasses.is_dataclass(value):
        kept = vars(value)
        if "_canonical" not in kept:
            kept["_canonical"] = _resolved(value)
        return kept["_canonical"]
    if isinstance(value, tuple):
        return [canonical(item) for item in value]
    return value


def _resolved(value: Any) -> dict[str, Any]:
    """The value's own `resolved()` if it has one, otherwise its fields."""
    own = getattr(value, "resolved", None)
    return own() if own else fields(value)


def fields(value: Any, skip: tuple[str, ...] = ()) -> dict[str, Any]:
    """The canonical fields of a value, without those in `skip` and those that equal their frozen literal."""
    present = {}
    for field in dataclasses.fields(value):
        item = canonical(getattr(value, field.name))
        frozen = "frozen" in field.metadata and item == canonical(field.metadata["frozen"])
        if field.name not in skip and not frozen:
            present[field.name] = item
    return present


def digest(data: Any) -> str:
    """The first 12 hexadecimal digits of the SHA-256 of canonical data."""
    return whole_digest(data)[:12]


def whole_digest(data: Any) -> str:
    """All of them. Of a value: once, as what it resolves to."""
    if dataclasses.is_dataclass(data):
        kept = vars(data)
        if "_digest" not in kept:
            kept["_digest"] = whole_digest(canonical(data))
        return str(kept["_digest"])
    return sha256(as_text(data))


def as_text(data: Any) -> str:
    """The canonical data as text, of which ids are digests."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)


def sha256(text: str) -> str:
    """Its digest, as hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def difference(old: Any, new: Any, path: str = "") -> str | None:
    """The first field in which two configurations differ, as `field: old -> new`; None when they are equal."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            found = difference(old.get(key), new.get(key), f"{path}.{key}" if path else key)
            if found:
                return found
        return None
    return None if old == new else f"{path}: {old!r} -> {new!r}"
