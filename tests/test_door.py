"""How commands start, print and end: foreign text, closed pipes, Ctrl-C, other locales. Real processes and signals."""

from __future__ import annotations

import ast
import csv
import ctypes
import importlib
import io
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import chain, groupby
from pathlib import Path

import pytest
from conftest import REPOSITORY, interruptible
from processes import LONGER, eventually, run_id, trained
from records import add_run
from terminal import WIDTH, everything, seen

from reports.write.formats import to_csv
from segnext import door
from segnext.config import Execution
from segnext.door import Column
from studies.declare.protocols import protocol
from studies.facts import files
from studies.plan.jobspec import specification
from studies.plan.options import number, numbers
from studies.plan.runs import PlannedRun, plan, select
from studies.records import attempts
from studies.records.store import Store
from studies.records.workspace import Workspace
from studies.tables import study

CONTINUES = "stopped: the same command continues"
PACKAGES = ("segnext", "studies", "reports")
NOT_AT_THE_DOOR = {"studies.worker": "started by other programs, prints to its run's log"}
TO_THE_LOG = {*NOT_AT_THE_DOOR, *(f"studies.launch.{name}" for name in ("work", "tail", "ending", "sharing", "stage"))}
OBEYED = "\x1b[31mred\x07\x9b2J"
FOREIGN = f"a[b] [h, w] <i>&</i> /data/[/old]/x.jpg \N{CHECK MARK} {OBEYED}"
SHOWN = r"\u001b[31mred\u0007\u009b2J"
SMOKE = ("--protocol", "smoke", "--limit-iterations", "2")

# By command: words that make it print foreign text, and how it then ends.
COMMANDS: dict[str, tuple[tuple[str, ...], int]] = {
    "segnext.data": (("check", "camvid", "--split", "train", "--data-root", "DATA", "--processes", "1"), 1),
    "segnext.predict": ((f"[/old]{OBEYED}.jpg", "--weights", "DATA"), 2),
    "segnext.weights": (("fetch", f"[/old]{OBEYED}"), 2),
    "studies": ((f"[/old]{OBEYED}",), 2),
    "studies.export": (("tensorboard", f"table7/[old]{OBEYED}"), 2),
    "studies.list": ((f"[/old]{OBEYED}",), 2),
    "studies.status": ((), 1),
    "studies.next": ((f"[/old]{OBEYED}",), 2),
    "studies.show": (("table7/c", *SMOKE), 0),
    "studies.run": (("table7/c@0", *SMOKE, "--dry-run"), 0),
    "studies.diff": (("RECORDED", "ANOTHER"), 1),
    "studies.logs": (("table7/c@0",), 0),
    "studies.cancel": ((f"[old]{OBEYED}",), 2),
    "studies.doctor": (("--cluster", "local"), 0),
    "studies.evidence": (("table7/c@0", "--miou", "1", "--source", FOREIGN, "--protocol", f"[/old]{OBEYED}"), 2),
    "studies.probe": (("table7/c", *SMOKE, "--device", f"[/old]{OBEYED}"), 3),
    "studies.gc": ((), 0),
    "studies.published": ((f"table9/[old]{OBEYED}",), 2),
    "studies.figures": (("--rows", f"table7/c[old]{OBEYED}"), 2),
    "studies.shortcuts": (("--datasets", f"[/old]{OBEYED}"), 2),
    "studies.records.snapshot": ((f"[/old]{OBEYED}",), 2),
    "reports.compare": ((f"[/old]{OBEYED}", "HEAD"), 2),
    "reports.build": (("table7", "--logs", "--out", f"OUT/[/old]{OBEYED}"), 0),
}

