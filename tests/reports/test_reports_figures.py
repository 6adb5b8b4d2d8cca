"""Figures: drawn from what lies beside them, kept while nothing changes, labels apart."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import pytest
from conftest import REPOSITORY
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from records import add_run, fabricate
from reporting import lines_of, render

from reports import build, compose
from reports.blocks import figure, points
from reports.blocks.csv import to_csv
from reports.blocks.points import Curves, all_points, thinned
from reports.blocks.style import FIGURE
from reports.sections import curves, figure1
from segnext.config import Model
from studies import tables
from studies.declare.study import Row
from studies.facts.gather import UNITS, gather
from studies.records.store import Store
from studies.tables.table7 import STUDY


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGNEXT_RESULTS", str(tmp_path / "results"))
    return tmp_path / "results"


@pytest.fixture
def drawn(monkeypatch) -> list[Figure]:
    """Every figure that is really drawn, all of them in this process."""
    figures = []

    def save(figure: Figure, formats: Sequence[str]) -> dict[str, bytes]:
        figures.append(figure)
        FigureCanvasAgg(figure)
        figure.draw_without_rendering()
        return dict.fromkeys(formats, b"<svg></svg>")

    monkeypatch.setattr(figure, "save", save)
    monkeypatch.setattr(figure, "MANY", 1000)
    return figures


def test_only_what_changed_is_drawn_again(results, tmp_path, drawn):
    store = fabricate(results, seeds=2, curves=True)
    first = render(tmp_path / "out", "table7", drawn=True)
    names = {name.removesuffix(".svg") for name in first if name.endswith(".svg") and "/" not in name}
    assert names == {"table7-costs-bars", "table7-quick-seeds", "table7-quick-loss", "table7-quick-classes"}
    assert len(drawn) == len(names)
    assert render(tmp_path / "out", "table7", drawn=True) == first
    assert len(drawn) == len(names)
    add_run(store, STUDY, STUDY.row("c"), "quick", 2, 40.0)
    render(tmp_path / "out", "table7", drawn=True)
    assert len(drawn) == len(names) + 2  # the strips and the classes; it has no curve


def test_a_report_has_each_figure_once_however_often_it_is_asked():
    store = Store(REPOSITORY / "results")
    report = compose.read([STUDY], store)
    assert any(drawing.slug.startswith("photographs") for drawing in report.drawings)
    assert all(first is again for first, again in zip(report.drawings, report.drawings, strict=True))


def test_figures_drawn_in_other_processes_have_the_same_bytes(results, tmp_path, monkeypatch):
    fabricate(results, seeds=2, curves=True)
    apart = render(tmp_path / "apart", "table7", drawn=True)
    monkeypatch.setattr(figure, "MANY", 1000)
    assert render(tmp_path / "here", "table7", drawn=True) == apart


@pytest.mark.parametrize("damage", ["table7-costs-bars.svg", figure.MANIFEST])
def test_a_figure_that_was_tampered_with_is_drawn_again(results, tmp_path, drawn, damage):
    fabricate(results, seeds=0)
    first = render(tmp_path / "out", "table7", drawn=True)
    (tmp_path / "out" / damage).write_text("{")
    assert render(tmp_path / "out", "table7", drawn=True) == first
    assert len(drawn) == 2


def test_figure_1_shows_the_paper_and_ours_with_labels_apart(results, tmp_path, drawn):
    store = Store(results)
    table9 = tables.study("table9")
    for seed in range(3):
        add_run(store, table9, table9.row("t"), "paper", seed, 41.0 + seed / 10)
    files = render(tmp_path / "out", "table9", drawn=True)
    lines = {(line["dataset"], line["row"]): line for line in lines_of(files, "figure1.csv")}
    assert lines["ade20k", "t"]["miou_ss_mean"] == "41.1"
    assert lines["ade20k", "t"]["params_m_printed"] == "4.3"
    assert lines["cityscapes", "segformer-b2"]["gflops_printed"] == "717.1"
    assert lines["cityscapes", "t"]["miou_ss_mean"] == ""
    figure = next(found for found in drawn if found.axes[0].get_xscale() == "log")
    for axes in figure.axes:
        boxes = [text.get_window_extent() for text in axes.texts]
        assert len(boxes) >= 8
        assert not any(first.overlaps(second) for first, second in itertools.combinations(boxes, 2))
        frame = axes.get_window_extent()
        assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 for box in boxes)
    circles = [dots for dots in figure.axes[1].collections if isinstance(dots, PathCollection)]
    areas = {round(float(dots.get_sizes()[0]), 3) for dots in circles}
    assert {round(figure1.AREA * size, 3) for size in (4.3, 13.9, 27.6, 48.9)} <= areas


def test_classes_are_means_over_seeds_and_nowhere_is_empty(results, tmp_path, drawn):
    fabricate(results, seeds=2)
    lines = lines_of(render(tmp_path / "out", "table7", drawn=True), "table7-quick-classes.csv")
    assert {(line["class"], line["mean"], line["n"]) for line in lines} == {("road", "50.0", "2"), ("sky", "", "0")}


def test_names_of_any_length_stay_apart_and_a_row_may_lack_a_metric():
    """Six rows, one without boundary IoU, stand upright under the heat map; no label touches another or the edge."""
    rows = [Row(f"a long name of row {place}, " * 4, f"r{place}", Model("T"), {}) for place in range(6)]
    data = [
        {"row": row.slug, "metric": metric, "class": name, "mean": None if name == "nowhere" else 40.0, "n": 3}
        for row in rows
        for metric in ("iou", "boundary_iou")[: 1 if row is rows[0] else 2]
        for name in ("pole", "person", "nowhere")
    ]
    costs = [figure1.Bar(row.slug, m, 4.0, 4.1) for row in rows for m in UNITS]
    with matplotlib.rc_context(FIGURE):
        for figure in (curves._classes(rows, data), figure1._bars(rows, costs)):
            FigureCanvasAgg(figure)
            figure.draw_without_rendering()
            for axes, axis in itertools.product(figure.axes[:2], ("xaxis", "yaxis")):
                boxes = [text.get_window_extent() for text in getattr(axes, axis).get_ticklabels() if text.get_text()]
                assert not any(first.overlaps(second) for first, second in itertools.pairwise(boxes))
                assert all(box.y0 >= figure.bbox.y0 and box.x0 >= figure.bbox.x0 for box in boxes)


def test_a_loss_that_is_no_number_is_left_out(tmp_path):
    (tmp_path / "c.csv").write_text("iteration,loss\n10,2.0\n20,nan\n30,1.0\n")
    assert thinned(all_points(tmp_path / "c.csv")) == [(10.0, 2.0), (30.0, 1.0)]


def test_a_band_spans_the_seeds(results):
    rows = STUDY.trained[:1]
    data = [{"row": rows[0].slug, "seed": s, "iteration": i, "loss": 1.0 + s} for s in range(3) for i in (10, 20)]
    with matplotlib.rc_context(FIGURE):
        axes = curves._losses(rows, curves._bands_of_seeds(to_csv(data))).axes[0]
    band = axes.collections[0].get_paths()[0].get_extents()
    assert (band.y0, band.y1) == (1.0, 3.0)
    assert list(axes.lines[0].get_ydata()) == [2.0, 2.0]


def losses_drawn(store: Store, out: Path | None = None) -> tuple[figure.Drawing, Curves]:
    read = Curves(store, out)
    (variant,) = (v for v in gather(STUDY, store).variants if v.protocol.name == "quick")
    drawing = curves.losses(variant, read)
    assert drawing
    return drawing, read


def test_the_losses_of_many_seeds_are_kept_as_what_is_drawn_of_them(results, monkeypatch):
    store = fabricate(results, seeds=3, curves=True)
    for number, run in enumerate(store.runs()):
        (results / "curves" / f"{run.id}.csv").write_text(f"iteration,loss\n10,{3 + number / 7}\n20,{number / 3}\n")
    few, _ = losses_drawn(store)
    monkeypatch.setattr(curves, "MANY_SEEDS", 2)
    many, _ = losses_drawn(store)
    of_seeds, of_rows = curves._bands_of_seeds(few.csv), curves._bands(many.csv)
    assert of_rows.keys() == of_seeds.keys() == {row.slug for row in STUDY.trained}
    assert all(
        own == pytest.approx(band, rel=1e-5)
        for row in of_rows
        for own, band in zip(of_rows[row], of_seeds[row], strict=False)
    )
    assert many.csv.count("\n") == 1 + 2 * len(STUDY.trained)
    assert "not each seed" in many.caption
    assert "not each seed" not in few.caption


@pytest.mark.parametrize("spoil", [lambda kept: b"", lambda kept: kept[:-1] + b"!", lambda kept: kept[:40]])
def test_what_is_remembered_of_curves_is_never_the_truth(results, tmp_path, monkeypatch, spoil):
    store = fabricate(results, seeds=6, curves=True)
    names = [f"{run.id}.csv" for run in store.runs()]
    for number, name in enumerate(names):
        (results / "curves" / name).write_text(f"iteration,loss\n10,{3 + number}\n20,1\n")
    first, read = losses_drawn(store, tmp_path)
    read.keep()
    opened = []
    monkeypatch.setattr(points, "all_points", lambda path: opened.append(path.name) or all_points(path))
    assert losses_drawn(Store(results), tmp_path)[0].csv == first.csv
    assert opened == []
    (results / "curves" / names[0]).write_text("iteration,loss\n10,7.5\n20,1\n")
    assert "7.5" in losses_drawn(Store(results), tmp_path)[0].csv
    assert opened == names[:1]
    (tmp_path / points.NAME).write_bytes(spoil((tmp_path / points.NAME).read_bytes()))
    assert "7.5" in losses_drawn(Store(results), tmp_path)[0].csv
    assert sorted(opened[1:]) == sorted(names)


def test_other_formats_are_drawn_where_they_are_asked_for_and_fonts_are_embedded(results, tmp_path):
    fabricate(results, seeds=0)
    files = render(tmp_path / "out", "table7", drawn=True)
    assert not [name for name in files if name.endswith((".pdf", ".png"))]
    assert b"<text" not in files["table7-costs-bars.svg"]  # outlines: no font is needed to see it
    assert set(json.loads(files["figures.json"])) == {"table7-costs-bars"}
    more = render(tmp_path / "out", "table7", "--formats", "svg,pdf,png", drawn=True)
    assert more["table7-costs-bars.svg"] == files["table7-costs-bars.svg"]
    assert b"/FontFile2" in more["table7-costs-bars.pdf"]  # TrueType, as journals ask
    assert more["table7-costs-bars.png"].startswith(b"\x89PNG")
    assert 'href="table7-costs-bars.pdf"' in more["table7.html"].decode()


def test_a_format_that_there_is_not_is_named(capsys):
    with pytest.raises(SystemExit) as left:
        build.main(["--formats", "jpeg"])
    assert left.value.code == 2
    assert "'jpeg' is no format of a figure; there are: svg, pdf, png" in capsys.readouterr().err
