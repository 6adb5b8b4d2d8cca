"""The README is true: its commands run, its files exist, its exit codes are the command's."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import picture
import pytest
from conftest import REPOSITORY
from processes import camvid

from reports.write import summary
from studies.tables import studies

TEXT = (REPOSITORY / "README.md").read_text()
COMMANDS = [
    line.split("  #")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]


IN_MINUTES = (
    "python -m studies.run table7 --protocol camvid-half",
    "python -m studies.run table7/c@0 --protocol camvid-half",
)
# How a command ends where the README's cluster, weights and frames are not. All others end with 0.
ENDS = {
    "python -m studies.doctor": (1, "put the dataset there"),
    "python -m studies.run table9 --weights": (2, "/weights/segnext"),
    "python -m studies.figures": (2, "has no record"),
    "python -m segnext.data check": (1, "367"),
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A scratch copy with its own history, where costs are measured and nothing has run; CamVid's folders beside it."""
    folder = tmp_path / "checkout"
    away = shutil.ignore_patterns("__pycache__", "out", "summary")
    for name in ("segnext", "studies", "reports", "slurm"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=away)
    for path in (path for path in REPOSITORY.glob("[!.]*") if path.is_file()):
        shutil.copy(path, folder)
    (folder / "results" / "records").mkdir(parents=True)
    for path in (REPOSITORY / "results" / "records").glob("cost-*.json"):
        shutil.copy(path, folder / "results" / "records")
    git = ["git", "-C", str(folder), "-c", "user.name=A", "-c", "user.email=a@example.org"]
    for words in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "a copy"]):
        subprocess.run([*git, *words], check=True)
    camvid(folder.parent / "data" / "camvid")
    (folder.parent / "bin").mkdir()
    python = folder.parent / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    return folder


def typed(command: str, checkout: Path) -> subprocess.CompletedProcess[str]:
    """A line of the README as a shell has it; /data and /weights are the copy's."""
    here = re.sub(r"(?<= )/(data|weights)\b", rf"{checkout.parent}/\1", command)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SEGNEXT_")}
    environment["PATH"] = f"{checkout.parent / 'bin'}:{environment['PATH']}"
    return subprocess.run(
        here, shell=True, cwd=checkout, env=environment, capture_output=True, text=True, timeout=500, check=False
    )


@pytest.mark.parametrize("cut", ["--dry-run", pytest.param("--limit-iterations 1", marks=pytest.mark.long)])
def test_the_commands_of_the_readme_run_from_top_to_bottom(checkout: Path, cut: str):
    assert all(any(command.startswith(start) for command in COMMANDS) for start in (*IN_MINUTES, *ENDS)), "none is old"
    for command in COMMANDS:
        if command.startswith("make"):
            command += " --dry-run"
        elif command.startswith(IN_MINUTES):
            command += f" {cut}"
        code, said = next((ends for start, ends in ENDS.items() if command.startswith(start)), (0, ""))
        done = typed(command, checkout)
        assert done.returncode == code, f"{command}\n{done.stdout}{done.stderr}"
        assert said in done.stdout + done.stderr, command
        assert "Traceback" not in done.stderr, command
    for name in ("strips.png", "reports/out/index.html", "reports/summary/table7.md", "results/table7.csv"):
        assert (checkout / name).stat().st_size > 0, name


def test_every_command_that_the_readme_names_exists():
    modules = set(re.findall(r"python -m (\w+(?:\.\w+)*)", TEXT))
    assert len(modules) > 8
    assert {name for name in modules if find_spec(name) is None} == set()


def test_the_readme_opens_with_the_answer_that_the_records_give():
    answer = picture.answer((REPOSITORY / "reports" / "summary" / "README.md").read_text(encoding="utf-8"))
    held = TEXT.partition("writes that, a test compares -->\n")[2].partition("\n<!-- end of the answer -->")[0]
    assert held == answer.replace("](", "](reports/summary/")


def test_the_picture_of_the_first_page_shows_todays_answer():
    taken = json.loads((REPOSITORY / "reports" / "page.json").read_text())
    assert taken == {"answer": picture.shown()}, "make picture takes it anew"


def test_every_file_that_the_readme_names_exists():
    named = set(re.findall(r"`((?:segnext|studies|results|reports|slurm|tests)/[\w./]*\w)`", TEXT))
    named |= set(re.findall(r"\]\(([\w./-]+)\)", TEXT)) | set(PICTURES)
    assert named
    assert {name for name in named - {"reports/out"} if not (REPOSITORY / name).exists()} == set()  # that is built


PICTURES = re.findall(r"!\[[^]]*\]\(([^)]+)\)", TEXT)


def test_every_picture_of_the_readme_is_a_page_or_pinned_to_the_records_that_it_shows():
    pinned = {f"reports/summary/{name}.png" for name in summary.PICTURES}
    assert set(PICTURES) == {"reports/page.png", *pinned}


def test_the_map_names_every_study():
    for slug in studies():
        assert f"studies/tables/{slug}.py" in TEXT or f"{slug}.py" in TEXT, slug


def test_the_exit_codes_are_those_that_the_command_documents():
    import studies.run

    table = dict(re.findall(r"^\| (\d) \| (\w+)", TEXT, re.MULTILINE))
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
