"""Measure the training step of rows on this machine: `python -m studies.probe STUDY[/ROW] ... [--device cuda]`.

Results are kept under runs/probes; `studies.run --dry-run` estimates GPU-hours from them. On a cluster, run it on a GPU
node: `srun --gpus=1 python -m studies.probe table6 --device cuda`.
Exit codes: 0 fine, 1 some rows were not measured, 2 usage, 3 there is no such device.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from segnext.config import Execution, Run
from segnext.door import Parser, command, console
from studies.declare.protocols import protocol
from studies.plan.estimate import keep, step_key
from studies.plan.options import SELECTOR, add_execution, add_selection, computed, positive
from studies.plan.preflight import PreflightError, check_device
from studies.plan.runs import plan, select
from studies.records.store import Store

if TYPE_CHECKING:
    from segnext.measure.step_time import Steps


@command("python -m studies.probe")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parse = Parser.of("python -m studies.probe", __doc__)
    parse.add_argument("selectors", nargs="+", metavar=SELECTOR, help="the rows to measure, or: all")
    add_selection(parse)
    parse.add_argument("--device", default="cpu", help="cpu, cuda, cuda:0, ... (default: cpu)")
    parse.add_argument("--threads", type=positive, default=1, metavar="N", help="cores (default: 1)")
    add_execution(parse)
    parse.add_argument("--steps", type=positive, default=10, metavar="N", help="timed steps (default: 10)")
    options = parse.parse_args(arguments)
    out = console()
    chosen = protocol(options.protocol)
    selections = select(options.selectors, chosen, options.rows, options.seeds)
    runs = plan(selections, chosen, options.limit_iterations, Store())
    distinct = {step_key(planned.run): planned for planned in reversed(runs)}
    wanted = list(reversed(distinct.values()))

    import torch

    from segnext.measure.step_time import measure

    try:
        check_device(options.device)
    except PreflightError as error:
        parse.exit(3, f"{parse.prog}: nothing was measured: {error}\n")
    execution = Execution(device=options.device, threads=options.threads, **computed(options))
    cuda = options.device.startswith("cuda")
    name = torch.cuda.get_device_name(options.device) if cuda else "cpu"
    failed = 0
    for number, planned in enumerate(wanted, start=1):
        head = f"[{number}/{len(wanted)}] {planned.label}"
        try:
            steps = measure(planned.run, execution, options.steps)
        except (torch.OutOfMemoryError, MemoryError) as error:
            failed += 1
            out.print(f"{head}: out of memory: {str(error).splitlines()[0]}")
            continue
        batch = planned.run.train.batch
        keep(planned.run, facts(planned.run, execution, steps, name))
        memory = "" if steps.memory is None else f", peak memory {steps.memory / 1e9:.1f} GB"
        out.print(
            f"{head}: {steps.seconds:.3f} s a step of {batch} images "
            f"(quartiles {steps.lower_quartile:.3f} to {steps.upper_quartile:.3f}){memory}",
        )
    return 1 if failed else 0


def facts(run: Run, execution: Execution, steps: Steps, device: str) -> dict[str, Any]:
    """The facts that `studies.plan.estimate.keep` keeps of a measured step; `device` is the GPU's name, or cpu."""
    import torch

    return {
        "images_per_second": run.train.batch / steps.seconds,
        "batch": run.train.batch,
        "device": device,
        "threads": execution.threads,
        "precision": execution.precision,
        "compiled": execution.compile,
        "torch": torch.__version__,
        **dataclasses.asdict(steps),
    }


if __name__ == "__main__":
    sys.exit(main())
