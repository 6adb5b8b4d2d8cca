"""The most targets that a budget of hours decides, and the order that decides them soonest.

A target (a claim, a level) needs several runs, all of them. Targets share runs, and a shared run is paid once.

**Which** (`within`). The most targets whose runs fit into the budget and, among equally many, those with the fewest
hours; the solution is exactly optimal. This is the set-union knapsack problem. It is NP-hard, and no greedy choice is
within a constant factor (a pretraining shared by twenty claims looks expensive to each of them alone). With a hundred
targets SciPy's HiGHS solves it as an integer programme at once, with its gap set to 0.

**In which order** (`steps`). Each step is the set of targets, among all sets, with the most targets per hour of runs
not yet in the plan. It is found exactly, as a closure of maximal density (Dinkelbach's method over linear programmes
with a totally unimodular matrix). So targets per hour never rise from one step to the next, and whoever stops after a
step could not have decided as many targets in fewer hours.

`tests/studies/test_next.py` checks both against every subset of small cases.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

Needs = Mapping[str, frozenset[str]]
"""The runs that each target needs."""

SLACK = 1e-6
"""Hours by which a sum may exceed a budget through rounding."""


@dataclass(frozen=True)
class Step:
    """Targets that are decided together, with the runs that no earlier step has."""

    targets: tuple[str, ...]
    runs: tuple[str, ...]
    hours: float


def total(runs: Iterable[str], hours: Mapping[str, float]) -> float:
    """The hours of these runs."""
    return math.fsum(hours[run] for run in runs)


def within(needs: Needs, hours: Mapping[str, float], budget: float) -> list[str]:
    """The targets to decide within a budget of hours: as many as possible, and among equally many with fewest hours."""
    free = [name for name, runs in needs.items() if not runs]
    alone = {name: runs for name, runs in needs.items() if runs and total(runs, hours) <= budget + SLACK}
    if not alone:
        return free
    problem = _Problem(alone, hours)
    most = problem.solve(1.0, 0.0, budget=budget)
    best = problem.solve(0.0, 1.0, budget=budget, at_least=len(most))
    chosen = {*free, *best}
    return [name for name in needs if name in chosen]


def steps(needs: Needs, hours: Mapping[str, float]) -> list[Step]:
    """All targets in steps; each step has the most targets per hour, given the runs of earlier steps."""
    left, found = dict(needs), list[Step]()
    while left:
        chosen = _densest(left, hours)
        free = total(frozenset().union(*(left[name] for name in chosen)), hours) <= 0
        for members in [chosen] if free else _parts({name: left[name] for name in chosen}):
            runs = {run: None for name in members for run in sorted(left[name])}
            found.append(Step(tuple(members), tuple(runs), total(runs, hours)))
        ran = frozenset().union(*(left[name] for name in chosen))
        left = {name: runs - ran for name, runs in left.items() if name not in chosen}
    return found


def _densest(needs: Needs, hours: Mapping[str, float]) -> list[str]:
    """A set of targets with the most targets per hour; those that cost nothing come first."""
    if free := [name for name, runs in needs.items() if total(runs, hours) <= 0]:
        return free
    problem = _Problem(needs, hours)
    best = min(needs, key=lambda name: total(needs[name], hours))
    chosen = [best]
    while True:
        price = total(frozenset().union(*(needs[name] for name in chosen)), hours)
        density = len(chosen) / price
        better = problem.solve(1.0, density, whole=False)
        gain = len(better) - density * total(frozenset().union(*(needs[name] for name in better)), hours)
        if gain <= 1e-9 * len(needs):
            return chosen
        chosen = better


def _parts(needs: Needs) -> list[list[str]]:
    """Split targets that share no run into separate steps; their densities are equal, or one alone would be denser."""
    parts: list[tuple[list[str], frozenset[str]]] = []
    for name, runs in needs.items():
        together = [part for part in parts if part[1] & runs]
        parts = [part for part in parts if not part[1] & runs]
        members = [member for part in together for member in part[0]]
        parts.append(([*members, name], runs.union(*(part[1] for part in together))))
    order = list(needs)
    return sorted((sorted(members, key=order.index) for members, _ in parts), key=lambda part: order.index(part[0]))


class _Problem:
    """Targets x and groups of runs y as a linear programme, in which a target needs its groups: x <= y."""

    def __init__(self, needs: Needs, hours: Mapping[str, float]) -> None:
        self.names = list(needs)
        users: dict[str, list[int]] = {}
        for place, name in enumerate(self.names):
            for run in needs[name]:
                users.setdefault(run, []).append(place)
        groups: dict[tuple[int, ...], list[float]] = {}
        for run, places in sorted(users.items()):
            groups.setdefault(tuple(places), []).append(hours[run])
        self.costs = np.array([math.fsum(group) for group in groups.values()])
        pairs = [(target, group) for group, members in enumerate(groups) for target in members]
        self.links = np.zeros((len(pairs), len(self.names) + len(groups)))
        for line, (target, group) in enumerate(pairs):
            self.links[line, target], self.links[line, len(self.names) + group] = 1, -1

    def solve(
        self, value: float, price: float, budget: float = math.inf, at_least: int = 0, whole: bool = True
    ) -> list[str]:
        """The targets that maximise value * (targets) - price * (hours); `whole` if it must be an integer programme."""
        from scipy.optimize import Bounds, LinearConstraint, milp  # takes a third of a second to import

        count, size = len(self.names), self.links.shape[1]
        hours = np.concatenate([np.zeros(count), self.costs])
        targets = np.concatenate([np.ones(count), np.zeros(size - count)])
        constraints = [
            LinearConstraint(self.links, -np.inf, 0),
            LinearConstraint(hours, -np.inf, budget + SLACK),
            LinearConstraint(targets, at_least, np.inf),
        ]
        done = milp(
            price * hours - value * targets,
            constraints=constraints,
            integrality=targets if whole else np.zeros(size),
            bounds=Bounds(0, 1),
            options={"mip_rel_gap": 0.0},
        )
        assert done.x is not None, done.message
        return [name for name, x in zip(self.names, done.x[:count], strict=True) if x > 0.5]
