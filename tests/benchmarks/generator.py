"""How many images a second one core generates, by sub-task: of the CPU's time, so that a busy machine tells the same.

`python tests/benchmarks/generator.py [IMAGES]` prints images a second. The promise is 300 at 96x96.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from segnext.data.generated.diagnostic import GeneratedSource, tasks


def main(images: int) -> None:
    """Every task in turn, its variants too, with labels and distances."""
    for task in tasks():
        source = GeneratedSource(task, "train")
        source.picture(0)  # lattices and shapes are made once
        started = time.process_time()
        for index in range(images):
            source.picture(index)
        print(f"{task:<28}{images / (time.process_time() - started):>8.0f} images/s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
