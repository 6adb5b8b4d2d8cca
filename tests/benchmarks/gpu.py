"""How fast on a card: training, evaluation and throughput, beside the published design's and the card's ceilings.

`python tests/benchmarks/gpu.py [--minutes 5] [--out FOLDER]` (`make gpu`); `--device cpu --tiny` rehearses every line
in small. Every row is printed and written as soon as it is there, the most important first; what there is no time for
is said. Exit codes: 0 all rows measured or left out for want of time, 1 some failed.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import gc
import multiprocessing
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests"), str(Path(__file__).parent)]

import published  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from published import ADE20K, One, Published, our_test, pictures, published_encoder, published_test, resized  # noqa: E402
from roofline import Operator, Rates, ceiling, step_operators  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from segnext.config import ClassificationData, ClassificationTrain, Data, Execution, Model, Run, Train  # noqa: E402
from segnext.measure.step_time import Steps, measure  # noqa: E402
from segnext.model import SegNeXt  # noqa: E402
from studies.plan.estimate import keep, probes_folder  # noqa: E402
from studies.probe import facts  # noqa: E402

SPEEDUP, PART = 4.0, 0.7  # the goals: over published eager float32 (T and S), of the ceiling
CITYSCAPES = Data("cityscapes", 19, (2048, 1024), (1024, 1024))
CAMVID = Data("camvid", 11, (480, 360), (352, 480), test_split="test")
# What torch does when nobody asks for anything; what mmsegmentation's configurations ask for; float32 proper.
SETTINGS = {
    "float32": {"tf32": False, "benchmark": False},
    "torch's defaults: TF32 in convolutions": {"tf32": True, "benchmark": False},
    "the same and cudnn.benchmark, as mmsegmentation's configurations": {"tf32": True, "benchmark": True},
}
PROPER, DEFAULTS, CONFIGURED = SETTINGS
PARTS = ("ceilings", "T 512x512", "S 512x512", "inductor", "MSCAN-T 224x224", "T 1024x1024", "B 512x512", "L 512x512")
PARTS += ("evaluation", "together", "table11", "further")
FULLY = ("T 512x512", "S 512x512")  # whose ceilings are also counted in float32
STEPS = ["what", "side", "size", "batch", "crop", "precision", "compile", "milliseconds", "lower_quartile"]
STEPS += ["upper_quartile", "images_per_second", "peak_memory_gb", "ratio_to_published_float32"]
STEPS += ["ratio_to_published_defaults", "ceiling_ms", "part_of_ceiling", "ceiling_if_fused_ms", "gigabytes"]
STEPS += ["teraflop", "note"]
RATES = ["what", "which", "value", "unit", "note"]


@dataclass(frozen=True)
class Case:
    """A training step that is measured: `run` as it is carried out, `kept` the run whose step time it is kept as."""

    name: str
    run: Run
    kept: Run

    @property
    def size(self) -> str:
        return self.run.model.size


def cases(tiny: bool) -> dict[str, Case]:
    """By name. With `tiny` the same networks on a few pixels."""

    def segmentation(size: str, data: Data, batch: int) -> Case:
        whole = Run("paper", 1, Model(size), data, Train(160_000, batch=batch), 0)
        run = whole
        if tiny:
            smaller = dataclasses.replace(data, crop=(64, 64))
            run = dataclasses.replace(whole, data=smaller, train=Train(160_000, batch=2))
        name = f"{size} {whole.data.crop[0]}x{whole.data.crop[1]}"
        return Case(name, run, run if tiny else whole)

    def classification(size: str) -> Case:
        whole = Run("paper", 1, Model(size).encoder_alone, ClassificationData(), ClassificationTrain(), 0)
        batch = 2 if tiny else 128  # of the paper's 1024, as one of 8 GPUs has it
        train = dataclasses.replace(ClassificationTrain(), batch=batch, mixing=batch)
        data = dataclasses.replace(ClassificationData(), crop=(64, 64)) if tiny else ClassificationData()
        run = dataclasses.replace(whole, data=data, train=train)
        return Case(f"MSCAN-{size} 224x224", run, run if tiny else whole)

    found = [segmentation(size, ADE20K, 16) for size in "TSBL"]
    found += [segmentation("T", CITYSCAPES, 8), segmentation("T", CAMVID, 8)]
    found += [classification(size) for size in "TSBL"]
    if tiny:  # for a compiler: one block and three down-samplings
        run = dataclasses.replace(found[-1].run, model=Model("microscope").encoder_alone)
        found.append(Case("one block", run, run))
    return {case.name: case for case in found}


# What a helper does, in a process of its own.


def ceilings(device: str, tiny: bool) -> dict[str, Any]:
    """The card's name and its measured `Rates`."""
    cuda = device.startswith("cuda")
    numbers, side = (1 << 22, 256) if tiny else (1 << 30, 8192)
    source = torch.ones(numbers, device=device)
    target = torch.empty_like(source)
    copy = 2 * source.nbytes / _seconds(partial(target.copy_, source), device)
    del source, target
    found: dict[str, float] = {"copy": copy}
    for name, kind, tf32 in (("float32", "float32", False), ("tf32", "float32", True), ("half", "bfloat16", False)):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        a, b = (torch.randn(side, side, device=device, dtype=getattr(torch, kind)) for _ in range(2))
        found[name] = 2 * side**3 / _seconds(partial(torch.mm, a, b), device)
    return {"card": torch.cuda.get_device_name(device) if cuda else "cpu", "rates": Rates(**found)}


