"""Appendix Table 1 and the recipes: printed as the paper has them, ours as the runs have them, nothing left out."""

from __future__ import annotations

import csv
import dataclasses
import inspect
import json
from pathlib import Path

import pytest
import torch
from reporting import ALWAYS, lines_of, render

from reports.sections import recipes
from segnext.config import Model, Train
from segnext.config.fields import choices_of
from segnext.data.transforms import MEAN, STANDARD_DEVIATION
from segnext.model import build_network
from segnext.released_weights import released_name
from segnext.training.segmentation import parameter_groups, segmentation_loss
from studies.declare.appendix_table1 import APPENDIX_TABLE1, CHOICES, FIELDS, FIXED, chain
from studies.declare.protocols import PAPER, PROTOCOLS

SEGMENTATION = {name: recipe for name, recipe in PAPER.items() if name != "imagenet1k"}
EXAMPLE = PAPER["ade20k"]


def test_the_printed_values_are_the_papers(shared: Path):
    """`recipes.csv` was read off the paper's PDF."""
    with open(shared / "paper" / "recipes.csv", newline="") as file:
        facts = list(csv.DictReader(file))
    thousands = [" + ".join(f"{count // 1000}k" for count in line.iterations) for line in APPENDIX_TABLE1]
    crops = ["x".join(map(str, line.crop)) for line in APPENDIX_TABLE1]
    assert [line["iterations_printed"] for line in facts] == thousands
    assert [line["crop"] for line in facts] == crops
    assert [int(line["batch"]) for line in facts] == [line.batch for line in APPENDIX_TABLE1]


def test_the_papers_recipes_are_the_printed_ones():
    lines = recipes.printed_table().lines
    assert len(lines) == len(APPENDIX_TABLE1) == 7
    assert {cell.verdict for line in lines for cell in line.cells if cell.verdict} == {"agrees"}


@pytest.mark.parametrize("change", [{"batch": 32}, {"iterations": 40_000}])
def test_another_recipe_than_the_printed_one_differs(monkeypatch: pytest.MonkeyPatch, change: dict[str, int]):
    changed = dataclasses.replace(EXAMPLE, train=dataclasses.replace(EXAMPLE.train, **change))
    monkeypatch.setitem(PAPER, "ade20k", changed)
    words = [line.cells[7].text for line in recipes.printed_table().lines]
    assert words == ["differs", *["agrees"] * 6]


def test_a_chain_is_what_a_run_is_trained_after():
    assert [name for name, _ in chain("voc2012_test after coco_voc")] == ["coco_voc", "voc2012_test after coco_voc"]
    assert [name for name, _ in chain("ade20k")] == ["ade20k"]


def test_every_field_of_a_recipe_has_words_and_a_source():
    parts = {type(part): part for recipe in PAPER.values() for part in (recipe.data, recipe.train)}
    fields = {f"{kind.__name__}.{field.name}" for kind in parts for field in dataclasses.fields(kind)}
    assert set(FIELDS) == fields
    assert all(FIELDS.values())
    for kind in parts:
        assert set(choices_of(kind)) == {field.name for field in dataclasses.fields(kind)}


def test_every_recipe_of_segmentation_says_what_is_not_the_papers():
    assert set(CHOICES) == set(SEGMENTATION)
    assert all(CHOICES.values())


def test_no_difference_between_recipes_is_left_out():
    """Every field in which two of the paper's recipes differ shows in the table of recipes."""
    table = {line.cells[0].text: {cell.text for cell in line.cells} for line in recipes.datasets_table().lines}
    assert set(table) == set(SEGMENTATION)
    for part in ("data", "train"):
        for field in dataclasses.fields(getattr(EXAMPLE, part)):
            values = {name: getattr(getattr(recipe, part), field.name) for name, recipe in SEGMENTATION.items()}
            if field.name == "dataset" or len(set(values.values())) == 1:
                continue
            for name, value in values.items():
                shown = recipes._shown(value)
                assert value is None or any(shown in text for text in table[name]), (name, field.name)


