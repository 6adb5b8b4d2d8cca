"""The README is true: its commands run, its files exist, its exit codes are the command's."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import picture
import pytest
from conftest import REPOSITORY

from reports.write import summary
from studies.tables import studies

TEXT = (REPOSITORY / "README.md").read_text()
COMMANDS = [
    line.split("  #")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]


def test_there_are_commands_to_check():
    assert len(COMMANDS) >= 8


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("python")])
def test_every_python_command_of_the_readme_runs(command: str, tmp_path: Path):
    words = shlex.split(command)
    words[0] = sys.executable
    expected, said = 0, ""
    if words[2:4] == ["segnext.data", "show"]:
        words[words.index("--out") + 1] = str(tmp_path / "sheet.png")  # it overwrites nothing unasked
    if words[2] in ("reports.build", "reports.compare"):
        words += ["--out", str(tmp_path / "out")]
        if "--check" in words:
            expected, said = 1, "out of date"
    elif words[2] == "studies.figures":
        expected, said = 2, "has no record"
    elif words[2] == "studies.doctor":  # there is no such cluster here
        expected = 1
    elif "--weights" in words:  # the README's folders are not here: the command has to say so
        expected, said = 2, "/weights/segnext"
    elif "evaluate" in words:
        expected, said = 3, "none of these runs has finished weights"
    elif "--data-root" in words and "--dry-run" not in words:
        expected, said = 3, "/data/camvid"
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == expected, done.stdout + done.stderr
    assert said in done.stderr
    if words[2] == "reports.build" and not expected:
        for name in ("index.html", "summary/table7.md", "table7.tex", "table7.csv"):
            assert (tmp_path / "out" / name).stat().st_size > 0


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make")])
def test_every_make_command_of_the_readme_is_a_target(command: str):
    done = subprocess.run([*command.split(), "--dry-run"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


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