SLOW = {"studies.probe", "studies.doctor"}  # they import torch, several times
EACH = [pytest.param(name, marks=pytest.mark.long if name in SLOW else ()) for name in COMMANDS]


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
        if name.split(".")[0] != "segnext" and name not in TO_THE_LOG:
            assert "print" not in called, f"{name}: segnext.door.say"


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """A failed run and two finished ones whose files are full of foreign text; gives a command's words."""
    monkeypatch.setenv("SEGNEXT_RUNS", str(tmp_path / f"runs [/old]{OBEYED}"))
    for row in ("b", "c"):
        add_run(Store(), study("table7"), study("table7").row(row), "smoke", 1, 50.0, 2, processor=f"{row} {FOREIGN}")
    planned_runs = [a_planned_run(row, seed) for row, seed in (("b", 1), ("c", 1), ("c", 0))]
    for planned in planned_runs:
        Workspace(planned.id).write_spec(specification(planned, 2, None, None, Execution(), f"command {FOREIGN}"))
    failed = Workspace(planned_runs[-1].id)
    with failed.attempt() as attempt:
        attempt.cause, attempt.message, attempt.host, attempt.node = "data", FOREIGN, FOREIGN, FOREIGN
    failed.log.write_text(f"{FOREIGN}\n" * 20_000, encoding="utf-8")
    finished = Workspace(planned_runs[0].id)
    finished.states.mkdir()
    (finished.states / "00000002.pt").touch()
    finished.weights.touch()
    for folder in ("train", "trainannot"):
        (tmp_path / "CamVid" / folder).mkdir(parents=True)
    (tmp_path / "CamVid" / "train" / f"[old]{OBEYED}.png").write_bytes(b"no image")
    names = {"RECORDED": planned_runs[0].id, "ANOTHER": planned_runs[1].id, "DATA": str(tmp_path / "CamVid")}

    def words(name: str) -> list[str]:
        given = (names.get(word, word.replace("OUT", str(tmp_path))) for word in COMMANDS[name][0])
        return [sys.executable, "-m", name, *given]

    return words


def a_planned_run(row: str, seed: int) -> PlannedRun:
    chosen = protocol("smoke")
    *_, planned = plan(select([f"table7/{row}@{seed}"], chosen, None, None), chosen, 2, Store())
    return planned


def ended(words: list[str], **environment: str) -> subprocess.CompletedProcess[bytes]:
    own = {**os.environ, "COLUMNS": "300", **environment}
    return subprocess.run(words, cwd=REPOSITORY, env=own, capture_output=True, check=False, timeout=120)


@pytest.mark.parametrize("name", EACH)
def test_brackets_are_text_and_no_terminal_obeys_what_a_file_says(name: str, lab):
    done = ended(lab(name), PYTHONUTF8="1")
    said = (done.stdout + done.stderr).decode()
    assert "Traceback" not in said
    assert done.returncode == COMMANDS[name][1], said
    assert "old]" in said
    assert not set(said) & set(OBEYED) - set("[31mred2J")


