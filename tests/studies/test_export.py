"""Finished runs in trackers: a run's id is its key, so that twice is once. Real records, real trackers."""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import REPOSITORY, does, needs

from studies import export
from studies.declare.protocols import protocol
from studies.plan.runs import read_selector
from studies.records.store import Store, results_folder, runs_folder
from studies.tables import study

SEEDS = (0, 1, 2)
TRACKERS = ("mlflow", "wandb", "tensorboard")


def run_id(seed: int) -> str:
    table = study("table7")
    return protocol("quick").run(table.panel(), table.row("c"), seed).id


@pytest.fixture(autouse=True)
def recorded() -> None:
    """Three finished runs of Table 7's (c), of this repository's own results, with their curves."""
    for seed in SEEDS:
        for name in (f"records/{run_id(seed)}.json", f"curves/{run_id(seed)}.csv"):
            (results_folder() / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / "results" / name, results_folder() / name)


def measured_again(seed: int) -> None:
    """The record as if the run had been done again, with another result."""
    path = results_folder() / "records" / f"{run_id(seed)}.json"
    record = json.loads(path.read_text())
    record["metrics"]["miou_ss"] = 12.5
    path.write_text(json.dumps(record))


def cut(seed: int) -> None:
    """The curve without its last point."""
    path = results_folder() / "curves" / f"{run_id(seed)}.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def wanted(*selectors: str, protocol: str | None = None) -> dict[str, export.Finished]:
    store = Store()
    found = export.wanted(store, [read_selector(text) for text in selectors], protocol)
    return {record.id: export.finished(record, places, store) for record, places in found}


# What is exported


def test_a_tracker_gets_what_the_record_and_the_curve_have():
    run = wanted("table7/c@1")[run_id(1)]
    record = json.loads((results_folder() / "records" / f"{run_id(1)}.json").read_text())
    assert run.name == "table7/c@1"
    assert run.metrics["miou_ss"] == record["metrics"]["miou_ss"]
    assert run.metrics["iou/" + record["classes"][0].replace(" ", "_")] == record["metrics"]["iou"][0]
    assert run.parameters["train.batch"] == record["config"]["train"]["batch"]
    assert run.tags["commit"].split(",")[0] == record["provenance"]["commit"]
    lines = (results_folder() / "curves" / f"{run_id(1)}.csv").read_text().splitlines()
    step, values = run.curve[-1]
    assert lines[-1].split(",")[:2] == [str(step), repr(values["train/loss"])]
    assert len(run.curve) == len(lines) - 1


def test_selectors_and_protocol_choose():
    assert set(wanted()) == set(wanted("table7")) == {run_id(seed) for seed in SEEDS}
    assert set(wanted("table7/c@2", "table7/c@0", protocol="quick")) == {run_id(0), run_id(2)}
    assert wanted("table7/b") == wanted("table7/c", protocol="camvid") == {}


def test_another_record_or_curve_is_another_digest():
    before = wanted()
    measured_again(0)
    cut(1)
    after = wanted()
    changed = {name for name in before if before[name].digest != after[name].digest}
    assert changed == {run_id(0), run_id(1)}


@needs("tensorboard", "tensorboard", target="tests-extras")
def test_nothing_to_export_says_so():
    assert "no finished run is of these rows" in does("studies.export", "tensorboard", "table9")


@pytest.mark.parametrize("tracker", TRACKERS)
def test_without_the_extra_it_names_the_command_that_installs_it(tracker: str):
    if find_spec(tracker) is not None:
        pytest.skip(f"{tracker} is installed here")
    assert f"python -m pip install {tracker}" in does("studies.export", tracker, "table7", code=2)


# The trackers themselves: each exports, exports again, and meets what has changed


def exports(tracker: str, *words: str, says: str) -> None:
    assert says in does("studies.export", tracker, *words)


def twice_is_once_and_changes_replace(tracker: str, to: str) -> None:
    exports(tracker, "table7/c@0", "--to", to, says="1 written, 0 replaced, 0 as they were")
    exports(tracker, "--to", to, says="2 written, 0 replaced, 1 as they were")
    measured_again(0)
    cut(1)
    exports(tracker, "--to", to, says="0 written, 2 replaced, 1 as they were")
    exports(tracker, "--to", to, says="0 written, 0 replaced, 3 as they were")


@needs("tensorboard", "tensorboard", target="tests-extras")
def test_tensorboard_has_each_run_once_and_reads_the_curve_as_it_was(tmp_path: Path):
    twice_is_once_and_changes_replace("tensorboard", str(tmp_path))
    (folder,) = tmp_path.rglob(f"*{run_id(0)}")
    (folder / export.MARK).unlink()  # an export was killed here
    exports("tensorboard", "--to", str(tmp_path), says="1 written, 0 replaced, 2 as they were")

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folders = {mark.parent for mark in tmp_path.rglob(export.MARK)}
    assert len(folders) == len(list(tmp_path.rglob("events.out.*"))) == 3
    for name, run in wanted().items():
        (folder,) = (folder for folder in folders if folder.name.endswith(name))
        read = EventAccumulator(str(folder))
        read.Reload()
        losses = [(event.step, event.value) for event in read.Scalars("train/loss")]
        assert losses == [(step, pytest.approx(values["train/loss"])) for step, values in run.curve]
        (score,) = read.Scalars("miou_ss")
        assert (score.step, score.value) == (run.iterations, pytest.approx(run.metrics["miou_ss"]))


