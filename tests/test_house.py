"""The house stands as drawn: imports run one way, and what is committed is fit to be."""

from __future__ import annotations

import ast
import csv
import re
import subprocess
from collections import Counter

import pytest
from conftest import REPOSITORY

from studies.records.store import COLUMNS

ALLOWED = {"segnext": {"segnext"}, "studies": {"segnext", "studies"}, "reports": {"segnext", "studies", "reports"}}


def imports(package: str) -> set[tuple[str, str]]:
    """(file, top-level module) for every import anywhere in a package."""
    found = set()
    for path in (REPOSITORY / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or package]
            else:
                continue
            found |= {(path.relative_to(REPOSITORY).as_posix(), module.split(".")[0]) for module in modules}
    return found


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_run_one_way(package: str):
    found = imports(package)
    assert found, package
    assert {pair for pair in found if pair[1] in ALLOWED and pair[1] not in ALLOWED[package]} == set()


# The rooms of each floor: a room knows those that stand before it, and never those after. What stands at the door of
# `studies` and `reports` knows them all; at segnext's stands the network.
ROOMS = {
    "segnext": ("config", "data", "fast", "network", "testing", "training", "measure", "look"),
    "studies": ("declare", "tables", "records", "slurm", "judge", "plan", "launch", "door"),
    "reports": ("blocks", "evidence", "sections", "write", "door"),
}
BELOW_ALL = {"segnext": {"door", "files", "text", "precision", "stochastic"}, "studies": set(), "reports": set()}


def room(name: str) -> str | None:
    """The room of a module `floor.room.module`; None for one that every room may know."""
    floor, *way = name.split(".")
    if way[:1] and way[0] in ROOMS[floor]:
        return way[0]
    return None if not way or way[0] in BELOW_ALL[floor] else ROOMS[floor][-1 if floor != "segnext" else 3]


def modules(floor: str) -> dict[str, ast.Module]:
    """By dotted name, without the packages' own."""
    paths = (path for path in (REPOSITORY / floor).rglob("*.py") if path.stem != "__init__")
    return {".".join(path.relative_to(REPOSITORY).with_suffix("").parts): ast.parse(path.read_text()) for path in paths}


@pytest.mark.parametrize("floor", ROOMS)
def test_a_room_knows_those_before_it_alone(floor: str):
    wrong, order = [], ROOMS[floor]
    for name, tree in modules(floor).items():
        own = room(name)
        for node in ast.walk(tree):
            if not isinstance(node, ast.ImportFrom) or (node.module or "").split(".")[0] != floor or own is None:
                continue
            for module in {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}:
                other = room(module) if module != floor else None
                if other is not None and order.index(other) > order.index(own):
                    wrong.append(f"{name} imports {module}")
    assert not wrong


@pytest.mark.parametrize("floor", ROOMS)
def test_no_name_of_a_module_stands_twice_on_a_floor(floor: str):
    names = [name.rsplit(".", 1)[1] for name in modules(floor) if ".tables." not in name]
    assert sorted(name for name, count in Counter(names).items() if count > 1) == []


def test_reports_never_import_torch():
    assert {pair for pair in imports("reports") if pair[1] in {"torch", "torchvision", "fvcore"}} == set()


def tracked() -> list[str]:
    done = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    return done.stdout.splitlines()


def test_nothing_committed_is_large_or_a_dataset():
    for name in tracked():
        path = REPOSITORY / name
        assert not path.exists() or path.stat().st_size < 2_000_000, name
        assert not name.startswith("reports/out/"), f"{name} is built, not committed"
        assert path.suffix not in {".pt", ".pth", ".jpg", ".jpeg"}, name


def test_the_top_level_is_the_promised_one():
    folders = {name.split("/")[0] for name in tracked() if "/" in name}
    assert folders == {"segnext", "studies", "results", "slurm", "reports", "tests", ".ci"}


def test_the_dictionary_of_columns_is_complete():
    text = (REPOSITORY / "results" / "README.md").read_text()
    explained = set(re.findall(r"`(\w+)`", "\n".join(line for line in text.splitlines() if line.startswith("| `"))))
    assert set(COLUMNS) <= explained


def test_committed_tables_have_the_documented_columns():
    for name in tracked():
        if re.fullmatch(r"results/\w+\.csv", name):
            with open(REPOSITORY / name, newline="") as file:
                assert next(csv.reader(file)) == list(COLUMNS), name


def test_environment_yml_installs_the_lock():
    text = (REPOSITORY / "environment.yml").read_text()
    assert "requirements.lock" in text
    assert "python>=3.11" in text
