"""What the paper's whole programme costs, from the declared studies: runs, arithmetic, disk, reads, loader cores.

`python tests/benchmarks/programme.py` prints the tables of slurm/scaling.md. Exact are runs, multiply-adds (fvcore's
convention, at the training crop; backward twice the forward pass), parameters. Measured are the GPU-hours of runs with
the step time of a GPU on record (results/probes, runs/); the others follow from the constants below, which are assumed.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))

from segnext.config import Cost  # noqa: E402
from segnext.measure.cost import measure  # noqa: E402
from studies.declare.protocols import protocol  # noqa: E402
from studies.plan.estimate import STATE, STATES, WEIGHTS, StepTime, step_key, step_times  # noqa: E402
from studies.plan.runs import PlannedRun, plan, select  # noqa: E402
from studies.records.store import Store  # noqa: E402
from studies.tables import studies  # noqa: E402

SUSTAINED = 20e12  # FLOP/s of one GPU in training: an assumption, for none was at hand
KILOBYTES = {  # of an image and its label on disk, by the size of the downloads
    "imagenet1k": 110,
    "ade20k": 40,
    "cityscapes": 2300,
    "coco_stuff164k": 160,
    "coco_voc": 160,
    "voc2012": 110,
    "pascal_context": 110,
    "isaid": 1300,
}
IMAGES_PER_CORE = {"imagenet1k": 320, "cityscapes": 13, "isaid": 31}  # a second; pipeline.py measures the others
USUAL = 150


def flops(planned: PlannedRun, known: dict[Cost, tuple[float, float]]) -> tuple[float, float]:
    """FLOP of a run's training, and parameters of its network."""
    run = planned.run
    cost = Cost(run.model, run.data.classes, *run.data.crop, task=run.task)
    if cost not in known:
        found = measure(cost)
        known[cost] = found.gmacs * 1e9, found.params
    macs, params = known[cost]
    return 3 * 2 * macs * run.train.iterations * run.train.batch, params


def measured(planned: PlannedRun, times: dict[str, list[StepTime]]) -> StepTime | None:
    """The fastest step time of a GPU for this run, whatever its precision: what the programme would be run with."""
    found = [time for time in times.get(step_key(planned.run), ()) if time.device != "cpu"]
    return max(found, key=lambda time: time.images_per_second / time.processes, default=None)


def main() -> None:
    """Print two tables in Markdown."""
    chosen, store = protocol("paper"), Store()
    times, used = step_times(store), set[str]()
    known: dict[Cost, tuple[float, float]] = {}
    seen: set[str] = set()
    totals: defaultdict[str, float] = defaultdict(float)
    loads: dict[tuple[str, str], tuple[float, float]] = {}
    print(
        "| study | runs | not in an earlier one | EFLOP of these | GPU-hours by arithmetic | measured: runs, GPU-hours "
        "(by arithmetic) | weights and last states, GB |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|")
    for slug, study in studies().items():
        by_id = (
            {planned.id: planned for planned in plan(select([slug], chosen, None, None), chosen, None, store)}
            if study.trained
            else {}
        )
        own = {name: planned for name, planned in by_id.items() if name not in seen}
        seen |= own.keys()
        if not by_id:
            continue
        costs = [flops(planned, known) for planned in own.values()]
        work, disk = sum(cost for cost, _ in costs), sum(params * (STATES * STATE + WEIGHTS) for _, params in costs)
        hours = work / SUSTAINED / 3600
        timed = real = same = 0.0  # runs with a measured step, their hours, and their hours by arithmetic
        for planned, (one, _) in zip(own.values(), costs, strict=True):
            if (step := measured(planned, times)) is None:
                continue
            images = planned.run.train.iterations * planned.run.train.batch
            timed, same = timed + 1, same + one / SUSTAINED / 3600
            real += images / (step.images_per_second / step.processes) / 3600
            used.add(f"{step.device} ({step.precision}{', ' + step.compile if step.compile else ''})")
        told = _measured(timed, real, same)
        print(f"| {slug} | {len(by_id)} | {len(own)} | {work / 1e18:,.0f} | {hours:,.0f} | {told} | {disk / 1e9:.1f} |")
        for name, value in (("runs", len(own)), ("work", work), ("hours", hours), ("disk", disk)):
            totals[name] += value
        for name, value in (("timed", timed), ("real", real), ("same", same)):
            totals[name] += value
        for planned, (work, _) in zip(own.values(), costs, strict=True):
            images = planned.run.train.iterations * planned.run.train.batch
            dataset = planned.run.data.dataset
            totals[dataset] += images * KILOBYTES[dataset] * 1e3
            loads[planned.run.model.size, dataset] = images, work
            if dataset == "imagenet1k":
                totals["pretrainings"] += 1
                totals["pretraining"] += work
    print(
        f"| **all** | | **{totals['runs']:.0f}** | **{totals['work'] / 1e18:,.0f}** | **{totals['hours']:,.0f}** "
        f"| **{_measured(totals['timed'], totals['real'], totals['same'])}** | **{totals['disk'] / 1e9:.0f}** |"
    )
    print()
    print(f"Steps measured on: {', '.join(sorted(used)) or 'no GPU yet'}.")
    share = totals["pretraining"] / totals["work"]
    print(f"{totals['pretrainings']:.0f} of the runs are pretrainings on ImageNet: {share:.0%} of the arithmetic.")
    print()
    print("| data | read over the programme, TB | a GPU that trains T takes, images/s | loader cores beside it |")
    print("|---|--:|--:|--:|")
    for dataset in KILOBYTES:
        if ("T", dataset) not in loads:
            continue
        images, work = loads["T", dataset]
        rate = images / (work / SUSTAINED)
        cores = rate / IMAGES_PER_CORE.get(dataset, USUAL)
        print(f"| {dataset} | {totals[dataset] / 1e12:,.1f} | {rate:,.0f} | {cores:.1f} |")


def _measured(runs: float, hours: float, arithmetic: float) -> str:
    return f"{runs:.0f}, {hours:,.0f} ({arithmetic:,.0f})" if runs else "none"


if __name__ == "__main__":
    main()
