"""Whatever a file holds and whatever is typed: no traceback, a documented exit code, the path named, nothing hidden.

`make fuzz` tries a thousand of each, `make tests-long` a hundred. A failure names the number that makes it again.
"""

from __future__ import annotations

import io
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import FUZZ
from PIL import Image
from records import add_cost, add_curve, add_run

from reports import build
from segnext.config import Execution
from segnext.data import DataError
from segnext.data.images import read_colours, read_image, read_label, read_size
from studies import cancel, diff, doctor, evidence, figures, gc, logs, run, shortcuts, show, status
from studies import list as listing
from studies import next as to_run_next
from studies.declare.protocols import protocol
from studies.plan.estimate import keep
from studies.plan.jobspec import specification
from studies.plan.runs import plan, select
from studies.records.store import Store
from studies.records.typed import to_json
from studies.records.working_state import Claim, Process, Submission
from studies.records.workspace import Workspace
from studies.tables.table7 import STUDY

pytestmark = [pytest.mark.long, pytest.mark.fuzz]

CODES = range(6)  # as every command documents
VERBS: dict[str, Callable[[list[str]], int]] = {
    "status": status.main,
    "list": listing.main,
    "next": to_run_next.main,
    "show": show.main,
    "run": run.main,
    "logs": logs.main,
    "diff": diff.main,
    "cancel": cancel.main,
    "gc": gc.main,
    "doctor": doctor.main,
    "evidence": evidence.main,
    "figures": figures.main,
    "shortcuts": shortcuts.main,
    "build": build.main,
}


