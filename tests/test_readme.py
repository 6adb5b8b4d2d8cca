"""The README is true: its commands run, its files exist, its exit codes are the command's."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import picture
import pytest
import tour
from conftest import REPOSITORY
from processes import camvid

from reports.write import summary
from studies.tables import studies

NAMES = ("README.md", "segnext/README.md", "segnext/data/README.md", "studies/README.md")
TEXTS = {name: (REPOSITORY / name).read_text() for name in NAMES}
TEXT = TEXTS["README.md"]
COMMANDS = [
    line.split("  #")[0].strip()
    for text in TEXTS.values()
    for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]
IN_MINUTES = ("python -m reports.build", "python -m studies.run table7/c-stage1@0")
PHOTOGRAPHS = "--data-root /data/camvid"  # hours of training: planned here
# How a command ends where the README's cluster, data and weights are not. All others end with 0.
ENDS = {
    "python -m studies.doctor": (1, "put the dataset there"),
    "python -m studies.run table9 --weights": (2, "/weights/segnext"),
    "python -m studies.figures": (3, "its weights are not in"),
    "python -m segnext.data check ade20k": (3, "put the dataset there"),
    "python -m segnext.data check camvid": (1, "367"),
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git tracks, with a history of its own; beside it CamVid's folders, two frames each."""
    folder = tour.checkout(tmp_path_factory.mktemp("readme") / "checkout")
    git = ["git", "-C", str(folder), "-c", "user.name=A", "-c", "user.email=a@example.org"]
    for words in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "a copy"]):
        subprocess.run([*git, *words], check=True)
    camvid(folder.parent / "data" / "camvid")
    return folder


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(block, id=block.command, marks=pytest.mark.long if block.command.startswith(IN_MINUTES) else ())
        for block in tour.blocks(TEXT)
    ],
)
def test_the_readme_shows_what_its_commands_print(checkout: Path, block: tour.Block):
    printed = block.shown(checkout)
    assert block.alike(printed), f"`make tour` pastes it anew:\n{printed}"


def typed(command: str, checkout: Path) -> subprocess.CompletedProcess[str]:
    """A line as a shell has it; /data and /weights are beside the copy."""
    here = re.sub(r"(?<= )/(data|weights)\b", rf"{checkout.parent}/\1", command)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SEGNEXT_")}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    return subprocess.run(
        here, shell=True, cwd=checkout, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def test_the_other_commands_run_as_they_stand(checkout: Path):
    """Those of `make` are targets: the demo and the tests would run within a test."""
    assert all(any(command.startswith(start) for command in COMMANDS) for start in ENDS), "none is old"
    for command in COMMANDS:
        code, said = next((ends for start, ends in ENDS.items() if command.startswith(start)), (0, ""))
        cut = command.startswith("make") or (PHOTOGRAPHS in command and "studies.run" in command)
        done = typed(f"{command} --dry-run" if cut else command, checkout)
        assert done.returncode == code, f"{command}\n{done.stdout}{done.stderr}"
        assert said in done.stdout + done.stderr, command
        assert "Traceback" not in done.stderr, command


def test_every_command_that_the_readme_names_exists():
    modules = set(re.findall(r"python -m (\w+(?:\.\w+)*)", "\n".join(TEXTS.values())))
    assert len(modules) > 8
    assert {name for name in modules if find_spec(name) is None} == set()


def test_the_readme_opens_with_the_answer_that_the_records_give():
    assert tour.ANSWER.search(TEXT)
    assert tour.answered(TEXT) == TEXT, "make tour pastes it"


def test_the_picture_of_the_first_page_shows_todays_answer():
    taken = json.loads((REPOSITORY / "reports" / "page.json").read_text())
    assert taken == {"answer": picture.shown()}, "make picture takes it anew"


@pytest.mark.parametrize("name", TEXTS)
def test_every_file_that_a_readme_names_exists(name: str):
    """In backticks from the top of the repository, in links from where the README lies."""
    quoted = set(re.findall(r"`((?:segnext|studies|results|reports|slurm|tests)/[\w./]*\w)`", TEXTS[name]))
    linked = set(re.findall(r"\]\(([\w./-]+)\)", TEXTS[name]))
    assert quoted | linked
    apart = {"reports/out", "studies/tables/TABLE.py"}  # what is built; any table's
    assert {path for path in quoted - apart if not (REPOSITORY / path).exists()} == set()
    assert {path for path in linked if not (REPOSITORY / name).parent.joinpath(path).exists()} == set()


def test_every_picture_of_a_readme_is_a_page_or_pinned_to_the_records_that_it_shows():
    pinned = {f"reports/summary/{name}.{ending}" for name, ending in summary.PICTURES.items()}
    shown = {
        (REPOSITORY / name).parent.joinpath(path).resolve().relative_to(REPOSITORY).as_posix()
        for name, text in TEXTS.items()
        for path in re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)
    }
    assert {"reports/page.png"} < shown <= {"reports/page.png", *pinned}


def test_the_map_names_every_study():
    for slug in studies():
        assert any(f"{slug}.py" in text for text in TEXTS.values()), slug


def test_the_exit_codes_are_those_that_the_command_documents():
    import studies.run

    table = dict(re.findall(r"^\| (\d) \| (\w+)", TEXTS["studies/README.md"], re.MULTILINE))
    documented = dict(re.findall(r"(\d) (\w+)", studies.run.__doc__.split("Exit codes:")[1].split("\n\n")[0]))
    assert table == documented


def test_the_set_up_pins_every_package_with_its_digest():
    lock = (REPOSITORY / "requirements.lock").read_text()
    entries = re.split(r"\n(?=\S)", "\n".join(line for line in lock.splitlines() if not line.lstrip().startswith("#")))
    assert len(entries) > 50
    assert all("--hash=sha256:" in entry for entry in entries if entry.strip())
    assert not re.search(r"https?://", lock)


def test_every_file_fits_on_any_machine():
    """No machine's own paths in what is committed."""
    pattern = re.compile(r"(?<![\w.])/(?:work|farm|root|home/\w+)/")
    done = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    for name in done.stdout.splitlines():
        path = REPOSITORY / name
        if (
            path.suffix in {".py", ".md", ".json", ".csv", ".toml", ".yml", ".html", ".svg", ".tex", ""}
            and path.is_file()
        ):
            text = path.read_bytes().decode(errors="ignore")
            assert name == os.path.relpath(__file__, REPOSITORY) or not pattern.search(text), name
