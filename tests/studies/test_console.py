"""`segnext`: every command by one name, the Tab key, and an installed package far from any checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import REPOSITORY, does, needs

from segnext.config import Model
from segnext.model import SegNeXt
from studies.__main__ import COMMANDS, WIDTH, lines
from studies.tables import study

OF_PROGRAMS = {"studies.worker", "studies.records.snapshot", "studies"}  # started by programs; and `segnext` itself


def commands() -> set[str]:
    """The modules of the three packages that have a `main`, as `python -m` takes them."""
    found = set()
    for package in ("segnext", "studies", "reports"):
        for path in (REPOSITORY / package).rglob("*.py"):
            if "\ndef main(" in path.read_text(encoding="utf-8"):
                found.add(".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__main__"))
    return found


def test_segnext_has_every_command():
    assert commands() - OF_PROGRAMS - set(COMMANDS.values()) == set()
    assert set(COMMANDS.values()) <= commands()


def test_help_has_a_line_for_each_command_that_fits_a_terminal():
    said = does("studies", "--help")
    for name, what in lines().items():
        (line,) = (line for line in said.splitlines() if line.startswith(f"  {name} "))
        assert what.split()[0] in line
        assert len(line) <= WIDTH, line


def test_help_imports_neither_torch_nor_any_command():
    ask = "import sys, studies.__main__ as m\ntry: m.main(['--help'])\nexcept SystemExit: pass\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", ask], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert {"torch", *COMMANDS.values()} & set(done.stdout.splitlines()[-1].split()) == set()


def test_a_command_says_and_returns_what_its_module_does():
    assert does("studies", "list", "table7", "--json") == does("studies.list", "table7", "--json")
    assert does("studies", "list", "tabel7", code=2) == does("studies.list", "tabel7", code=2)
    assert does("studies", "data", "show", "diagnostic/none", code=2) == does(
        "segnext.data", "show", "diagnostic/none", code=2
    )


def test_a_command_that_does_not_exist_is_a_usage_error_with_the_nearest_name():
    assert "there is no command 'stauts'; did you mean status?" in does("studies", "stauts", code=2)


# The Tab key

ROWS = [f"table7/{row.slug}" for row in study("table7").trained]


@needs("completion", "argcomplete", target="tests-extras")
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("segnext ru", ["run"]),
        ("segnext run table1", ["table1", "table10", "table11", "table12", "table1/*"]),
        ("segnext run table7/c", ["table7/c", "table7/c-stage1"]),
        ("segnext run table6 table7/", ROWS),
        ("segnext run table7 --protocol q", ["quick", "quick-full"]),
        ("segnext run table7 --clus", ["--cluster"]),
        ("segnext published add table7/", ROWS),
        ("segnext report table", [f"table{number}" for number in range(1, 13)]),
        ("segnext data sh", ["show"]),
    ],
)
def test_tab_completes_in_a_real_bash(typed: str, offered: list[str], tmp_path: Path):
    script = tmp_path / "segnext"
    script.write_text(f"#!{sys.executable}\nimport sys\nfrom studies.__main__ import main\nsys.exit(main())\n")
    script.chmod(0o755)
    shell = (
        'eval "$("$1" -m argcomplete.scripts.register_python_argcomplete segnext)"; COMP_LINE=$2; COMP_POINT=${#2}; '
        'COMP_TYPE=9; _python_argcomplete segnext; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    own = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(REPOSITORY)}
    words = ["bash", "-c", shell, "bash", sys.executable, typed]
    done = subprocess.run(words, env=own, capture_output=True, text=True, check=True, timeout=120)
    found = [line.strip() for line in done.stdout.splitlines()]
    rows = [f"table1/{row.slug}" for row in study("table1").trained]
    assert found == [word for name in offered for word in (rows if name == "table1/*" else [name])], done.stderr


# An installed package


@pytest.mark.long
def test_a_wheel_works_far_from_any_checkout_and_says_what_only_a_checkout_has(tmp_path: Path):
    source, site, away = tmp_path / "source", tmp_path / "site", tmp_path / "away"
    for package in ("segnext", "studies", "reports"):
        shutil.copytree(REPOSITORY / package, source / package, ignore=shutil.ignore_patterns("__pycache__", "out"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    away.mkdir()
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    wheel = [
        *pip,
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--wheel-dir",
        str(tmp_path),
        str(source),
    ]
    subprocess.run(wheel, check=True, cwd=away)
    (built,) = tmp_path.glob("segnext_study-*.whl")
    with zipfile.ZipFile(built) as file:
        names = set(file.namelist())
    assert {name for name in names if name.startswith("tests")} == set()
    data = {"studies/declare/published.csv", "reports/write/templates/page.css"}
    code = {f"{module.replace('.', '/')}.py" for module in commands() - {"segnext.data", "studies"}}
    assert data | code <= names
    subprocess.run(
        [*pip, "install", "--no-deps", "--no-index", "--target", str(site), str(built)], check=True, cwd=away
    )

    bare = {name: value for name, value in os.environ.items() if not name.startswith("SEGNEXT_")}
    bare |= {"PYTHONPATH": str(site), "COLUMNS": "200"}

    def said(*words: str, code: int = 0, **more: str) -> str:
        done = subprocess.run(
            [sys.executable, *words],
            cwd=away,
            env=bare | more,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    build = (
        "import segnext\nnetwork = segnext.SegNeXt(segnext.Model('T'), 150)\n"
        "print(segnext.__file__, sum(p.numel() for p in network.parameters()))"
    )
    network = SegNeXt(Model("T"), 150)
    assert said("-c", build).split() == [
        f"{site}/segnext/__init__.py",
        str(sum(p.numel() for p in network.parameters())),
    ]
    segnext = str(site / "bin" / "segnext")
    assert "  run " in said(segnext, "--help")
    assert "table7/c-stage1" in said(segnext, "list", "table7")
    needed = said(segnext, "status", code=2)
    assert "results/ is in a checkout, and this is an installed package: set $SEGNEXT_RESULTS to a folder" in needed
    assert "name --out DIR" in said(segnext, "report", code=2)
    folders = {f"SEGNEXT_{name}": str(tmp_path / name) for name in ("RESULTS", "RUNS")}
    assert "nothing started" in said(segnext, "run", "table7/c@0", "--protocol", "smoke", "--dry-run", **folders)
    assert not (site / "results").exists()
    assert not (site / "runs").exists()