@pytest.mark.parametrize("name", EACH)
def test_a_locale_without_the_letters_changes_only_the_letters(name: str, lab):
    done = ended(lab(name), LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    said = done.stdout + done.stderr
    assert b"Traceback" not in said, said
    assert done.returncode == COMMANDS[name][1], said


def test_a_mark_that_an_encoding_does_not_have_is_an_escape(lab):
    assert rb"\u2713 results: " in ended(lab("studies.doctor"), PYTHONIOENCODING="latin-1").stdout
    (shown,) = json.loads(ended([*lab("studies.status"), "--json", "table7/c@0"], PYTHONIOENCODING="latin-1").stdout)
    assert shown["detail"] == FOREIGN


def unheard(words: list[str]) -> subprocess.CompletedProcess[bytes]:
    """The command into a pipe whose reader has left."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        return subprocess.run(words, cwd=REPOSITORY, stdout=pipe, stderr=subprocess.PIPE, check=False, timeout=120)


@pytest.mark.parametrize("name", EACH)
def test_where_nobody_listens_a_command_ends_as_it_would_have(name: str, lab):
    done = unheard(lab(name))
    assert b"BrokenPipe" not in done.stderr
    assert b"Traceback" not in done.stderr
    assert done.returncode == COMMANDS[name][1], done.stderr


def test_help_that_nobody_reads_is_no_error(lab):
    done = unheard([*lab("studies.list")[:3], "--help"])
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_log_that_is_followed_ends_with_its_reader(lab):
    following = subprocess.Popen([*lab("studies.logs"), "-f"], cwd=REPOSITORY, stdout=subprocess.PIPE)
    assert following.stdout is not None
    assert following.stdout.readline() == b"--- log.txt\n"
    following.stdout.close()
    log = Workspace(a_planned_run("c", 0).id).log

    def over() -> bool:
        with log.open("a") as file:
            file.write("more\n")
        return following.poll() is not None

    try:
        eventually(over, 30)
    finally:
        following.kill()
    assert following.wait() == 0


def test_a_terminal_shows_colours_of_ours_and_none_of_a_files(lab):
    ours, theirs = pty.openpty()
    own = {**os.environ, "TERM": "xterm", "COLUMNS": "300"}
    shown = subprocess.Popen(lab("studies.status"), cwd=REPOSITORY, stdout=theirs, env=own)
    os.close(theirs)
    said = everything(ours)
    assert shown.wait() == 1
    assert b"\x1b[1;31mfailed" in said
    assert SHOWN[:10].encode() in said
    assert b"\x1b[31m" not in said


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\tb\nc", "a\tb\nc"), ("\r\x7f", r"\u000d\u007f"), ("\u202egpj", r"\u202egpj"), ("é [b]✓[/b]", "é [b]✓[/b]")],
)
def test_plain_text_keeps_letters_and_names_what_a_terminal_would_obey(text: str, shown: str):
    assert door.plain(text) == shown
    assert json.loads(door.plain(json.dumps(text, ensure_ascii=False))) == text


# Ctrl-C


@pytest.mark.parametrize("module", ["rich.console", "studies.declare.protocols", "torch"])
def test_ctrl_c_before_the_first_run_starts_says_so_in_a_line_and_exits_5(module: str, runs: Path):
    words = [sys.executable, "-X", "importtime", "-m", "studies.run", "table7/b@0", *LONGER]
    process = subprocess.Popen(
        words, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=interruptible
    )
    assert process.stderr is not None
    while process.stderr.readline().split("|")[-1].strip() != module:
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    told = [line for line in errors.splitlines() if not line.startswith("import time:")]
    assert (process.returncode, told, output) == (5, [CONTINUES], "")
    assert not list(runs.glob("*/spec.json"))


@pytest.mark.usefixtures("measured")
@pytest.mark.long
def test_a_run_whose_output_nobody_reads_any_more_saves_and_exits_5(runs: Path):
    """Ctrl-C ends `tee` at once, and the run has still something to say."""
    words = [sys.executable, "-m", "studies.run", "table7/b@0", *LONGER]
    process = subprocess.Popen(
        words, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=interruptible
    )
    assert process.stdout is not None
    assert process.stderr is not None
    eventually(trained(runs, run_id("b", 30), 3))
    process.stdout.close()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=120) == 5
    with process.stderr:
        assert process.stderr.read() == b""
    (attempt,) = Workspace(run_id("b", 30)).attempts()
    assert attempt.cause == "stopped"


@pytest.mark.usefixtures("measured")
def test_ctrl_c_while_a_run_is_submitted_exits_5_and_the_same_command_submits_it_once(
    tmp_path: Path,
    runs: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """sbatch had accepted when Ctrl-C came, and never came to say so."""
    scripts = {
        "sbatch": f"sed -n 's/^#SBATCH --job-name=//p' \"$2\" >> {tmp_path}/accepted; exec sleep 60",
        "squeue": f"sed 's/$/|812_0|PENDING||Priority/' {tmp_path}/accepted",
        "sacct": "exit 0",
        "scontrol": "echo 'MaxArraySize = 1001'",
        "srun": "exit 0",
    }
    for name, script in scripts.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    words = [sys.executable, "-m", "studies.run", "table7/b@0", *LONGER, "--cluster", "slurm"]
    process = subprocess.Popen(
        words,
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=interruptible,
        start_new_session=True,
    )
    eventually(lambda: (tmp_path / "accepted").exists() and bool((tmp_path / "accepted").read_text()))
    os.killpg(process.pid, signal.SIGINT)  # sbatch hears it, too
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (5, f"{CONTINUES}\n"), output
    again = ended(words).stdout.decode()
    assert "table7/b@0 is queued" in again
    assert len((tmp_path / "accepted").read_text().split()) == 1


# gc


def without_the_rights_of_root() -> None:
    """For `preexec_fn`: a folder without write permission is one for root, too."""
    ctypes.CDLL(None).prctl(24, 1)  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE; others than root have it anyway


def test_what_cannot_be_deleted_is_named_and_the_rest_is_deleted(lab):
    kept, gone = (Workspace(a_planned_run(row, 1).id) for row in ("b", "c"))
    for workspace in (kept, gone):
        workspace.weights.touch()
        for name in ("locked", "free"):
            (workspace.states / name).mkdir(parents=True)
            (workspace.states / name / "00000002.pt").touch()
    elsewhere = gone.folder.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    (gone.states / "link").symlink_to(elsewhere)
    (kept.states / "locked").chmod(0o555)
    words = [*lab("studies.gc"), "--delete"]
    done = subprocess.run(
        words, cwd=REPOSITORY, capture_output=True, text=True, check=False, preexec_fn=without_the_rights_of_root
    )
    (kept.states / "locked").chmod(0o755)
    assert done.returncode == 1, done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    assert line.endswith("states/locked/00000002.pt could not be deleted: Permission denied")
    assert [path.name for path in kept.states.rglob("*")] == ["locked", "00000002.pt"]
    assert not gone.states.exists()
    assert (elsewhere / "kept").exists()
    assert ended(words).returncode == 0
    assert not kept.states.exists()


# Words of the command line and of the environment


@pytest.mark.parametrize("text", ["0-999999999", "0-1000", ",".join(map(str, range(1001))), "0-9" * 3, "9999999999"])
def test_more_seeds_than_anybody_means_are_a_usage_error(text: str, capsys: pytest.CaptureFixture[str]):
    for words in (["studies.run", "--seeds"], ["studies.run", "--ham-seeds"], ["studies.status", "--seeds"]):
        with pytest.raises(SystemExit) as left:
            importlib.import_module(words[0]).main(["table7", words[1], text])
        assert left.value.code == 2
        assert "seeds" in capsys.readouterr().err


def test_a_list_of_seeds_holds_each_once():
    assert numbers("0,1,2-4,3") == (0, 1, 2, 3, 4)
    assert len(numbers("0-999")) == 1000
    assert number("000000000012") == 12


@pytest.mark.long
def test_a_tilde_is_a_home_where_no_shell_has_looked(tmp_path: Path, lab, monkeypatch: pytest.MonkeyPatch):
    home = tmp_path / "home"
    home.mkdir()
    names = {"SEGNEXT_RUNS": "~/runs", "SEGNEXT_RESULTS": "~/results", "SEGNEXT_DATA": "~/data", "HOME": str(home)}
    done = ended([*lab("studies.doctor"), "table7/c", "--protocol", "camvid"], **names)
    said = done.stdout.decode()
    assert f"✓ runs: {home}/runs can be written" in said
    assert f"✓ results: {home}/results can be written" in said
    assert f"{home}/data" in said
    assert not (REPOSITORY / "~").exists()
    assert ended([*lab("reports.build")[:4], "--out=~/out"], **names).returncode == 0
    assert (home / "out" / "index.html").exists()
    unknown = ended(lab("studies.status"), SEGNEXT_RUNS="~nobody-has-this-name/runs")
    assert unknown.returncode == 2
    assert b"$SEGNEXT_RUNS: ~nobody-has-this-name/runs: there is no such home" in unknown.stderr


# Files for other programs


def test_the_pages_show_a_files_brackets_and_tags_as_text(lab, tmp_path: Path):
    out = tmp_path / "pages"
    done = ended([*lab("reports.build")[:4], "--logs", "--out", str(out)])
    assert done.returncode == 0, done.stderr
    written = [path.read_text(encoding="utf-8") for path in out.rglob("*") if path.suffix in {".html", ".md"}]
    assert not any("<i>&</i>" in text for text in written)
    assert any("a[b] [h, w] &lt;i&gt;&amp;&lt;/i&gt; /data/[/old]/x.jpg" in text for text in written)


def test_no_cell_of_a_csv_is_a_formula(lab, tmp_path: Path):
    rows = [{"name": "=1+1", "value": -0.5, "text": "a=b"}, {"name": "@SUM(A1)", "value": None, "text": "-x"}]
    assert to_csv(rows) == "name,value,text\n'=1+1,-0.5,a=b\n'@SUM(A1),,'-x\n"
    for file in (file for file in files.derived(Store()) if file.path.suffix == ".csv"):
        for line in csv.DictReader(io.StringIO(file.content.decode())):
            assert all(re.match(r"[^=+\-@\t\r]|-\d", cell) for cell in line.values() if cell), file.path
    Workspace(a_planned_run("c", 0).id).amend_attempt("=HYPERLINK(A1)", "")
    done = ended(lab("reports.build"))
    assert done.returncode == 1
    assert b"attempts/001.json: Expected `str` matching regex" in done.stderr


def test_the_committed_tables_are_built_again_to_the_same_bytes():
    store = Store(REPOSITORY / "results")
    for path, content in attempts.derived(store).items():
        assert path.read_bytes() == content.encode(), path
    assert [file.path for file in files.derived(store) if not file.current()] == []


# Tables

TABLES = (  # words of commands that print tables
    "segnext.data check camvid --split train --data-root DATA --processes 1",
    "segnext.weights list",
    "studies.diff RECORDED ANOTHER",
    "studies.gc",
    "studies.list",
    "studies.list table6 table9",
    "studies.next table7",
    "studies.published",
    "studies.run table6 --dry-run",
    "studies.run table5 --only cost",
    "studies.show RECORDED",
    "studies.show table9/segformer-b0",
    "studies.status",
    "reports.build table2 table11 --out OUT/out",
    pytest.param("reports.build table9 --out OUT/out", marks=pytest.mark.long),
    "reports.compare OUT/results OUT/other --out OUT/compared",
)
NO_TABLE = ("studies.doctor --cluster local", "studies.status table9", "studies.logs table7/c@0")


@pytest.fixture
def printing(measured: None, lab, tmp_path: Path) -> Callable[[str], list[str]]:
    """The words of a command of TABLES, in a lab with costs; beside it results where two records are others."""
    other = tmp_path / "other" / "records"
    shutil.copytree(tmp_path / "results" / "records", other)
    for path in sorted(other.glob("cost-*.json"))[:2]:
        path.write_text(re.sub(r'"gmacs": \d+', '"gmacs": 9', path.read_text()))
    run_ids = lab("studies.diff")[-2:]

    def words(command: str) -> list[str]:
        names = {"RECORDED": run_ids[0], "ANOTHER": run_ids[1], "DATA": str(tmp_path / "CamVid")}
        given = (names.get(word, word.replace("OUT", str(tmp_path))) for word in command.split())
        return [sys.executable, "-m", *given]

    return words


@pytest.mark.parametrize("command", TABLES)
def test_a_pipe_gets_a_table_as_lines_of_cells_separated_by_tabs(command: str, printing):
    done = ended(printing(command), COLUMNS="80", FORCE_COLOR="")
    said = done.stdout.decode()
    assert done.returncode in (0, 1), done.stderr
    assert not re.search("\x1b|[\N{BOX DRAWINGS LIGHT HORIZONTAL}-\N{BOX DRAWINGS HEAVY LEFT AND LIGHT RIGHT}]", said)
    tables = [list(lines) for is_table, lines in groupby(said.splitlines(), lambda line: "\t" in line) if is_table]
    assert tables, said
    if command.startswith("studies.next"):  # one table, with a sentence and the commands for each step
        tables = [list(chain(*tables))]
    for lines in tables:
        headings, *rows = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        assert rows, headings
        assert {len(row) for row in rows} == {len(headings)}, headings
        assert len(set(headings)) > 1


LONG_WORD = 40  # a path, an address


@pytest.mark.parametrize("command", [*TABLES, *NO_TABLE])
def test_every_line_fits_a_terminal_of_80_columns(command: str, printing):
    """But for a path, and a command that is there to be pasted."""
    done = seen(printing(command), REPOSITORY, os.environ)
    assert done.code in (0, 1), done.errors
    assert "\t" not in done.shown
    for line in done.shown.splitlines():
        apart = "python -m " in line or max(map(len, line.split()), default=0) > LONG_WORD
        assert len(line) <= WIDTH or apart, done.shown


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_a_table_is_narrowed_without_cutting_what_names_a_row(width: int):
    headings = Column("row"), Column("same"), Column("why it is so", folds=True), Column("node", spare=1), Column("")
    why = "an explanation of several words"
    rows = [[f"table7/c-stage1@{seed}", "an equal word", why, f"node{seed}", ""] for seed in (10, 11)]
    lines = [line.plain for line in door.laid_out(headings, rows, width)]
    told = "\n".join(lines)
    assert max(map(len, told.splitlines())) <= width
    assert told.count("table7/c-stage1@1") == 2
    assert told.count("an equal word") == (1 if width < 80 else 2)
    assert ("node10" in told) == (width >= 60)
    assert ("left out here: node" in told) == (width < 60)
    assert set(why.split()) < set(told.split())


def test_a_line_for_a_person_is_broken_between_words_and_never_within_one():
    path = "/scratch/" + "long" * 30
    lines = ["it lies in", path, "since then", "now"]
    assert door.wrapped(f"it lies in {path} since then\nnow", 40).split("\n") == lines


def test_a_process_leaves_without_a_word():
    program = "import segnext.door, torchvision"  # with torch comes Triton, which calls a leak what was not collected
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""