def _seconds(work: Callable[[], object], device: str, least: int = 10) -> float:
    """The median of some calls after three that warm up."""
    times = []
    for _ in range(least + 3):
        _wait(device)
        started = time.perf_counter()
        work()
        _wait(device)
        times.append(time.perf_counter() - started)
    return statistics.median(times[3:])


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


class PublishedClassifier(nn.Module):
    """The wheel's encoder with a linear layer on the mean of its last stage."""

    def __init__(self, size: str) -> None:
        super().__init__()
        self.backbone = published_encoder(size)
        self.linear = nn.LazyLinear(1000)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.backbone(x)[-1].mean(dim=(2, 3)))


def published_step(case: Case, setting: str, steps: int, device: str) -> Steps:
    """The published design's step as `step_time.measure` measures ours: eager, float32 in name, NCHW."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = SETTINGS[setting]["tf32"]
    torch.backends.cudnn.benchmark = SETTINGS[setting]["benchmark"]
    cuda, segments = device.startswith("cuda"), case.run.task == "segmentation"
    classes, batch, crop = case.run.data.classes, case.run.train.batch, case.run.data.crop
    network = (Published(case.size, classes) if segments else PublishedClassifier(case.size)).to(device).train()
    inputs = []
    for _ in range(2):  # they take turns
        images = torch.randn(batch, 3, *crop, device=device)
        if segments:
            inputs.append((images, torch.randint(classes, (batch, *crop), device=device)))
        else:
            inputs.append((images, torch.full((batch, classes), 1 / classes, device=device)))
    network(inputs[0][0])
    optimiser = torch.optim.AdamW(network.parameters(), lr=6e-5, weight_decay=0.01)
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    times = []
    for number in range(3 + steps):
        images, labels = inputs[number % 2]
        _wait(device)
        started = time.perf_counter()
        optimiser.zero_grad()
        scores = network(images)
        if segments:
            loss = F.cross_entropy(resized(scores, labels.shape[1:]), labels, ignore_index=255)
        else:
            loss = F.cross_entropy(scores, labels)
        loss.backward()
        optimiser.step()
        loss.item()
        _wait(device)
        times.append(time.perf_counter() - started)
    lower, median, upper = statistics.quantiles(times[3:], n=4, method="inclusive")
    return Steps(median, lower, upper, steps, torch.cuda.max_memory_allocated(device) if cuda else None)


def our_step(case: Case, precision: str, compiled: str, steps: int, device: str) -> Steps:
    """Ours, as the trainer computes it."""
    try:
        return measure(case.run, Execution(device=device, precision=precision, compile=compiled), steps)
    finally:
        if compiled:
            torch._dynamo.reset()


def operators(case: Case, precision: str, device: str) -> list[Operator]:
    """What our step calls in this precision."""
    execution = Execution(device=device, precision=precision)
    return step_operators(lambda steps: measure(case.run, execution, steps, warmup=0))


def trace(case: Case, precision: str, compiled: str, steps: int, device: str) -> str:
    """The kernels that our step spends its time in: what `steps` more take, once all is compiled and captured."""
    from torch.profiler import ProfilerActivity, profile

    cuda = device.startswith("cuda")
    execution = Execution(device=device, precision=precision, compile=compiled)
    measured = measure(case.run, execution, 2 + steps)

    def spent(count: int) -> dict[str, tuple[float, int]]:
        with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as profiled:
            measure(case.run, execution, count, warmup=0)
            _wait(device)
        return {
            event.key: (event.self_device_time_total if cuda else event.self_cpu_time_total, event.count)
            for event in profiled.key_averages()
            if not event.is_user_annotation
        }

    fewer, more = spent(2), spent(2 + steps)
    kernels = []
    for name, (time_more, count_more) in more.items():
        time_fewer, count_fewer = fewer.get(name, (0.0, 0))
        if time_more > time_fewer and count_more > count_fewer:
            kernels.append(((time_more - time_fewer) / steps, (count_more - count_fewer) / steps, name))
    whole = sum(time for time, _, _ in kernels)
    head = f"{case.name} {precision} {compiled or 'eager'}: {measured.seconds * 1e3:.2f} ms a step; "
    head += f"{whole / 1e3:.2f} ms of it in {sum(count for _, count, _ in kernels):.0f} kernels of {len(kernels)} kinds"
    lines = [head, f"{'ms a step':>10} {'share':>6} {'calls':>7}  kernel"]
    for time_spent, count, name in sorted(kernels, reverse=True)[:15]:
        lines.append(f"{time_spent / 1e3:10.3f} {time_spent / whole:6.1%} {count:7.1f}  {name[:150]}")
    return "\n".join(lines)


class Many(One):
    """A split of one image many times."""

    def __init__(self, height: int, width: int, count: int) -> None:
        super().__init__(height, width)
        self._count = count

    def __len__(self) -> int:
        return self._count


def evaluated(side: str, multi_scale: bool, count: int, tiny: bool, device: str) -> float:
    """Images a second of T."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = side == "ours"
    size, shape = ("micro", (64, 85)) if tiny else ("T", (512, 683))
    if tiny:
        published.ADE20K = dataclasses.replace(ADE20K, scale=(256, 64))
    source = Many(*shape, count)
    if side == "ours":
        network: nn.Module = SegNeXt(Model(size), 150).to(device)
        work: Callable[[], object] = lambda: our_test(network, source, multi_scale, Execution().evaluation_batch)  # noqa: E731
    else:
        network = Published(size).to(device)
        ready = pictures(source, multi_scale) if "ready" in side else None
        work = lambda: [published_test(network, source, multi_scale, ready) for _ in range(count)]  # noqa: E731
    work()
    _wait(device)
    started = time.perf_counter()
    work()
    _wait(device)
    return count / (time.perf_counter() - started)