def test_what_no_recipe_changes_is_what_the_code_does():
    told = {fixed.words: fixed.value for fixed in FIXED}
    assert told["Mean subtracted, red, green, blue"] == ", ".join(f"{value:g}" for value in MEAN)
    assert told["Divided by"] == ", ".join(f"{value:g}" for value in STANDARD_DEVIATION)
    adamw = {name: value.default for name, value in inspect.signature(torch.optim.AdamW).parameters.items()}
    (first, second), small = adamw["betas"], f"{adamw['eps']:.0e}".replace("e-0", "e-")
    assert told["Optimiser"] == f"AdamW, betas {first} and {second}, eps {small}"


def test_what_is_not_decayed_is_what_the_table_says():
    model = build_network(Model("T"), 3, "segmentation")
    names = {id(parameter): released_name(name) for name, parameter in model.named_parameters()}
    for group in parameter_groups(model, Train(1)):
        for parameter in group["params"]:
            name = names[id(parameter)]
            assert (group["weight_decay"] == 0) == ("norm" in name and "head" not in name), name


def test_the_loss_is_divided_by_all_pixels():
    scores, labels = torch.randn(1, 3, 2, 2), torch.tensor([[[0, 1], [255, 255]]], dtype=torch.uint8)
    labelled = torch.nn.functional.cross_entropy(scores, labels.long(), ignore_index=255)
    torch.testing.assert_close(segmentation_loss(scores, labels), labelled / 2)


def test_every_value_of_every_recipe_is_in_the_csv(tmp_path: Path):
    files = render(tmp_path / "out", "appendix_table1")
    lines = lines_of(files, "recipes.csv")
    assert {(line["protocol"], line["recipe"]) for line in lines} == {
        (protocol.name, recipe) for protocol in PROTOCOLS.values() for recipe in protocol.recipes
    }
    city = {line["field"]: line for line in lines if (line["protocol"], line["recipe"]) == ("paper", "cityscapes")}
    assert json.loads(city["Data.window"]["value"]) == [1024, 1024]
    assert (city["Train.batch"]["value"], city["Train.learning_rate"]["value"]) == ("8", "6e-05")
    assert city["Train.learning_rate"]["source"] == "Paper: Sec. 4"
    assert {line["source"] for line in lines if line["protocol"] == "quick"} == {""}


def test_it_can_be_asked_for_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    files = render(tmp_path / "out", "appendix_table1")
    own = {"summary/others.md", "summary/appendix_table1.md", "appendix_table1.tex", "appendix_table1.csv"}
    assert set(files) == ALWAYS | own
    text = capsys.readouterr().out
    assert "600K + 40K" in text
    assert "✓ agrees" in text
    assert "claims.html" not in files
    voc = next(line for line in lines_of(files, "appendix_table1.csv") if line["dataset"] == "Pascal VOC w/ COCO")
    assert (voc["iterations_printed"], voc["iterations"], voc["agrees"]) == ("600K + 40K", "600K + 40K", "agrees")
    assert files["appendix_table1.tex"].isascii()
    assert "The caption says" in files["summary/appendix_table1.md"].decode()


def test_it_stands_where_the_paper_has_it(tmp_path: Path):
    text = render(tmp_path / "out", "appendix_table2", "table12")["index.html"].decode()
    links = [text.index(f'<a href="{slug}.html"') for slug in ("table12", "appendix_table1", "appendix_table2")]
    assert links == sorted(links)


def test_an_accuracy_table_says_what_its_rows_were_trained_on_before(tmp_path: Path):
    text = render(tmp_path / "out", "table10", "table9")["summary/table10.md"].decode()
    assert "SegNeXt-B (MSCAN-B): 80000 iterations after 80000 on voc2012, trainaug split." in text
    assert "(MSCAN-L): 40000 iterations after 600000 on coco\\_voc, train split." in text
    assert "iterations after" not in (tmp_path / "out" / "summary/table9.md").read_text()
