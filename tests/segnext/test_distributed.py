"""Several processes train what one trains, stop together, and never wait for ever. Every process here is a real one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from conftest import REPOSITORY
from torch import nn

from segnext.distributed import GlobalBatchNorm2d, GradientAverage, average, distributed, synchronise
from segnext.training.state import load_state

TRAINER = str(REPOSITORY / "tests" / "trainer.py")

LEFT = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "192.0.2.1", "MASTER_PORT": "29500"}
"""What another launcher left in the environment."""


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY), **more}


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def by_torchrun(port: str) -> list[tuple[list[str], dict[str, str]]]:
    words = ["-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={port}"]
    return [([sys.executable, *words, TRAINER], environment())]


def by_hand(port: str) -> list[tuple[list[str], dict[str, str]]]:
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    return [([sys.executable, TRAINER], environment(**common, RANK=rank, LOCAL_RANK=rank)) for rank in "01"]


def by_submitit(port: str) -> list[tuple[list[str], dict[str, str]]]:
    job = {"SUBMITIT_EXECUTOR": "slurm", "SLURM_JOB_ID": port, "SLURM_JOB_NODELIST": "localhost"}
    common = {**job, "SLURM_NTASKS": "2", "SLURM_JOB_NUM_NODES": "1", "SLURM_NODEID": "0"}
    own = environment(**LEFT, **common)  # left in the shell that submitted: SLURM knows better
    return [([sys.executable, TRAINER], {**own, "SLURM_PROCID": rank, "SLURM_LOCALID": rank}) for rank in "01"]


def together(started_by: Any, folder: Path, seconds: float = 600, **options: Any) -> tuple[list[int], list[dict], str]:
    """The exit codes by rank, what was said on stdout, and stderr, of a training in several processes."""
    words = json.dumps({"folder": str(folder), "processes": 1 if started_by is alone else 2, **options})
    processes = [
        subprocess.Popen([*command, words], env=own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for command, own in started_by(free_port())
    ]
    try:
        told = [process.communicate(timeout=seconds) for process in processes]
    finally:
        for process in processes:
            process.kill()
    said = [json.loads(line) for out, _ in told for line in out.splitlines() if line.startswith("{")]
    return [process.returncode for process in processes], said, "".join(error for _, error in told)


def alone(port: str) -> list[tuple[list[str], dict[str, str]]]:
    return [([sys.executable, TRAINER], environment(**LEFT))]


def losses(said: list[dict]) -> list[float]:
    return [line["loss"] for line in said if "loss" in line]


def weights(said: list[dict]) -> set[str]:
    return {line["weights"] for line in said if "weights" in line}


def state(folder: Path) -> dict[str, Any]:
    found = load_state(folder)
    assert found is not None
    return found


def assert_close(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> None:
    """Float tolerance; ten times more where a gradient is nothing but rounding, of which Adam makes a whole step.

    That is a convolution's bias before a BN, and elsewhere a value in a hundred at most.
    """
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-4, atol=2e-4, msg=name)
        far = ~torch.isclose(one[name], two[name], rtol=1e-4, atol=2e-5)
        rounding = ".downsample." in name and name.endswith(("bias", "running_mean"))
        assert rounding or far.double().mean() < 0.01, name


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[set[str], dict[str, torch.Tensor], list[float]]:
    """Ten steps of two processes that nobody disturbed, started by torchrun."""
    folder = tmp_path_factory.mktemp("two")
    codes, said, errors = together(by_torchrun, folder)
    assert codes == [0], errors
    assert {line["size"] for line in said if "weights" in line} == {2}
    return weights(said), state(folder)["model"], losses(said)


def test_two_processes_compute_what_one_computes_batch_norm_included(two, tmp_path: Path):
    codes, said, errors = together(alone, tmp_path)
    assert codes == [0], errors
    assert len(two[0]) == 1, "the two processes' weights and running statistics must be the same bits"
    assert len(losses(said)) == 10
    torch.testing.assert_close(losses(said), two[2], rtol=1e-5, atol=0)
    assert_close(state(tmp_path)["model"], two[1])


@pytest.mark.long
def test_so_do_batches_in_parts_and_every_norm_and_ema_bases(tmp_path: Path):
    options = {"train": {"accumulate": 2}, "model": {"context": "ema", "head_norm": "bn"}}
    ends = [together(how, tmp_path / how.__name__, **options) for how in (alone, by_hand)]
    assert [codes for codes, _, _ in ends] == [[0], [0, 0]], ends
    torch.testing.assert_close(losses(ends[0][1]), losses(ends[1][1]), rtol=1e-5, atol=0)
    assert len(weights(ends[1][1])) == 1
    assert_close(*(state(tmp_path / how.__name__)["model"] for how in (alone, by_hand)))


@pytest.mark.long
def test_processes_that_died_or_were_stopped_continue_to_the_same_bits(two, tmp_path: Path):
    codes, _, errors = together(by_hand, tmp_path, die_in_step={"1": 4})
    assert codes[1] == -9
    assert codes[0] not in (0, 5), "the one that is left must fail"
    assert "RuntimeError" in errors
    assert state(tmp_path)["iteration"] == 2
    codes, said, errors = together(by_submitit, tmp_path, stop={"1": 3})  # asked in one process, not in the first
    assert codes == [5, 5], errors
    assert {line["stopped"][:29] for line in said if "stopped" in line} == {"stopped after 5 of 10 iterati"}
    assert state(tmp_path)["iteration"] == 5
    codes, said, errors = together(by_hand, tmp_path)
    assert codes == [0, 0], errors
    assert weights(said) == two[0]


@pytest.mark.long
def test_with_losses_read_late_they_still_stop_together_and_continue_to_the_same_bits(two, tmp_path: Path):
    codes, said, errors = together(by_hand, tmp_path, stop={"1": 3}, late=1, execution={"checkpoint_interval": 3})
    assert codes == [5, 5], errors  # rank 0 reads early to save at step 3, and stops with the others all the same
    assert {line["stopped"][:29] for line in said if "stopped" in line} == {"stopped after 4 of 10 iterati"}
    codes, said, errors = together(by_hand, tmp_path, late=1)
    assert codes == [0, 0], errors
    assert weights(said) == two[0]


def test_a_loss_that_is_not_finite_stops_all_processes_at_once(tmp_path: Path):
    wild = {"learning_rate": 1e30, "warmup_iterations": 3}
    codes, said, errors = together(by_hand, tmp_path, train=wild, execution={"checkpoint_interval": 1})
    assert codes == [3, 3], errors
    (message,) = {line["diverged"] for line in said if "diverged" in line}
    assert "the last good state is after" in message
    assert state(tmp_path)["iteration"] >= 1


@pytest.mark.long
def test_a_process_that_hangs_does_not_keep_the_others_for_ever(tmp_path: Path):
    port = free_port()
    options = json.dumps({"folder": str(tmp_path), "processes": 2, "timeout": 20, "hang_in_step": {"1": 3}})
    processes = [
        subprocess.Popen([*command, options], env=own, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for command, own in by_hand(port)
    ]
    try:
        _, errors = processes[0].communicate(timeout=600)
        assert processes[1].poll() is None
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stderr.close()
    assert processes[0].returncode == 1
    assert "Timed out" in errors


def test_a_batch_without_equal_shares_is_refused(tmp_path: Path):
    codes, _, errors = together(by_hand, tmp_path, train={"batch": 3})
    assert codes == [1, 1]
    assert "3 samples that are passed together have no 2 equal shares" in errors


@pytest.mark.parametrize("left", [{}, LEFT, {"SUBMITIT_EXECUTOR": "slurm", "SLURM_NTASKS": "2", **LEFT}])
def test_one_process_starts_no_group_whatever_the_environment_says(
    left: dict[str, str], monkeypatch: pytest.MonkeyPatch
):
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    with distributed("cpu") as world:
        assert (world.rank, world.size, world.first) == (0, 1, True)
        assert not dist.is_initialized()
        assert world.sum([0.1, 2]) == [0.1, 2]
        assert world.gather("a") == ["a"]
        values = torch.ones(3)
        assert average(values) is values


def test_a_launcher_that_started_another_number_of_processes_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    words = r"one of 3 processes \(WORLD_SIZE\), but the run was planned for 2"
    with pytest.raises(ValueError, match=words), distributed("cpu", 2):
        pass


def _norms(rank: int, port: str) -> None:
    """In one of two processes: half of a batch through the norms of two against the whole through torch's of one."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "RANK": str(rank)}
    torch.manual_seed(0)
    whole = nn.Sequential(nn.BatchNorm2d(5), nn.Sequential(nn.Conv2d(5, 4, 1), nn.BatchNorm2d(4, eps=1e-3))).double()
    for norm in (whole[0], whole[1][1]):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    shared = nn.Sequential(nn.BatchNorm2d(5), nn.Sequential(nn.Conv2d(5, 4, 1), nn.BatchNorm2d(4, eps=1e-3))).double()
    shared.load_state_dict(whole.state_dict())
    names = list(dict(shared.named_parameters()))
    synchronise(shared)
    assert list(dict(shared.named_parameters())) == names
    assert list(shared.state_dict()) == list(whole.state_dict())
    assert isinstance(shared[1][1], GlobalBatchNorm2d)
    images = torch.randn(6, 5, 3, 7, dtype=torch.float64) * 3 + 50 * torch.arange(6.0).double().view(6, 1, 1, 1)
    images = images.to(memory_format=torch.channels_last)
    weighting = torch.randn(6, 4, 3, 7, dtype=torch.float64)
    part = slice(3 * rank, 3 * rank + 3)
    with distributed("cpu", 2) as world:
        averaged = GradientAverage(shared, world)
        for _ in range(2):
            all_images, own = images.clone().requires_grad_(), images[part].clone().requires_grad_()
            expected, given = whole(all_images), shared(own)
            torch.testing.assert_close(given, expected[part])
            whole.zero_grad()
            shared.zero_grad()
            (expected.sigmoid() * weighting).mean().backward()
            averaged.begin()
            (given.sigmoid() * weighting[part]).mean().backward()
            averaged.finish()
            assert all_images.grad is not None
            torch.testing.assert_close(own.grad / 2, all_images.grad[part])  # this half's own mean has twice the weight
            for one, other in zip(shared.parameters(), whole.parameters(), strict=True):
                torch.testing.assert_close(one.grad, other.grad)
            for name, buffer in whole.named_buffers():
                torch.testing.assert_close(shared.state_dict()[name], buffer)
        half = GlobalBatchNorm2d(5)(images[part].bfloat16())
        assert half.dtype == torch.bfloat16
        torch.testing.assert_close(half.double(), nn.BatchNorm2d(5).double()(images)[part], rtol=0.02, atol=0.02)
        torch.testing.assert_close(shared.eval()(images), whole.eval()(images))


def test_a_shared_batch_norm_is_torchs_own_on_the_whole_batch():
    torch.multiprocessing.spawn(_norms, (free_port(),), nprocs=2)