def tried(verb: str, words: list[str]) -> int:
    """The exit code of a command; anything but one is a traceback."""
    try:
        return VERBS[verb](words)
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else -1


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Two started runs, the first of which is damaged later, with records of every other kind; their ids."""
    quick = protocol("quick")
    runs = plan(select(["table7/c"], quick, None, (0, 1)), quick, None, Store())
    store = Store()
    for planned in runs:
        workspace = Workspace(planned.id)
        workspace.folder.mkdir(parents=True)
        workspace.write_spec(specification(planned, None, None, None, Execution(), "python -m studies.run table7"))
        login = Process("login", 100, "1")
        workspace.submission.create(
            Submission("segnext-1", planned.run.seed, 1.7e9, "ann", login, "0123456789ab", "25_0")
        )
        with workspace.attempt() as entry:
            entry.cause, entry.message = "diverged", "the loss is [inf] at iteration 3"
        (workspace.folder / "claim.json").write_text(to_json(Claim(login, "x")))
        os.utime(workspace.folder / "claim.json", (1, 1))
        workspace.curve.write_text('{"iteration": 100, "miou_ss": 3.5}\n')
    for row in STUDY.trained:
        add_cost(store, STUDY, row)
    for seed in (2, 3):
        add_curve(store, add_run(store, STUDY, STUDY.row("a"), "quick", seed, 41.0 + seed))
    keep(runs[0].run, {"images_per_second": 10.0, "device": "cpu", "precision": "float32", "compiled": ""})
    monkeypatch.setenv("PATH", str(tmp_path / "no programs"))  # no SLURM answers, and nothing is executed
    first, second = (planned.id for planned in runs)
    return first, second


def mutated(draw: random.Random, content: bytes) -> bytes:
    """The content of a file after a crash, a disk, an editor or a script."""
    match draw.randrange(7):
        case 0:
            return b""
        case 1:
            return content[: draw.randrange(len(content) + 1)]
        case 2:
            changed = bytearray(content)
            for _ in range(draw.randint(1, 8)):
                changed[draw.randrange(len(changed))] = draw.randrange(256)
            return bytes(changed)
        case 3:
            return content + content
        case 4:
            return draw.choice([b"[]", b"null", b"3", b'"x"', b"[" * 100_000, b"\xff\xfe", b"NaN", b"{}", b"=1+1"])
        case _:
            return _leaf_changed(draw, content)


def _leaf_changed(draw: random.Random, content: bytes) -> bytes:
    junk = [
        None,
        -1,
        0,
        1.5,
        1e300,
        True,
        "",
        "[/x]",
        "\x1b[2J",
        "../../x",
        [],
        {},
        ["x"],
        {"x": 1},
        10**30,
        "x" * 5000,
    ]
    try:
        data = json.loads(content)
    except ValueError:
        return content[::-1]
    places: list[tuple[object, object]] = []

    def walk(node: object) -> None:
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in items:
            places.append((node, key))
            walk(value)

    walk(data)
    if not places:
        return content
    node, key = draw.choice(places)
    if draw.random() < 0.3 and isinstance(node, dict):
        del node[key]
    else:
        node[key] = draw.choice(junk)  # type: ignore[index]
    return json.dumps(data).replace('"NaN"', "NaN").encode()


def damaged(draw: random.Random, path: Path) -> str:
    """Damage a file; says how."""
    content = path.read_bytes()
    path.unlink()
    match draw.randrange(12):
        case 0:
            path.mkdir()
            return "a folder"
        case 1:
            os.mkfifo(path)
            return "a pipe"
        case 2:
            path.symlink_to(path)
            return "a loop"
        case _:
            path.write_bytes(now := mutated(draw, content))
            return repr(now[:300])


@pytest.mark.parametrize("part", range(4))
def test_a_damaged_file_is_named_and_hides_no_other_run(
    part: int, lab: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    first, second = lab
    kept = tmp_path / "kept"
    for name in ("runs", "results"):
        shutil.copytree(tmp_path / name, kept / name)
    files = [
        path.relative_to(tmp_path)
        for folder in (tmp_path / "runs" / first, tmp_path / "runs" / "probes", tmp_path / "results")
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    out = str(tmp_path / "out")
    for number in range(part, FUZZ, 4):
        draw = random.Random(number)
        name = draw.choice(files)
        how = damaged(draw, tmp_path / name)
        about = f"input {number}, {name}: {how}"
        capsys.readouterr()
        code = tried("status", ["--json"])
        said = capsys.readouterr()
        assert code in (0, 1, 4), about  # no scheduler answers here
        shown = {line["run"] for line in json.loads(said.out)}
        assert second in shown, about
        assert first in shown or str(name) in said.err.replace("\n", ""), about
        verbs = [["show", second], ["run", "table7/c@0", "--protocol", "quick", "--dry-run"], ["cancel", "all"]]
        verbs += [["logs", "table7/c@1"], ["gc"], ["diff", first, second], ["status"]]
        for words in draw.sample(verbs, 2) + [["build", "table7", "--out", out]] * (draw.random() < 0.1):
            assert tried(words[0], words[1:]) in CODES, f"{about}: {words}"
            told = capsys.readouterr()
            assert "Traceback" not in told.err, f"{about}: {words}"
        for folder in ("runs", "results"):
            shutil.rmtree(tmp_path / folder)
            shutil.copytree(kept / folder, tmp_path / folder)


WORDS = [
    *(
        "table7",
        "table7/c",
        "table7/c@0",
        "table99",
        "all",
        "/",
        "@",
        "table7/c@-1",
        "table7/[/x]",
        "\x1b[2J",
        "",
        "=1",
    ),
    *("--protocol", "quick", "paper", "camvid", "--rows", "a,b", "--seeds", "0-3", "3-0", "0-99999999999", "1,,2"),
    *(
        "--json",
        "--dry-run",
        "--limit-iterations",
        "0",
        "-5",
        "1e9",
        "nan",
        "10",
        "--only",
        "cost",
        "evaluate",
        "train",
    ),
    *(
        "--cluster",
        "slurm",
        "local",
        "--profile",
        "lab",
        "no.toml",
        "--partition",
        "a\nb",
        "--time",
        "--device",
        "cuda:99",
    ),
    *("--precision", "float8", "--threads", "--workers", "--max-parallel", "--retry", "code", "--rerun", "done"),
    *(
        "--data-root",
        "/nowhere",
        "--weights",
        "--pretrained",
        "--ham-seeds",
        "--datasets",
        "strips",
        "--out",
        "-n",
        "5",
    ),
    *("--gpu-hours", "inf", "0.5", "--with", "'", "paper-pretrained"),
    *("--miou", "50", "500", "--source", "--follow", "--check", "--help", "--", "--no-such", "--nodes", "\udcff"),
]


@pytest.mark.parametrize("verb", VERBS)
def test_whatever_is_typed_has_a_documented_answer(
    verb: str, lab: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    for name in ("measure_costs", "measure_speeds", "carry_out"):  # what would take minutes
        monkeypatch.setattr(f"studies.run.{name}", lambda *_, **__: 0)
    monkeypatch.setattr("studies.shortcuts.probed", list)  # without a word it measures them all, and records them
    before = {path for path in tmp_path.rglob("*") if "out" not in path.parts}
    for number in range(FUZZ // len(VERBS) + 1):
        draw = random.Random(f"{verb} {number}")
        words = [draw.choice(WORDS) for _ in range(draw.randint(0, 7))]
        if verb == "build":
            words += ["--out", str(tmp_path / "out"), *["--check"] * (number > 5)]
        words = [word for word in words if word not in ("-f", "--follow", "--watch")]
        code = tried(verb, words)
        told = capsys.readouterr()
        assert code in CODES, f"{verb} {words}: {code}"
        assert "Traceback" not in told.err, f"{verb} {words}"
        assert code != 2 or told.err.strip(), f"{verb} {words}: it does not say what is wrong"
    new = {path for path in tmp_path.rglob("*") if "out" not in path.parts} - before
    assert not [path for path in new if path.suffix != ".csv" and path.name != "SHA256SUMS"], (
        "nothing that was not asked for is written"
    )


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_whatever_an_image_holds_it_is_read_or_refused_by_name(kind: str, tmp_path: Path):
    path = tmp_path / "a.png"
    for number in range(FUZZ):
        draw = random.Random(number)
        size = draw.randint(1, 40), draw.randint(1, 40)
        mode = draw.choice(["1", "L", "P", "RGB", "RGBA", "I;16"] if kind == "PNG" else ["L", "RGB", "CMYK"])
        buffer = io.BytesIO()
        Image.new(mode, size).save(buffer, kind)
        path.write_bytes(mutated(draw, buffer.getvalue()))
        for read in (read_image, read_colours, read_label, read_size):
            try:
                read(path)
            except DataError as error:
                assert str(path) in str(error), f"input {number}"  # noqa: PT017  both outcomes are judged
