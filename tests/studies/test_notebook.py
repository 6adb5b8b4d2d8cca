"""reports/explore.ipynb runs from top to bottom, says what the records say, and is committed without outputs."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from conftest import REPOSITORY

from studies.records.store import Store
from studies.tables import study

NOTEBOOK = json.loads((REPOSITORY / "reports" / "explore.ipynb").read_text(encoding="utf-8"))
CODE = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]

# Asked of the notebook's own names, after its last cell.
ASKED = """
import json
dots = [sorted(zip(*line.get_data())) for axes in panels for line in axes.get_lines() if line.get_label() == "SegNeXt"]
columns = shown.loc["c", ["params (M), measured", "GFLOPs, measured", "mIoU on ADE20K, printed"]].to_dict()
trained = [name for name in shown if name.startswith("quick, diagnostic/scene, 300")]
images = [list(axes.get_images()[0].get_array().shape) for axes in places.flat]
print(json.dumps([dots, columns, [shown.loc["c", name] for name in trained], len(curve), images]))
"""


def test_the_committed_notebook_has_no_outputs():
    assert NOTEBOOK["nbformat"] == 4
    assert len({cell["id"] for cell in NOTEBOOK["cells"]}) == len(NOTEBOOK["cells"])
    for cell in NOTEBOOK["cells"]:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None


def test_the_notebook_runs_and_shows_what_the_records_have():
    own = {**os.environ, "MPLBACKEND": "Agg", "STEPS": "3", "OMP_NUM_THREADS": "1"}
    program = "\n\n".join([*CODE, ASKED])
    words = [sys.executable, "-W", "error", "-W", "ignore:FigureCanvasAgg is non-interactive", "-c", program]
    done = subprocess.run(words, cwd=REPOSITORY / "reports", env=own, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    dots, columns, (trained,), steps, images = json.loads(done.stdout.splitlines()[-1])

    table9 = study("table9")
    for found, dataset in zip(dots, ("cityscapes", "ade20k"), strict=True):
        panel = table9.panel(dataset)
        ours = [row for row in table9.trained if row.name.startswith("SegNeXt")]
        assert found == sorted([row.prints(panel, "gflops"), row.prints(panel, "miou_ss")] for row in ours)

    store, table7 = Store(REPOSITORY / "results"), study("table7")
    cost = store.row_cost(table7.panel(), table7.row("c"))
    assert cost is not None
    assert columns == {
        "params (M), measured": round(cost.params / 1e6, 2),
        "GFLOPs, measured": round(cost.gmacs, 2),
        "mIoU on ADE20K, printed": table7.row("c").prints(table7.panel(), "miou_ss"),
    }
    lines = [line for view in store.views(table7) if view.protocol.name == "quick" for line in view.lines]
    scores = [
        line.miou_ss for line in lines if (line.row, line.dataset, line.iterations) == ("c", "diagnostic/scene", 300)
    ]
    measured = [score for score in scores if score is not None]
    assert trained.startswith(f"{sum(measured) / len(measured):.1f} ±")
    assert trained.endswith(f"({len(measured)})")

    assert steps == 3
    assert len(images) == 9
    assert all(shape[2] == 3 for shape in images)
