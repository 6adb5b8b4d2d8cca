"""The house stands as drawn: imports run one way, and what is committed is fit to be."""

from __future__ import annotations

import ast
import csv
import io
import re
import subprocess
import tokenize
import tomllib
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
import yaml  # fvcore brings it
from conftest import REPOSITORY, TESTS

from studies.facts.files import COLUMNS

ALLOWED = {"segnext": {"segnext"}, "studies": {"segnext", "studies"}, "reports": {"segnext", "studies", "reports"}}


def imports(package: str) -> set[tuple[str, str]]:
    """(module, what it imports) for every import anywhere in a package, both with all their dots."""
    found = set()
    for path in (REPOSITORY / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [f"{node.module or package}.{alias.name}" for alias in node.names]
            else:
                continue
            found |= {(dotted(path), name) for name in names}
    return found


def dotted(path: Path) -> str:
    """The name of a module."""
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


def floor_of(name: str) -> str:
    return name.split(".")[0]


MOST_STRING_KEYS = 120  # there were 514; 75 are left, of command lines, drawings and what JSON has


def test_facts_are_attributes_of_values_and_not_keys_of_dictionaries():
    """Subscripts with a string that is written there: `record["config"]["seed"]` were two."""
    counted: Counter[str] = Counter()
    for path in (path for floor in ("studies", "reports") for path in (REPOSITORY / floor).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
                counted[dotted(path)] += isinstance(node.slice.value, str)
    assert counted.total() <= MOST_STRING_KEYS, counted.most_common(10)


MOST_LINES, LONGEST = 400, 60  # of code in a module, of a function from `def` to its end
DATA = {"segnext.data.classes"}  # names and colours


def lines_of_code(text: str, tree: ast.Module) -> int:
    """Lines with code on them: no comments, docstrings and empty ones."""
    said: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False):
            said |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    code: set[int] = set()
    apart = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in apart:
            code |= set(range(token.start[0], token.end[0] + 1))
    return len(code - said)


@pytest.mark.parametrize("package", ALLOWED)
def test_modules_and_functions_can_be_read_in_one_go(package: str):
    for path in (REPOSITORY / package).rglob("*.py"):
        tree = ast.parse(text := path.read_text())
        assert dotted(path) in DATA or lines_of_code(text, tree) <= MOST_LINES, dotted(path)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.lineno < LONGEST, f"{dotted(path)}: {node.name}"


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_run_one_way(package: str):
    found = imports(package)
    assert found, package
    assert {pair for pair in found if floor_of(pair[1]) in ALLOWED.keys() - ALLOWED[package]} == set()


# The rooms of each floor: a room knows those that stand before it, and never those after.
ROOMS = {
    "segnext": (
        "config",
        "data",
        "fast",
        "network",
        "testing",
        "training",
        "measure",
        "look",
        "apply",
        "predict",
        "weights",
    ),
    "studies": ("declare", "tables", "records", "slurm", "judge", "plan", "facts", "launch", "door"),
    "reports": ("blocks", "sections", "write", "door"),
}
AT_THE_DOOR = {"segnext": "network", "studies": "door", "reports": "door"}
BELOW_ALL = {"segnext.door", "segnext.files", "segnext.text", "segnext.precision", "segnext.stochastic"}


def place(name: str) -> int:
    """Which of its floor's rooms a module stands in, counted; -1 for what every room may know."""
    floor, *way = name.split(".")
    if not way or ".".join((floor, way[0])) in BELOW_ALL:
        return -1
    return ROOMS[floor].index(way[0] if way[0] in ROOMS[floor] else AT_THE_DOOR[floor])


@pytest.mark.parametrize("floor", ROOMS)
def test_a_room_knows_those_before_it_alone(floor: str):
    own = {(name, other) for name, other in imports(floor) if floor_of(other) == floor}
    assert {(name, other) for name, other in own if place(other) > place(name) >= 0} == set()


@pytest.mark.parametrize("floor", ROOMS)
def test_no_name_of_a_module_stands_twice_on_a_floor(floor: str):
    # A table is found by its file, a command by its name at the door: `studies.published` shows `declare.published`.
    apart = (REPOSITORY / "studies", REPOSITORY / "studies" / "tables")
    paths = [path for path in (REPOSITORY / floor).rglob("*.py") if path.parent not in apart]
    names = [path.stem for path in paths if path.stem != "__init__"]
    assert sorted(name for name, count in Counter(names).items() if count > 1) == []


def test_reports_never_import_torch():
    assert {pair for pair in imports("reports") if floor_of(pair[1]) in {"torch", "torchvision", "fvcore"}} == set()


@cache
def modules_of_tests() -> dict[Path, str]:
    """Each module below tests/, with what it says."""
    return {path: path.read_text() for path in sorted(TESTS.rglob("*.py"))}


def test_no_test_module_imports_from_another():
    """Helpers that several need stand in modules that are no tests; programs that tests write are searched, too."""
    tests = "|".join(path.stem for path in modules_of_tests() if path.stem.startswith("test_"))
    wrong = re.compile(rf"^\s*(?:from ({tests}) import|import ({tests})\b)", re.MULTILINE)
    assert wrong.search("from test_house import x"), "it finds one"
    assert {path.name for path, text in modules_of_tests().items() if wrong.search(text)} == set()


def test_fake_records_have_one_maker():
    """Only tests/records.py writes a record's kind beside its provenance."""

    def makes(node: ast.AST) -> bool:
        keys = (
            {key.value for key in node.keys if isinstance(key, ast.Constant)} if isinstance(node, ast.Dict) else set()
        )
        return {"kind", "provenance"} <= keys

    candidates = {path: text for path, text in modules_of_tests().items() if "provenance" in text}
    found = {path.name for path, text in candidates.items() for node in ast.walk(ast.parse(text)) if makes(node)}
    assert found == {"records.py"}


WHOLE = {"test_house", "test_readme", "test_door", "test_fuzz"}


def test_tests_stand_by_floor_and_those_of_the_whole_house_above_them():
    own = {path.relative_to(TESTS) for path in modules_of_tests() if path.stem.startswith("test_")}
    assert {path.stem for path in own if len(path.parts) == 1} == WHOLE
    assert {path.parts[0] for path in own if len(path.parts) > 1} == {*ALLOWED, "gpu"}


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
    assert folders == {"segnext", "studies", "results", "slurm", "reports", "tests", ".ci", ".github"}


def test_the_dictionary_of_columns_is_complete():
    text = (REPOSITORY / "results" / "README.md").read_text()
    explained = set(re.findall(r"`(\w+)`", "\n".join(line for line in text.splitlines() if line.startswith("| `"))))
    assert {column for kind in COLUMNS.values() for column in kind.__struct_fields__} <= explained


def test_committed_tables_have_the_documented_columns():
    for name in tracked():
        if re.fullmatch(r"results/[\w-]+\.csv", name):
            with open(REPOSITORY / name, newline="") as file:
                assert next(csv.reader(file)) == list(COLUMNS[Path(name).name].__struct_fields__), name


def test_environment_yml_installs_the_lock():
    text = (REPOSITORY / "environment.yml").read_text()
    assert "requirements.lock" in text
    assert "python>=3.11" in text


def test_the_workflow_runs_the_two_commands_and_keeps_the_report():
    (job,) = yaml.safe_load((REPOSITORY / ".github" / "workflows" / "ci.yml").read_text())["jobs"].values()
    ran = [step["run"] for step in job["steps"] if "run" in step]
    assert ran[:2] == ["make demo", "make test"]
    kept = job["steps"][-1]["with"]["path"].split()
    assert ran[2].split()[-1] in kept
    assert "demo/reports" in kept


def test_a_commit_is_checked_by_the_tools_that_make_test_runs():
    (local,) = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())["repos"]
    entries = {hook["id"]: hook["entry"].split(" --force-exclude")[0] for hook in local["hooks"]}
    makefile = (REPOSITORY / "Makefile").read_text()
    assert set(entries) == {"ruff-check", "ruff-format", "mypy"}
    assert all(entry.replace(".venv/bin", "$(BIN)") in makefile for entry in entries.values())


def test_the_citation_names_this_version_and_the_paper():
    cited = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert (cited["version"], cited["license"]) == (project["version"], project["license"])
    assert cited["preferred-citation"]["title"].startswith("SegNeXt: Rethinking")