WORK: dict[str, Callable[..., Any]] = {
    work.__name__: work for work in (ceilings, published_step, our_step, operators, trace, evaluated)
}


def _serve(device: str, threads: int, pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")  # the wheel's own
    torch.set_num_threads(threads)
    while True:
        try:
            name, arguments = pipe.recv()
        except EOFError:
            return
        try:
            answer: tuple[str, Any] = "done", WORK[name](device=device, **arguments)
        except ImportError as error:
            answer = "missing", str(error)
        except (torch.OutOfMemoryError, MemoryError) as error:
            answer = "full", f"out of memory: {str(error).splitlines()[0]}"
        except Exception as error:
            traceback.print_exc()
            answer = "failed", f"{type(error).__name__}: {(str(error).strip() or '?').splitlines()[0]}"
        gc.collect()
        if device.startswith("cuda"):
            torch.cuda.empty_cache()
        pipe.send(answer)


# What the command does with them.


class Failed(Exception):
    """No measurement, and why."""


class Missing(Failed):
    """The published design is not installed here."""


class Slow(Failed):
    """It was not done in time."""


class LeftOut(Failed):
    """There is no time left for it."""


class Helper:
    """A process that measures; one that failed is replaced, for a CUDA error spoils all that comes after it."""

    def __init__(self, device: str, threads: int) -> None:
        self._device, self._threads = device, threads
        self._process: Any = None

    def send(self, name: str, **arguments: Any) -> None:
        if self._process is None:
            context = multiprocessing.get_context("spawn")
            self._pipe, other = context.Pipe()
            self._process = context.Process(target=_serve, args=(self._device, self._threads, other), daemon=True)
            self._process.start()
            other.close()
        self._pipe.send((name, arguments))

    def receive(self, limit: float) -> Any:
        """What the work returned. Raises `Failed`."""
        try:
            if not self._pipe.poll(limit):
                self.end()
                raise Slow(f"not done after {limit:.0f} s")
            kind, answer = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            code = self._process.exitcode
            self.end()
            raise Failed(f"the process ended with exit code {code}") from None
        if kind == "missing":
            raise Missing(answer)
        if kind != "done":
            if kind == "failed":
                self.end()
            raise Failed(answer)
        return answer

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None


class Benchmark:
    """One call: its rows, its files, and the time that is left."""

    def __init__(self, options: argparse.Namespace, keeping: Path) -> None:
        self.device, self.tiny, self.out = options.device, options.tiny, options.out
        self.parts: list[str] = options.parts
        self.ends = time.monotonic() + 60 * options.minutes
        self.helper = Helper(self.device, options.threads)
        self.threads = options.threads
        self.keeping = keeping
        self.patience = 3 if self.tiny else 1  # a rehearsal has others beside it
        self.failed = self.left_out = 0
        self.card, self.rates = self.device, None
        self.published: dict[tuple[str, str], float] = {}  # seconds by case and setting
        self.best: dict[str, tuple[float, str, str]] = {}  # seconds, precision and compile of our fastest step
        self.counted: dict[tuple[str, str], list[Operator]] = {}
        self.cases = cases(self.tiny)
        self.files: dict[str, Any] = {}

    def left(self) -> float:
        return self.ends - time.monotonic()

    def ask(self, name: str, needs: float, limit: float, **arguments: Any) -> Any:
        """What the helper answers, within the limit. Raises `Failed`."""
        if self.left() < needs:
            raise LeftOut("no time left")
        self.helper.send(name, **arguments)
        limit, there = limit * self.patience, max(self.left(), needs) + 10
        try:
            return self.helper.receive(min(limit, there))
        except Slow as error:
            raise (LeftOut("no time left") if there < limit else error) from None

    def write(self, name: str, columns: list[str], row: dict[str, Any]) -> None:
        """A line of a CSV that is complete at any time."""
        if name not in self.files:
            version = torch.__version__.split("+")[0]
            path = self.out / f"{name}-{slug(self.card)}-torch-{version}.csv"
            self.files[name] = open(path, "w", newline="")  # noqa: SIM115
            csv.writer(self.files[name], lineterminator="\n").writerow(columns)
            print(f"into {path}", flush=True)
        values = [row.get(column) for column in columns]
        csv.writer(self.files[name], lineterminator="\n").writerow(_short(value) for value in values)
        self.files[name].flush()
        print(" | ".join(str(_short(value)) for value in values if value not in (None, "")), flush=True)

    def guarded(self, error: Failed) -> str:
        """The note of a row without a measurement; what fails is counted."""
        if isinstance(error, LeftOut):
            self.left_out += 1
            return f"left out: {error}"
        if isinstance(error, Missing) and not self.device.startswith("cuda"):
            return f"left out: {error} (make gpu-wheels)"
        self.failed += 1
        return f"failed: {error}"

    def rate(self, what: str, which: str, unit: str, work: Callable[[], float]) -> None:
        row: dict[str, Any] = {"what": what, "which": which, "unit": unit}
        try:
            row["value"] = work()
        except Failed as error:
            row["note"] = self.guarded(error)
        self.write("gpu-rates", RATES, row)

    def ceilings(self) -> None:
        try:
            found = self.ask("ceilings", 0, 90, tiny=self.tiny)
        except Failed as error:
            self.rate("ceiling", "all", "", partial(_raise, error))
            return
        self.card, self.rates = found["card"], found["rates"]
        self.rate("ceiling", "copy, read and written", "TB/s", partial(_tera, found["rates"], "copy"))
        for name in ("float32", "tf32", "half"):
            label = f"matrix product {'bfloat16' if name == 'half' else name}"
            self.rate("ceiling", label, "TFLOP/s", partial(_tera, found["rates"], name))

    def row(self, case: Case, side: str, precision: str, compiled: str = "") -> dict[str, Any]:
        crop = "x".join(map(str, case.run.data.crop))
        return {
            "what": case.name,
            "side": side,
            "size": case.size,
            "batch": case.run.train.batch,
            "crop": crop,
            "precision": precision,
            "compile": compiled,
        }

    def fill(self, row: dict[str, Any], case: Case, steps: Steps) -> None:
        for column, name in (("milliseconds", "seconds"), *((n, n) for n in ("lower_quartile", "upper_quartile"))):
            row[column] = getattr(steps, name) * 1e3
        row["images_per_second"] = case.run.train.batch / steps.seconds
        row["peak_memory_gb"] = None if steps.memory is None else steps.memory / 1e9
        for column, setting in (("float32", PROPER), ("defaults", DEFAULTS)):
            theirs = self.published.get((case.name, setting))
            row[f"ratio_to_published_{column}"] = None if theirs is None else theirs / steps.seconds

    def theirs(self, name: str, setting: str, steps: int = 10) -> None:
        case = self.cases[name]
        row = self.row(case, "published", setting)
        try:
            found = self.ask("published_step", 10, 60, case=case, setting=setting, steps=self.few(steps))
            self.published[name, setting] = found.seconds
            self.fill(row, case, found)
        except Failed as error:
            row["note"] = self.guarded(error)
        self.write("gpu-steps", STEPS, row)

    def ours(self, name: str, precision: str, compiled: str = "", steps: int = 10) -> None:
        case = self.cases[name]
        row = self.row(case, "ours", precision, compiled)
        inductor = "inductor" in compiled
        try:
            arguments = {"case": case, "precision": precision, "compiled": compiled, "steps": self.few(steps)}
            found = self.ask(
                "our_step", 75 if inductor and not self.tiny else 10, 240 if inductor else 120, **arguments
            )
            self.fill(row, case, found)
            self.keep(case, precision, compiled, found)
            least = self.least(case, precision)
            if least is not None:
                row["ceiling_ms"], row["part_of_ceiling"] = least.seconds * 1e3, least.seconds / found.seconds
                row["ceiling_if_fused_ms"] = least.bound * 1e3
                row["gigabytes"], row["teraflop"] = least.bytes / 1e9, least.flops / 1e12
            if name not in self.best or found.seconds < self.best[name][0]:
                self.best[name] = found.seconds, precision, compiled
        except Failed as error:
            row["note"] = self.guarded(error)
        self.write("gpu-steps", STEPS, row)

    def few(self, steps: int) -> int:
        return 2 if self.tiny else steps

    def keep(self, case: Case, precision: str, compiled: str, steps: Steps) -> None:
        """As `studies.probe` keeps it."""
        execution = Execution(device=self.device, threads=self.threads, precision=precision, compile=compiled)
        keep(case.kept, facts(case.run, execution, steps, self.card))

    def least(self, case: Case, precision: str) -> Any:
        """The ceiling of the step; counted once for float32 operands and once for half ones."""
        if self.rates is None:
            return None
        operands = "bfloat16" if precision == "bfloat16" else "float32"
        if operands == "float32" and case.name not in FULLY:
            return None
        if (case.name, operands) not in self.counted:
            try:
                found = self.ask("operators", 10, 90, case=case, precision=operands)
            except Failed as error:
                self.rate("ceiling", f"{case.name} {operands}", "", partial(_raise, error))
                found = []
            self.counted[case.name, operands] = found
        found = self.counted[case.name, operands]
        return ceiling(found, self.rates, precision) if found else None

    def trace(self, name: str) -> None:
        """Where our fastest step misses a goal: what it spends its time in."""
        if name not in self.best:
            return
        case, (seconds, precision, compiled) = self.cases[name], self.best[name]
        ratio = self.published.get((name, PROPER), 0.0) / seconds
        least = self.least(case, precision)
        part = least.seconds / seconds if least else 0.0
        if ratio >= SPEEDUP and part >= PART:
            return
        head = (
            f"{name}: {ratio:.2f} times published float32 (goal {SPEEDUP}), {part:.0%} of the ceiling (goal {PART:.0%})"
        )
        try:
            arguments = {"case": case, "precision": precision, "compiled": compiled}
            told = self.ask("trace", 15, 120, steps=self.few(4), **arguments)
        except Failed as error:
            told = self.guarded(error)
        text = f"{head}\n{told}\n"
        with open(self.out / f"gpu-trace-{slug(self.card)}.txt", "a") as file:
            file.write(text + "\n")
        print(text, flush=True)

    def evaluation(self) -> None:
        for multi_scale, count in ((False, 64), (True, 8)):
            what = f"evaluation of T, {'multi' if multi_scale else 'single'}-scale, 683x512"
            for side in ("published", "published, its pictures made ready before", "ours"):
                arguments = {"side": side, "multi_scale": multi_scale, "count": self.few(count), "tiny": self.tiny}
                self.rate(
                    what, side, "images/s", lambda arguments=arguments: self.ask("evaluated", 10, 60, **arguments)
                )

    def together(self, names: tuple[str, ...], most: int) -> None:
        """The sum of images a second of 1, 2, 4, ... runs on one card: all start at once, when all are set up."""
        helpers = [Helper(self.device, 1) for _ in range(most)]
        counts = [1 << power for power in range(most.bit_length()) if 1 << power <= most]

        def everyone(case: Case, count: int, steps: int) -> list[Steps]:
            for helper in helpers[:count]:
                helper.send("our_step", case=case, precision="bfloat16", compiled="graphs", steps=steps)
            limit = time.monotonic() + self.patience * min(60, max(20, self.left()))
            found, wrong = [], None
            for helper in helpers[:count]:
                try:
                    found.append(helper.receive(max(0.0, limit - time.monotonic())))
                except Failed as error:
                    wrong = error
            if wrong is not None:
                raise wrong
            return found

        def throughput(case: Case, count: int) -> float:
            if self.left() < 15:
                raise LeftOut("no time left")
            seconds = everyone(case, count, 2)[0].seconds
            steps = 2 if self.tiny else min(60, max(6, int(3 / seconds)))
            return sum(case.run.train.batch / found.seconds for found in everyone(case, count, steps))

        try:
            for case in (self.cases[name] for name in names):
                what = f"training of {case.name} in bfloat16 with graphs, batch {case.run.train.batch}"
                for count in counts:
                    work = partial(throughput, case, count)
                    self.rate(what, f"{count} at once", "images/s in all", work)
        finally:
            for helper in helpers:
                helper.end()

    def table11(self) -> None:
        """Table 11's setting, recorded by the command that a user types."""
        results, runs = self.keeping / "results", self.keeping / "runs"
        (results / "records").mkdir(parents=True, exist_ok=True)
        for path in (REPOSITORY / "results" / "records").glob("cost-*.json"):
            shutil.copy(path, results / "records")
        command = [sys.executable, "-m", "studies.run", "table11", "--only", "speed", "--device", self.device]
        environment = {**os.environ, "SEGNEXT_RESULTS": str(results), "SEGNEXT_RUNS": str(runs)}

        def run() -> float:
            limit = 17.0 if self.tiny else min(120.0, self.left())
            if limit < 15:
                raise LeftOut("no time left")
            process = subprocess.Popen(
                command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            try:
                said, _ = process.communicate(timeout=limit)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGINT)  # what is measured is recorded
                try:
                    said, _ = process.communicate(timeout=20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    said, _ = process.communicate()
                said += f"stopped after {limit:.0f} s"
            print(said, flush=True)
            if process.returncode and "stopped after" not in said and "this machine is busy" not in said:
                raise Failed(f"exit code {process.returncode}: {' '.join(said.splitlines()[-1:])}")
            return float(len(list((results / "records").glob("speed-*.json"))))

        self.rate("table11 --only speed", "768x1536, batch 1", "records", run)
        self.pack()

    def pack(self) -> None:
        """Records and step times in one file; `tar xzf FILE` at the repository's root puts them in their places."""
        found = {path: f"results/records/{path.name}" for path in self.keeping.glob("results/records/speed-*.json")}
        found |= {path: f"results/probes/{path.name}" for path in probes_folder().glob("*.json")}
        path = self.out / f"gpu-records-{slug(self.card)}.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            for source, name in sorted(found.items(), key=lambda pair: pair[1]):
                archive.add(source, name)
        print(f"{len(found)} records and step times in {path}", flush=True)

    def plan(self) -> dict[str, list[Callable[[], object]]]:
        """Everything in its parts, the most important first. With `tiny`, every kind of work once."""
        main = ["T 512x512", "S 512x512"][: 1 if self.tiny else 2]
        others = ["MSCAN-T 224x224", "T 1024x1024", "B 512x512", "L 512x512"][: 1 if self.tiny else 4]
        parts: dict[str, list[Callable[[], object]]] = {"ceilings": [self.ceilings]}
        for name in main:
            parts[name] = [partial(self.theirs, name, setting) for setting in (PROPER, DEFAULTS)]
            for precision, compiled in (("bfloat16", "graphs"), ("bfloat16", ""), ("tf32", ""), ("float32", "")):
                parts[name].append(partial(self.ours, name, precision, compiled))
            parts[name].append(partial(self.trace, name))
        # A compilation takes a minute.
        parts["inductor"] = [
            partial(self.ours, "one block" if self.tiny else "T 512x512", "bfloat16", "inductor+graphs")
        ]
        for name in others:
            parts[name] = [partial(self.theirs, name, PROPER, 6)]
            for precision, compiled in (("bfloat16", "graphs"), ("bfloat16", ""), ("tf32", "")):
                parts[name].append(partial(self.ours, name, precision, compiled, 8))
        parts["evaluation"] = [self.pack, self.evaluation]
        parts["together"] = [partial(self.together, ("T 512x512", "T 352x480"), 2 if self.tiny else 8)]
        parts["table11"] = [self.table11]
        if self.tiny:
            return parts
        further: list[Callable[[], object]] = [
            partial(self.ours, "T 512x512", "bfloat16", "inductor"),
            partial(self.theirs, "T 512x512", CONFIGURED),
        ]
        for name in others:
            further += [partial(self.theirs, name, DEFAULTS, 6), partial(self.ours, name, "float32", "", 8)]
        further += [partial(self.ours, f"MSCAN-{size} 224x224", "bfloat16", "graphs", 8) for size in "SBL"]
        further += [partial(self.theirs, "S 512x512", CONFIGURED)]
        further += [partial(self.ours, "S 512x512", "bfloat16", "inductor+graphs")]
        return {**parts, "further": further}

    def run(self) -> int:
        """The plan, or the parts of it that were asked for, in their order; returns the exit code."""
        print(f"{self.device}, torch {torch.__version__}, {os.cpu_count()} cores", flush=True)
        started = time.monotonic()
        try:
            parts = self.plan()
            for name in self.parts or parts:
                for work in parts.get(name, ()):
                    work()
        finally:
            self.helper.end()
            self.pack()
            for file in self.files.values():
                file.close()
        spent = time.monotonic() - started
        print(f"{spent:.0f} s; {self.failed} rows failed, {self.left_out} left out for want of time", flush=True)
        return 1 if self.failed else 0


def slug(name: str) -> str:
    """Letters, digits, dots, underscores and hyphens."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)


def _tera(rates: Rates, name: str) -> float:
    return getattr(rates, name) / 1e12


def _raise(error: Failed) -> float:
    raise error


def _short(value: Any) -> Any:
    return "" if value is None else f"{value:.5g}" if isinstance(value, float) else value


def main() -> int:
    parse = argparse.ArgumentParser(description=__doc__)
    parse.add_argument("--device", default="cuda", help="cuda, cuda:1, ... or cpu")
    parse.add_argument("--minutes", type=float, default=5.0, help="start nothing that would end later (default: 5)")
    parse.add_argument("--threads", type=int, default=1, help="cores of a process")
    parse.add_argument("--tiny", action="store_true", help="every line in small: a rehearsal")
    parse.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder of the files")
    parse.add_argument(
        "--parts", type=lambda words: words.split(","), default=[], help=f"of {', '.join(PARTS)}, in order"
    )
    options = parse.parse_args()
    if unknown := [name for name in options.parts if name not in PARTS]:
        parse.error(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        # Of this call alone, for a helper that was ended may leave half a file.
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(folder) / "compiled"))
        os.environ["SEGNEXT_RUNS"] = str(Path(folder) / "runs")  # where step times are kept until they are packed
        return Benchmark(options, Path(folder)).run()


if __name__ == "__main__":
    sys.exit(main())
