"""Costs, latency and memory: measured in the command's own process, one after the other."""

from __future__ import annotations

import dataclasses
from collections import Counter

from rich.console import Console

from segnext.config import Cost, Speed, canonical
from studies.records.store import Store

BUSY = 0.1  # part of its time that a measurement of speed may wait for a core


class _Disturbed(Exception):
    """Others took the time that was to be measured."""


def measure_costs(console: Console, unmeasured: list[tuple[str, Cost]], store: Store) -> None:
    """Measure and record parameters and FLOPs."""
    if not unmeasured:
        return
    with console.status("measuring parameters and FLOPs"):
        from segnext.measure.cost import measure
        from studies.records.provenance import provenance

        origin, missing = provenance("cost"), Counter[str]()
        for number, (label, cost) in enumerate(unmeasured, start=1):
            try:
                measured = dataclasses.asdict(measure(cost))
            except ModuleNotFoundError as error:  # an optional extra: the others' costs do not depend on it
                missing[str(error)] += 1
                continue
            record = {"id": cost.id, "kind": "cost", "config": canonical(cost), **measured, "provenance": origin}
            store.add(record)
            console.print(
                f"cost {number}/{len(unmeasured)} {label}: {measured['params']:,} parameters, "
                f"{measured['gmacs']:.4f} G at {cost.height}x{cost.width}"
            )
        for reason, count in missing.items():
            console.print(f"{count} of {len(unmeasured)} costs are not measured: {reason}")


def measure_speeds(console: Console, untimed: list[tuple[str, Speed]], device: str, store: Store) -> int:
    """Measure one after the other, with nothing beside them; returns the exit code."""
    if not untimed:
        return 0
    from segnext.measure.speed import measure
    from studies.launch.progress import measuring
    from studies.records.provenance import provenance

    origin, missing, failed = provenance("speed"), Counter[str](), 0
    with measuring(console, "latency and peak memory", sum(s.height * s.width for _, s in untimed)) as advance:
        for number, (label, speed) in enumerate(untimed, start=1):
            try:
                measured = measure(speed, device)
                if measured.waited is not None and measured.waited > BUSY:
                    raise _Disturbed(f"this machine is busy: {measured.waited:.0%} of the time waited for a core")
            except KeyboardInterrupt:
                console.print("stopped: the same command continues")
                return 5
            except ModuleNotFoundError as error:  # an optional extra, as for costs
                missing[str(error)] += 1
            except (MemoryError, ChildProcessError, _Disturbed) as error:  # of this moment: the next attempt may differ
                failed += 1
                console.print(f"speed {number}/{len(untimed)} {label}: failed, not recorded: {error}")
            else:
                facts = {**dataclasses.asdict(measured), "provenance": origin}
                store.add({"id": speed.id, "kind": "speed", "config": canonical(speed), **facts})
                console.print(f"speed {number}/{len(untimed)} {label}: {measured}")
            advance(speed.height * speed.width)
    for reason, count in missing.items():
        console.print(f"{count} of {len(untimed)} speeds are not measured: {reason}")
    return 1 if failed else 0