@needs("tensorboard", "tensorboard", target="tests-extras")
def test_a_damaged_curve_is_named_and_the_other_runs_are_exported(tmp_path: Path):
    damaged = results_folder() / "curves" / f"{run_id(1)}.csv"
    damaged.write_text("iteration,loss\nten,0.1\n")
    said = does("studies.export", "tensorboard", "--to", str(tmp_path), code=1)
    assert f"damaged: {damaged}" in said
    assert "2 written" in said


def of_wandb(path: Path) -> Iterator[object]:
    """The records of an offline run: blocks of 32 KiB, each of chunks with checksum, length and kind."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", content, at)
        whole += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # all of a record, or its last chunk
            yield Record.FromString(whole)
            whole = b""


@needs("wandb", "wandb", target="tests-extras")
def test_wandb_has_each_run_once_offline_and_reads_the_curve_as_it_was(tmp_path: Path):
    twice_is_once_and_changes_replace("wandb", str(tmp_path))
    (mark,) = tmp_path.glob(f"wandb/offline-run-*-{run_id(0)}/{export.MARK}")
    mark.unlink()  # an export was killed here
    exports("wandb", "--to", str(tmp_path), says="1 written, 0 replaced, 2 as they were")
    for name, run in wanted().items():
        (path,) = tmp_path.glob(f"wandb/offline-run-*/run-{name}.wandb")
        records = list(of_wandb(path))
        (made,) = (record.run for record in records if record.HasField("run"))
        assert made.host == ""
        assert not any(record.HasField("environment") for record in records)
        assert (made.run_id, made.display_name, made.run_group) == (name, run.name, "quick")
        config = {item.key: json.loads(item.value_json) for item in made.config.update}
        assert config["train.batch"] == run.parameters["train.batch"]
        history = [record.history for record in records if record.HasField("history")]
        seen = [
            {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in h.item} for h in history
        ]
        assert [(line["_step"], line["train/loss"]) for line in seen] == [
            (step, values["train/loss"]) for step, values in run.curve
        ]
        summary = {
            "/".join(item.nested_key) or item.key: json.loads(item.value_json)
            for record in records
            if record.HasField("summary")
            for item in record.summary.update
        }
        assert summary["miou_ss"] == run.metrics["miou_ss"]


# In a process of its own: MLflow's client warns of what it imports.
ASK = """
import json, sys
from mlflow.tracking import MlflowClient

client = MlflowClient(sys.argv[1])
(experiment,) = (found.experiment_id for found in client.search_experiments() if found.name == "segnext/quick")
for run in client.search_runs([experiment]):
    losses = [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, "train/loss")]
    data = run.data
    print(json.dumps([run.info.run_name, run.info.status, data.tags, data.params, data.metrics, losses]))
"""


@pytest.fixture
def mlflow_server(tmp_path: Path) -> Iterator[str]:
    """A real one, with a database of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    words = ["server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    words += ["--backend-store-uri", f"sqlite:///{tmp_path}/server.db", "--artifacts-destination", str(tmp_path / "a")]
    own = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with open(tmp_path / "server.log", "w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *words], cwd=tmp_path, env=own, stdout=log, stderr=log, process_group=0
        )
    try:
        until = time.monotonic() + 240
        while True:
            try:
                urllib.request.urlopen(f"{address}/health", timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                assert server.poll() is None, (tmp_path / "server.log").read_text()
                assert time.monotonic() < until, (tmp_path / "server.log").read_text()
                time.sleep(0.2)
        yield address
    finally:
        os.killpg(server.pid, 15)
        server.wait(60)


@needs("mlflow", "mlflow", target="tests-extras")
def test_an_mlflow_server_has_each_run_once_and_gives_back_the_curve_as_it_was(mlflow_server: str):
    twice_is_once_and_changes_replace("mlflow", mlflow_server)

    asked = subprocess.run([sys.executable, "-c", ASK, mlflow_server], capture_output=True, text=True, check=True)
    found = {line[2][export.ID]: line for line in map(json.loads, asked.stdout.splitlines())}
    assert len(found) == len(asked.stdout.splitlines()) == 3
    for name, run in wanted().items():
        said, status, tags, parameters, metrics, losses = found[name]
        assert (said, status, tags["rows"]) == (run.name, "FINISHED", run.tags["rows"])
        assert parameters == {key: str(value) for key, value in run.parameters.items()}
        assert {key: metrics[key] for key in run.metrics} == run.metrics
        assert losses == [[step, values["train/loss"]] for step, values in run.curve]


@needs("mlflow", "mlflow", target="tests-extras")
def test_without_a_server_mlflow_needs_only_a_file_and_a_silent_server_is_named():
    exports("mlflow", "table7/c@0", says="look: mlflow ui --backend-store-uri sqlite:///")
    assert (runs_folder() / "export" / "mlflow.db").exists()
    said = does("studies.export", "mlflow", "table7/c@0", "--to", "http://127.0.0.1:9", code=1)
    assert "MLflow at http://127.0.0.1:9" in said
    assert "the same command continues" in said
