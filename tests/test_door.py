"""How commands start, print and end: foreign text, closed pipes, Ctrl-C, other locales. Real processes and signals."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import REPOSITORY
from reporting import add_run
from test_run import LONGER, eventually, measured, results, run_id, runs, started  # noqa: F401  (fixtures)

from segnext.config import Execution
from studies.plan import Cell, plan, select
from studies.protocols import protocol
from studies.specification import specification
from studies.store import Store
from studies.study import study
from studies.workspace import Workspace

CONTINUES = "stopped: the same command continues"
PACKAGES = ("segnext", "studies", "reports")
NOT_AT_THE_DOOR = {"studies.worker": "started by other programs, prints to its run's log"}
OBEYED = "\x1b[31mred\x07\x9b2J"
FOREIGN = f"a[b] [h, w] /data/[/old]/x.jpg \N{CHECK MARK} {OBEYED}"
SHOWN = r"\u001b[31mred\u0007\u009b2J"
SMOKE = ("--protocol", "smoke", "--limit-iterations", "2")

# By command: words that make it print foreign text, and how it then ends.
COMMANDS: dict[str, tuple[tuple[str, ...], int]] = {
    "segnext.data": (("check", "camvid", "--split", "train", "--data-root", "DATA", "--processes", "1"), 1),
    "studies.list": ((f"[/old]{OBEYED}",), 2),
    "studies.status": ((), 1),
    "studies.show": (("table7/c", *SMOKE), 0),
    "studies.run": (("table7/c@0", *SMOKE, "--dry-run"), 0),
    "studies.diff": (("RECORDED", "ANOTHER"), 1),
    "studies.logs": (("table7/c@0",), 0),
    "studies.cancel": ((f"[old]{OBEYED}",), 2),
    "studies.doctor": (("--cluster", "local"), 0),
    "studies.evidence": (("table7/c@0", "--miou", "1", "--source", FOREIGN, "--protocol", f"[/old]{OBEYED}"), 2),
    "studies.probe": (("table7/c", *SMOKE, "--device", f"[/old]{OBEYED}"), 3),
    "studies.gc": ((), 0),
    "studies.pictures": (("--rows", f"table7/c[old]{OBEYED}"), 2),
    "studies.shortcuts": (("--datasets", f"[/old]{OBEYED}"), 2),
    "studies.snapshot": ((f"[/old]{OBEYED}",), 2),
    "reports.build": (("table7", "--logs", "--out", f"OUT/[/old]{OBEYED}"), 0),
}
VERBS = {"studies.pictures": ["studies.run", "figures"], "studies.shortcuts": ["studies.run", "shortcuts"]}


def modules() -> dict[str, ast.Module]:
    """Every module of the three packages by name, a package's `__main__` by the package's."""
    found = {}
    for package in PACKAGES:
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            name = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
            found[name.removesuffix(".__main__")] = ast.parse(path.read_bytes())
    return found


def commands() -> dict[str, ast.FunctionDef]:
    return {
        name: node
        for name, tree in modules().items()
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name == "main"
    }


def test_every_command_goes_through_the_door_and_is_fed_below():
    found = commands()
    assert set(found) == {*COMMANDS, *NOT_AT_THE_DOOR}
    for name in COMMANDS:
        assert any(ast.unparse(one).startswith("command(") for one in found[name].decorator_list), name


def test_nothing_but_the_door_makes_a_console_or_a_parser():
    for name, tree in modules().items():
        called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        if name != "segnext.door":
            assert not called & {"Console", "argparse.ArgumentParser", "rich.print"}, name
        if name.split(".")[0] != "segnext" and name not in NOT_AT_THE_DOOR:
            assert "print" not in called, f"{name}: segnext.door.say"


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """A failed run and two finished ones whose files are full of foreign text; gives a command's words."""
    monkeypatch.setenv("SEGNEXT_RUNS", str(tmp_path / f"runs [/old]{OBEYED}"))
    for row in ("b", "c"):
        add_run(Store(), study("table7"), study("table7").row(row), "smoke", 1, 50.0, 2, processor=f"{row} {FOREIGN}")
    cells = [a_cell(row, seed) for row, seed in (("b", 1), ("c", 1), ("c", 0))]
    for cell in cells:
        Workspace(cell.id).write_spec(specification(cell, 2, None, None, Execution(), f"command {FOREIGN}"))
    failed = Workspace(cells[-1].id)
    with failed.attempt() as attempt:
        attempt.update(cause="data", message=FOREIGN, host=FOREIGN, node=FOREIGN)
    failed.log.write_text(f"{FOREIGN}\n" * 20_000, encoding="utf-8")
    finished = Workspace(cells[0].id)
    finished.states.mkdir()
    (finished.states / "00000002.pt").touch()
    finished.weights.touch()
    for folder in ("train", "trainannot"):
        (tmp_path / "CamVid" / folder).mkdir(parents=True)
    (tmp_path / "CamVid" / "train" / f"[old]{OBEYED}.png").write_bytes(b"no image")
    names = {"RECORDED": cells[0].id, "ANOTHER": cells[1].id, "DATA": str(tmp_path / "CamVid")}

    def words(name: str) -> list[str]:
        module, *verb = VERBS.get(name, [name])
        given = (names.get(word, word.replace("OUT", str(tmp_path))) for word in COMMANDS[name][0])
        return [sys.executable, "-m", module, *verb, *given]

    return words


def a_cell(row: str, seed: int) -> Cell:
    chosen = protocol("smoke")
    *_, cell = plan(select([f"table7/{row}@{seed}"], chosen, None, None), chosen, 2, Store())
    return cell


def ended(words: list[str], **environment: str) -> subprocess.CompletedProcess[bytes]:
    own = {**os.environ, "COLUMNS": "300", **environment}
    return subprocess.run(words, cwd=REPOSITORY, env=own, capture_output=True, check=False, timeout=120)


@pytest.mark.parametrize("name", COMMANDS)
def test_brackets_are_text_and_no_terminal_obeys_what_a_file_says(name: str, lab):
    done = ended(lab(name), PYTHONUTF8="1")
    said = (done.stdout + done.stderr).decode()
    assert "Traceback" not in said
    assert done.returncode == COMMANDS[name][1], said
    assert "old]" in said
    assert not set(said) & set(OBEYED) - set("[31mred2J")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_locale_without_the_letters_changes_only_the_letters(name: str, lab):
    for locale in ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"PYTHONIOENCODING": "latin-1"}):
        done = ended(lab(name), **locale)
        said = done.stdout + done.stderr
        assert b"Traceback" not in said, said
        assert done.returncode == COMMANDS[name][1], said


@pytest.mark.parametrize("name", COMMANDS)
def test_where_nobody_listens_a_command_ends_as_it_would_have(name: str, lab):
    for words in (lab(name), [*lab(name)[:3], *lab(name)[3:4] * (name in VERBS), "--help"]):
        reading, writing = os.pipe()
        os.close(reading)
        with os.fdopen(writing, "wb") as pipe:
            done = subprocess.run(words, cwd=REPOSITORY, stdout=pipe, stderr=subprocess.PIPE, check=False, timeout=120)
        assert b"BrokenPipe" not in done.stderr
        assert b"Traceback" not in done.stderr
        assert done.returncode == (0 if words[-1] == "--help" else COMMANDS[name][1]), done.stderr
