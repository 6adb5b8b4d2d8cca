"""What a user types: real processes, real files, exit codes, and what is left behind."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY
from processes import LONGER, camvid, command, eventually, run, run_id, trained

from studies.declare.protocols import PROTOCOLS, protocol
from studies.plan.runs import select
from studies.records.store import Store
from studies.tables import studies, study

SMALL = ("--protocol", "quick", "--limit-iterations", "4")


def records(folder: Path) -> dict[str, dict]:
    return {k: v for k, v in Store(folder).records.items() if v["kind"] == "run"}


@pytest.mark.parametrize("module", ["studies.list", "studies.run", "reports.build"])
def test_help_imports_no_torch(module: str):
    code = f"import sys, {module}\ntry: {module}.main(['--help'])\nfinally: assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage: python -m" in done.stdout


def test_list_names_every_study_row_and_protocol_without_torch():
    every = f"studies.list.main([])\nfor name in {[*studies()]}: studies.list.main([name])"
    code = f"import sys, studies.list\n{every}\nassert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for declared in studies().values():
        assert declared.number in done.stdout
        for row in declared.trained:
            assert f"{declared.slug}/{row.slug}" in done.stdout
    assert all(name in done.stdout for name in PROTOCOLS)


def test_a_dry_run_shows_rows_runs_and_states_and_starts_nothing(results: Path, runs: Path):
    code = (
        "import sys, studies.run\n"
        "code = studies.run.main(['table7', '--protocol', 'quick', '--dry-run'])\n"
        "assert 'torch' not in sys.modules\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    table7 = study("table7")
    for seed in PROTOCOLS["quick"].seeds:
        for row in table7.trained:
            assert PROTOCOLS["quick"].run(table7.panel(), row, seed).id in done.stdout
    assert "12 runs: 12 new; 12 would start; 4 costs to measure" in done.stdout
    assert not results.exists()
    assert not runs.exists()


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["tabel7"], "unknown study 'tabel7' (did you mean table7?)"),
        (["table7/c-stage"], "unknown row of table7 'c-stage' (did you mean c-stage1?)"),
        (["table7", "--rows", "a,d"], "unknown row of table7 'd'"),
        (["table7", "--protocol", "quik"], "unknown protocol 'quik' (did you mean quick?)"),
        (["table7@x"], "is not of the form STUDY[/ROW][@seed]"),
        (["table7", "--seeds", "0,x"], "is not a list of seeds"),
        (["table7", "--limit-iterations", "0"], "is not a positive whole number"),
        (["table7", "--cluster", "moon"], "invalid choice: 'moon'"),
    ],
)
def test_a_mistyped_command_exits_2_and_says_what_was_meant(words: list[str], hint: str, results: Path):
    done = run(*words)
    assert done.returncode == 2
    assert hint in done.stderr
    assert "Traceback" not in done.stderr
    assert not results.exists()


def test_a_missing_data_folder_exits_3_names_path_and_split_and_starts_nothing(tmp_path: Path, runs: Path):
    done = run("table7", "--protocol", "camvid-half", "--data-root", str(tmp_path / "nowhere"))
    assert done.returncode == 3
    assert "nothing was started" in done.stderr
    assert "camvid train" in done.stderr
    assert str(tmp_path / "nowhere") in done.stderr
    assert not runs.exists()


def test_the_paper_protocol_without_its_data_or_weights_exits_3_and_says_what_is_missing(tmp_path: Path, runs: Path):
    done = run("table7")
    assert done.returncode == 3
    assert "imagenet1k train: no folder is given" in done.stderr
    assert "--protocol quick needs no data" in done.stderr
    done = run("table7", "--pretrained", str(tmp_path))
    assert done.returncode == 3
    assert "mscan_t.pth are needed" in done.stderr
    assert not runs.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--weights", "/nowhere", "--only", "evaluate"), "there is no such folder"),
        (("--weights", "."), "they go with --only evaluate"),
        (("--ham-seeds", "0,1"), "they go with --only evaluate"),
        (("--pretrained", ".", "--protocol", "quick"), "quick trains from scratch"),
    ],
)
def test_options_that_do_not_go_together_exit_2(words: tuple[str, ...], said: str):
    done = run("table7", *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.long
def test_two_processes_make_the_record_that_one_makes(results: Path, runs: Path, measured: None):
    """Through the command, by torchrun: every image once, the same loss and mIoU to rounding."""
    words = ("table7/c@0", *SMALL)
    assert run(*words, "--gpus", "2").returncode == 0
    (together,) = records(results).values()
    assert together["provenance"]["processes"] == 2
    apart = {"SEGNEXT_RESULTS": str(results.parent / "alone"), "SEGNEXT_RUNS": str(runs.parent / "runs-alone")}
    assert run(*words, **apart).returncode == 0
    (alone,) = records(results.parent / "alone").values()
    assert together["id"] == alone["id"]
    assert together["training"]["final_loss"] == pytest.approx(alone["training"]["final_loss"], rel=1e-4)
    assert together["metrics"]["miou_ss"] == pytest.approx(alone["metrics"]["miou_ss"], abs=0.5)
    pixels = [sum(int(n) for line in record["confusion"] for n in line.split()) for record in (together, alone)]
    assert pixels[0] == pixels[1]


def test_a_results_folder_that_cannot_be_written_exits_3(tmp_path: Path):
    (tmp_path / "file").touch()
    done = run("table7/c@0", *SMALL, SEGNEXT_RESULTS=str(tmp_path / "file" / "results"))
    assert done.returncode == 3
    assert "cannot be written" in done.stderr


def test_selectors_name_studies_rows_and_seeds():
    quick = protocol("quick")
    (whole,) = select(["table7"], quick, None, None)
    assert [row.slug for row in whole.rows] == ["a", "b", "c", "c-stage1"]
    assert whole.seeds == quick.seeds
    (one,) = select(["table7/c-stage1@5"], quick, ["a"], [1])
    assert ([row.slug for row in one.rows], one.seeds) == (["c-stage1"], (5,))
    (narrowed,) = select(["table7"], quick, ["c", "a"], [4])
    assert ([row.slug for row in narrowed.rows], narrowed.seeds) == (["c", "a"], (4,))
    everywhere = select(["all"], quick, ["t", "c"], None)  # from every study that has such a row
    assert {(s.study.slug, tuple(row.slug for row in s.rows)) for s in everywhere} >= {
        ("table7", ("c",)),
        ("table9", ("t",)),
    }
    with pytest.raises(ValueError, match="no study has a row named nothing"):
        select(["all"], quick, ["nothing"], None)


def test_a_study_runs_end_to_end_and_a_second_time_starts_nothing(results: Path, runs: Path):
    first = run("table7", *SMALL, "--rows", "c,b", "--seeds", "1")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "2 done" in first.stdout
    found = records(results)
    assert len(found) == 2
    for record in found.values():
        assert record["config"]["train"]["iterations"] == 4
        assert 0 <= record["metrics"]["miou_ss"] <= 100
        assert 0 <= record["metrics"]["miou_ms"] <= 100
        assert len(record["metrics"]["iou"]) == len(record["classes"]) == 7
        assert record["trained"]["params"] < 300_000  # the micro model; the table's params are the full model's
        origin = record["provenance"]
        assert origin["command"].startswith("python -m studies.run table7 --protocol quick --limit-iterations 4")
        assert {"commit", "code", "packages", "processor", "data", "started", "finished"} <= origin.keys()
        curve = (results / "curves" / f"{record['id']}.csv").read_text().splitlines()
        assert curve[0] == "iteration,loss,learning_rate,images_per_second"
        assert curve[-1].startswith("4,")
    assert all(f"{REPOSITORY.parent}/" not in path.read_text() for path in results.rglob("*.json"))
    table = (results / "table7.csv").read_text()
    assert "4263414,4300000,6.592884736,6.6," in table, "measured, and printed beside it"
    for name in found:
        log = gzip.decompress((results / "logs" / f"{name}.txt.gz").read_bytes()).decode()
        assert "iteration 4 of 4: loss" in log
        assert f"miou_ss {found[name]['metrics']['miou_ss']:.2f}" in log.splitlines()[-1]
    before = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}

    again = run("table7", *SMALL, "--rows", "c,b", "--seeds", "1")
    assert again.returncode == 0
    assert "2 of 2 runs are done already" in again.stdout
    assert "train" not in again.stdout
    assert {path: path.read_bytes() for path in results.rglob("*") if path.is_file()} == before
    assert all(len(list((runs / k / "attempts").iterdir())) == 1 for k in found)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.usefixtures("measured")
def test_ctrl_c_exits_5_and_the_same_command_continues(results: Path, runs: Path):
    identifier = run_id("b", 30)
    process = subprocess.Popen(
        command("table7/b@0", *LONGER), cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    eventually(trained(runs, identifier, 3))
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 5, output
    assert "the same command continues" in output
    attempts = sorted((runs / identifier / "attempts").iterdir())
    assert [json.loads(path.read_text())["cause"] for path in attempts] == ["stopped"]
    saved = max(int(path.name[:8]) for path in (runs / identifier / "states").glob("*.pt"))
    assert 3 <= saved < 30
    assert records(results) == {}

    dry = run("table7/b@0", *LONGER, "--dry-run")
    assert f"continues after {saved} of 30 iterations" in dry.stdout
    done = run("table7/b@0", *LONGER)
    assert done.returncode == 0, done.stdout
    assert list(records(results)) == [identifier]
    curve = (results / "curves" / f"{identifier}.csv").read_text().splitlines()[1:]
    assert [int(line.split(",")[0]) for line in curve] == [10, 20, 30]


@pytest.mark.usefixtures("measured")
def test_when_the_command_is_killed_its_workers_save_and_leave(results: Path, runs: Path):
    identifier = run_id("b", 30)
    process = subprocess.Popen(command("table7/b@0", *LONGER), cwd=REPOSITORY, stdout=subprocess.DEVNULL)
    eventually(trained(runs, identifier, 3))
    worker = json.loads((runs / identifier / "claim.json").read_text())["process"]["pid"]
    process.kill()
    process.wait()
    eventually(lambda: not alive(worker))
    attempt = json.loads((runs / identifier / "attempts" / "001.json").read_text())
    assert attempt["cause"] == "stopped"
    assert list((runs / identifier / "states").glob("*.pt"))
    assert records(results) == {}


@pytest.mark.usefixtures("measured")
@pytest.mark.long
def test_a_killed_worker_is_a_failure_that_the_same_command_continues(results: Path, runs: Path):
    identifier = run_id("b", 30)
    process = subprocess.Popen(
        command("table7/b@0", *LONGER), cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    eventually(trained(runs, identifier, 2))
    os.kill(json.loads((runs / identifier / "claim.json").read_text())["process"]["pid"], signal.SIGKILL)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "killed by SIGKILL" in output
    assert json.loads((runs / identifier / "attempts" / "001.json").read_text())["cause"] == "killed"
    assert records(results) == {}
    assert run("table7/b@0", *LONGER).returncode == 0
    assert list(records(results)) == [identifier]
    assert records(results)[identifier]["provenance"]["attempts"] == 2


@pytest.mark.usefixtures("measured")
def test_two_people_who_start_the_same_run_get_one_run(results: Path, runs: Path):
    """At the same moment: whoever comes second waits for the first or finds it done."""
    identifier = run_id("b", 4)
    first = subprocess.Popen(command("table7/b@0", *SMALL), cwd=REPOSITORY, stdout=subprocess.DEVNULL)
    second = run("table7/b@0", *SMALL)
    assert first.wait(timeout=120) == second.returncode == 0, second.stdout
    assert "done" in second.stdout
    assert len(list((runs / identifier / "attempts").iterdir())) == 1
    assert list(records(results)) == [identifier]


@pytest.mark.usefixtures("measured")
@pytest.mark.long
def test_debug_works_in_the_commands_own_process(results: Path):
    done = run("table7/b@0", *SMALL, "--cluster", "debug")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(records(results)) == 1


@pytest.mark.usefixtures("measured")
@pytest.mark.long
def test_a_damaged_image_fails_its_run_names_the_file_and_harms_no_result(tmp_path: Path, results: Path, runs: Path):
    root = camvid(tmp_path / "CamVid")
    words = ("table7/b@0", "--protocol", "camvid-half", "--data-root", str(root), "--limit-iterations", "1")
    first = run(*words)
    assert first.returncode == 0, first.stdout + first.stderr
    before = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    (record,) = records(results).values()
    assert record["provenance"]["command"].endswith("--data-root DIR --limit-iterations 1")
    assert str(tmp_path) not in json.dumps(record.plain)

    image = root / "train" / "train1.png"
    image.write_bytes(image.read_bytes()[:200])
    second = run(*[word if word != "1" else "2" for word in words])
    assert second.returncode == 1
    assert re.search(rf"failed\s+data: .*{re.escape(str(image))}", second.stdout), second.stdout
    assert "Traceback" not in second.stdout + second.stderr
    after = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    assert {path: after[path] for path in before} == before
    assert len(records(results)) == 1


@pytest.mark.usefixtures("measured")
@pytest.mark.long
def test_real_camvid_trains_and_scores(shared: Path, tmp_path: Path, results: Path):
    """On the first frames of each split: a list that names them makes a part of CamVid a dataset of its own."""
    root = shared / "data" / "camvid"
    for split in ("train", "val", "test"):
        stems = (root / f"{split}.txt").read_text().split()[:4]
        for kind, suffix in (("images", ".jpg"), ("labels", ".png")):
            folder = tmp_path / "part" / kind / split
            folder.mkdir(parents=True)
            for stem in stems:
                (folder / f"{stem}{suffix}").symlink_to(root / kind / split / f"{stem}{suffix}")
        (tmp_path / "part" / f"{split}.txt").write_text("\n".join(stems))
    words = ("table7/b@0", "--protocol", "camvid-half", "--limit-iterations", "1")
    done = run(*words, SEGNEXT_DATA=str(tmp_path / "part"))
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = records(results).values()
    assert record["provenance"]["data"]["train_images"] == 4
    assert record["classes"][3] == "road"
    assert record["trained"]["params"] > 4_000_000
    assert record["metrics"]["miou_ss"] > 0


@pytest.mark.long(first=True)
@pytest.mark.usefixtures("measured")
def test_a_run_killed_again_and_again_ends_with_the_bits_of_the_undisturbed_one(tmp_path: Path, runs: Path):
    """SIGKILL at random moments: in the loader, in a step, in the middle of writing a state, in the evaluation."""
    words = ("table7/c@0", "--protocol", "quick", "--limit-iterations", "250")
    quiet = run(*words, SEGNEXT_RESULTS=str(tmp_path / "quiet"), SEGNEXT_RUNS=str(tmp_path / "quiet-runs"))
    assert quiet.returncode == 0, quiet.stdout
    identifier = run_id("c", 250)
    random = np.random.default_rng(0)
    kills = 0
    for _ in range(6):
        process = subprocess.Popen(command(*words), cwd=REPOSITORY, stdout=subprocess.DEVNULL)
        claim = runs / identifier / "claim.json"
        previous = claim.read_text() if claim.exists() else ""
        eventually(lambda: process.poll() is not None or (claim.exists() and claim.read_text() not in ("", previous)))  # noqa: B023
        time.sleep(random.uniform(0, 25))
        if process.poll() is not None:
            break
        os.kill(json.loads(claim.read_text())["process"]["pid"], signal.SIGKILL)
        process.wait()
        kills += 1
    assert kills >= 2
    final = run(*words)
    assert final.returncode == 0, final.stdout
    (disturbed,) = records(tmp_path / "results").values()
    (undisturbed,) = records(tmp_path / "quiet").values()
    assert disturbed["metrics"] == undisturbed["metrics"]
    assert disturbed["training"]["final_loss"] == undisturbed["training"]["final_loss"]

    import torch

    one, two = (
        torch.load(max((f / identifier / "states").glob("*.pt")), weights_only=True)["model"]
        for f in (runs, tmp_path / "quiet-runs")
    )
    assert all(torch.equal(one[key], two[key]) for key in one)
