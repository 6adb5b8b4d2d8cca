"""The written plan of a table's looks under a protocol (`studies.run --until-decided`), and the state of its claims.

results/looks/STUDY-PROTOCOL.json is written before the first run and never edited. It names the claims, the seeds, and
the numbers of seeds after which claims are judged. Seeds that existed before do not enter.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from studies.declare.protocols import PROTOCOLS, Protocol
from studies.declare.study import LOOKED_AT, Study
from studies.judge import asked
from studies.judge.asked import Asked
from studies.judge.looks import Followed, Stand, judged, shares
from studies.records.provenance import code_fingerprint
from studies.records.store import Store
from studies.records.typed import Damaged, Natural, read, write


@dataclass(frozen=True)
class Looks:
    """A plan: `claims`, among `of` claims of their table, are judged after each number in `seeds`, from `first` on."""

    study: str
    protocol: str
    protocol_version: int
    claims: tuple[str, ...]
    of: Natural
    seeds: tuple[Natural, ...]
    shares: tuple[float, ...]  # each look's share of the 5 %
    first: Natural
    written: str
    code: str

    def until(self, look: int) -> tuple[int, ...]:
        """The seeds of a look and all looks before it; `look` is 1, 2, ..."""
        return tuple(range(self.first, self.first + self.seeds[look - 1]))


def path_of(store: Store, study: str, protocol: str) -> Path:
    """The file of a table's plan."""
    return store.folder / "looks" / f"{study}-{protocol}.json"


def written(store: Store, study: str, protocol: str) -> Looks | None:
    """The written plan of a table; None if there is none. Raises `Damaged`."""
    return read(path_of(store, study, protocol), Looks, "restore it from git: without it no look can be judged")


def planned(
    study: Study, chosen: Protocol, rows: Sequence[str], datasets: Sequence[str], looks: Sequence[int], store: Store
) -> Looks:
    """The written plan, or a new one that is not yet written, for the claims about these rows and datasets.

    Raises `ValueError` if no claim is about only these, or if the written plan is a different one.
    """
    family = asked.claims(study, chosen, store)
    own = [one for one in family if _about(one, rows, datasets)]
    if not own:
        raise ValueError(f"no claim of {study.slug} is only about these rows and judged by seeds under {chosen.name}")
    names = tuple(one.name for one in own)
    known = written(store, study.slug, chosen.name)
    if known is None:
        seeds = [seed for one in own for values in one.values.values() for seed in values]
        return Looks(
            study.slug,
            chosen.name,
            chosen.version,
            names,
            len(family),
            tuple(looks),
            shares(looks),
            max(seeds, default=-1) + 1,
            time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            code_fingerprint("run"),
        )
    for what, before, now in (
        ("looks after", known.seeds, tuple(looks)),
        ("claims", known.claims, names),
        ("version of the protocol", known.protocol_version, chosen.version),
    ):
        if before != now:
            path = path_of(store, study.slug, chosen.name)
            raise ValueError(f"{path} was written for other {what}: {_words(before)}, not {_words(now)}")
    return known


def keep(plan: Looks, store: Store) -> bool:
    """Write a plan unless it exists; returns whether it was written."""
    path = path_of(store, plan.study, plan.protocol)
    if path.exists():
        return False
    write(path, plan)
    return True


def standings(plan: Looks, study: Study, chosen: Protocol, store: Store) -> Mapping[str, Stand]:
    """The state of each claim of a plan, from the records of only the plan's seeds."""
    found = {one.name: one for one in asked.claims(study, chosen, store)}
    return judged([_followed(found[name], plan) for name in plan.claims], plan.seeds, plan.of)


def everywhere(study: Study, store: Store) -> dict[tuple[str, str], Stand]:
    """The states of the claims of all plans of a study, by protocol and claim; `store.damage` names damaged plans."""
    found: dict[tuple[str, str], Stand] = {}
    for chosen in PROTOCOLS.values():
        try:
            plan = written(store, study.slug, chosen.name)
        except Damaged as damaged:
            store.damage.append(damaged)
            continue
        if plan:
            stands = standings(plan, study, chosen, store)
            found |= {(chosen.name, claim): stand for claim, stand in stands.items()}
    return found


def next_look(plan: Looks, stands: Mapping[str, Stand]) -> int | None:
    """The look (1, 2, ...) that needs seeds next; None if all claims are decided or given up."""
    going = [stand.look + 1 for stand in stands.values() if not stand.over and stand.look < len(plan.seeds)]
    return min(going, default=None)


def rows_of(plan: Looks, study: Study, stands: Mapping[str, Stand], dataset: str) -> list[str]:
    """The rows on a dataset that an open claim needs."""
    claims = [claim for claim in study.claims if claim.slug in plan.claims and not stands[claim.slug].over]
    wanted = {
        slug
        for claim in claims
        if study.panel(claim.dataset).dataset == dataset
        for slug in (claim.better, claim.worse)
    }
    return [row.slug for row in study.trained if row.slug in wanted]


def _about(one: Asked, rows: Sequence[str], datasets: Sequence[str]) -> bool:
    claim = one.claim
    assert claim is not None
    judged_on_seeds = claim.kind in ("greater", "equivalent") and claim.metric not in LOOKED_AT
    sides = len(one.rows) + (one.constant is not None)
    places = {one.panel.dataset, one.panel.title}
    return judged_on_seeds and sides == 2 and {*one.rows} <= {*rows} and bool(not datasets or places & {*datasets})


def _followed(one: Asked, plan: Looks) -> Followed:
    claim = one.claim
    assert claim is not None
    assert claim.kind == "greater" or claim.kind == "equivalent"
    sides = [_in_order(one.values[row], plan) for row in one.rows]
    second = sides[1] if len(sides) == 2 else one.constant
    assert second is not None
    return Followed(one.name, claim.kind, sides[0], second, claim.printed)


def _in_order(values: Mapping[int, float], plan: Looks) -> list[float]:
    """The values of the plan's seeds up to the first missing one, because a look needs all of its seeds."""
    found: list[float] = []
    for seed in plan.until(len(plan.seeds)):
        if seed not in values:
            break
        found.append(values[seed])
    return found


def _words(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
