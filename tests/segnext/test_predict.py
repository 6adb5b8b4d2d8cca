"""The network on a person's own pictures: any picture, any file of weights, and nothing overwritten or lost."""

from __future__ import annotations

import csv
import shutil
import sys
import types
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import does
from PIL import Image
from torch import Tensor

from segnext import Data, Model, Run, SegNeXt, Train
from segnext.apply import predictor as predictors
from segnext.apply.pictures import read_picture
from segnext.apply.recognise import TESTED, read_model, recognised
from segnext.config import canonical
from segnext.data import transforms
from segnext.data.classes import ADE20K, CAMVID, CITYSCAPES
from segnext.data.source import DataError
from segnext.ham import NMF
from segnext.predict import Prediction, Predictor, main
from segnext.released_weights import load_file, released_name, save_released
from studies.declare.protocols import protocol

RAMP = np.tile(np.arange(256, dtype=np.uint8), (8, 1))


def weights_of(model: Model, classes: int) -> dict[str, Tensor]:
    """A state dict under the released names with whatever the memory held: for shapes alone."""
    with torch.device("meta"):
        own = SegNeXt(model, classes).state_dict()
    return {released_name(name): torch.empty(value.shape) for name, value in own.items()}


# Files of weights


@pytest.mark.parametrize("size", "TSBL")
def test_the_authors_file_says_its_size_its_classes_and_how_it_is_tested(size: str):
    names = ("road ", *list(CITYSCAPES)[1:])  # mmsegmentation's lists have blanks, too
    meta = {"mmseg_version": "0.24.1", "CLASSES": names, "PALETTE": [[0, 0, 0]] * 19, "config": "in_channels=[1, 2]"}
    found = recognised({"meta": meta, "state_dict": weights_of(Model(size), 19)}, "authors.pth")
    assert found.model == Model(size)
    assert found.data == TESTED["cityscapes"]
    assert found.names == tuple(CITYSCAPES)


def test_a_file_of_mmsegmentation_has_its_spelling_and_its_rank_for_every_size():
    weights = {k.replace(".dwconv.dwconv.", ".dwconv."): v for k, v in weights_of(Model("B"), 150).items()}
    meta = {"dataset_meta": {"classes": list(ADE20K), "palette": [[1, 2, 3]] * 150}, "cfg": "ham_kwargs=dict(MD_R=16)"}
    for content in ({"meta": meta, "state_dict": weights}, weights):
        found = recognised(content, "mmseg.pth")
        assert found.model == Model("B", nmf_rank=16)
        assert found.data.dataset == "ade20k"


@pytest.mark.parametrize(
    "model",
    [
        Model("micro"),
        Model("micro", decoder="a"),
        Model("micro", stages=(1, 2, 3, 4)),
        Model("micro", branches=(7, 21)),
        Model("micro", channel_mixing=False),
        Model("micro", context="none"),
        Model("micro", head_norm="bn"),
        Model("micro", encoder="van"),
        Model("T", encoder="convnext_tiny"),
    ],
    ids=str,
)
def test_bare_weights_say_what_network_they_are(model: Model):
    assert recognised(weights_of(model, 11), "bare.pth").model == model


def test_our_own_file_says_what_no_shape_shows(tmp_path: Path):
    data = Data("camvid", 11, (240, 180), (176, 240))
    run = Run("camvid-half", 1, Model("micro", attention=False), data, Train(5))
    save_released(SegNeXt(run.model, 11), tmp_path / "weights.pt", {"run": canonical(run)})
    found = recognised(load_file(tmp_path / "weights.pt"), "weights.pt")
    assert (found.model, found.data, found.names) == (run.model, run.data, tuple(CAMVID))


def test_classes_of_ones_own_keep_the_names_and_colours_of_the_file():
    meta = {"CLASSES": ("crop", "weed", "weed"), "PALETTE": [[9, 8, 7], [0, 255, 0], [1, 1, 1]]}
    found = recognised({"meta": meta, "state_dict": weights_of(Model("micro"), 3)}, "own.pth")
    assert found.names == ("crop", "weed", "weed 2")
    assert found.colours[:3].tolist() == meta["PALETTE"]
    assert found.data.dataset == "own"


def test_what_the_file_does_not_say_an_option_settles():
    weights = weights_of(Model("micro"), 7)
    with pytest.raises(ValueError, match=r"bare\.pth: 7 classes, and neither .* \(--dataset diagnostic/scene, say\)"):
        recognised(weights, "bare.pth")
    assert recognised(weights, "bare.pth", dataset="diagnostic/scene").data.dataset == "diagnostic/scene"
    assert recognised(weights, "bare.pth", classes=list("abcdefg")).names == tuple("abcdefg")
    with pytest.raises(ValueError, match="7 classes, but camvid has 11"):
        recognised(weights, "bare.pth", dataset="CamVid")
    with pytest.raises(ValueError, match="--classes: 2 names"):
        recognised(weights, "bare.pth", classes=["a", "b"])
    without = recognised(weights, "bare.pth", dataset="diagnostic/scene", model="micro,attention=false")
    assert without.model == Model("micro", attention=False)
    with pytest.raises(ValueError, match="no weights of --model tiny"):
        recognised(weights, "bare.pth", model="tiny")


def test_weights_that_are_no_networks_are_refused_with_what_to_take():
    encoder = {k.removeprefix("backbone."): v for k, v in weights_of(Model("micro"), 5).items() if k[0] == "b"}
    with pytest.raises(ValueError, match=r"these weights score no pixels .*segnext\.weights list"):
        recognised(encoder, "mscan_t.pth")
    with pytest.raises(ValueError, match=r"widths are those of SegNeXt-micro, but .*--model micro,decoder=a"):
        recognised({**weights_of(Model("micro"), 5), "backbone.more": torch.zeros(1)}, "more.pth")
    wide = {**weights_of(Model("micro"), 5), "backbone.norm1.weight": torch.zeros(17)}
    with pytest.raises(ValueError, match="the widths of no network"):
        recognised(wide, "wide.pth")


def test_a_model_is_written_as_a_size_and_fields():
    assert read_model("tiny") == read_model("T") == Model("T")
    assert read_model("micro,branches=[7,11],decoder=b") == Model("micro", branches=(7, 11), decoder="b")
    for text in ("huge", "T,colour=red", "T,decoder=z", "T,branches=7"):
        with pytest.raises(ValueError, match="--model"):
            read_model(text)


def test_pictures_are_tested_as_the_studies_test_the_data_sets():
    recipes = {**protocol("paper").recipes, "camvid": protocol("camvid").recipes["*"]}
    recipes["voc2012"] = recipes["voc2012_trainaug"]
    for name, data in TESTED.items():
        theirs = recipes[name].data
        assert isinstance(theirs, Data)
        for field in ("dataset", "classes", "scale", "test_scales", "test_multiple", "window", "stride"):
            assert getattr(data, field) == getattr(theirs, field), (name, field)


def test_what_mmengine_and_timm_keep_beside_weights_is_no_hindrance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As mmengine 0.10 pickles a message hub: curves in NumPy arrays, methods by `getattr`. It is not here later."""

    class HistoryBuffer:
        @classmethod
        def mean(cls) -> None: ...

        def __init__(self) -> None:
            self._log_history, self._statistics_methods = np.arange(3.0), {"mean": HistoryBuffer.mean}

    HistoryBuffer.__module__, HistoryBuffer.__qualname__ = "mmengine.logging.history_buffer", "HistoryBuffer"
    module = types.ModuleType(HistoryBuffer.__module__)
    module.HistoryBuffer = HistoryBuffer  # type: ignore[attr-defined]
    with monkeypatch.context() as there:
        for name in ("mmengine", "mmengine.logging"):
            there.setitem(sys.modules, name, types.ModuleType(name))
        there.setitem(sys.modules, module.__name__, module)
        hub = {"log_scalars": {"loss": HistoryBuffer()}, "runtime_info": {"n": np.int64(3), "lr": np.float64(1)}}
        torch.save({"state_dict": {"w": torch.ones(2)}, "message_hub": hub}, tmp_path / "mmengine.pth")
    arguments = __import__("argparse").Namespace(model="van_tiny")
    torch.save({"state_dict": {"w": torch.ones(2)}, "args": arguments}, tmp_path / "timm.pth.tar")
    for file in tmp_path.iterdir():
        assert load_file(file)["state_dict"]["w"].tolist() == [1, 1], file


# Pictures


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_a_picture_is_upright_whatever_the_camera_was(orientation: int, suffix: str, tmp_path: Path):
    seen = np.zeros((64, 96, 3), np.uint8)
    seen[:16, :24] = 255  # the upper left corner
    ways = Image.Transpose
    backwards = {2: ways.FLIP_LEFT_RIGHT, 3: ways.ROTATE_180, 4: ways.FLIP_TOP_BOTTOM, 5: ways.TRANSPOSE}
    backwards |= {6: ways.ROTATE_90, 7: ways.TRANSVERSE, 8: ways.ROTATE_270}
    stored = Image.fromarray(seen)
    if orientation > 1:
        stored = stored.transpose(backwards[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / f"seen.{suffix}", exif=exif)
    read = read_picture(tmp_path / f"seen.{suffix}").astype(int)
    assert read.shape == seen.shape
    assert np.abs(read - seen).mean() < 4


def saved(path: Path, kind: str) -> None:
    """A ramp from black to white in one of the ways that people have; where it can be transparent, half of it is."""
    grey = Image.fromarray(RAMP)
    clear = Image.fromarray(np.where(RAMP < 128, 0, 255).astype(np.uint8))
    match kind:
        case "grey":
            grey.save(path, "PNG")
        case "16 bits":
            Image.fromarray(RAMP.astype(np.uint16) * 257).save(path, "PNG")
        case "16 bits of a PGM":
            values = (RAMP.astype(np.uint16) * 257).astype(">u2").tobytes()
            path.write_bytes(b"P5 256 8 65535\n" + values)
        case "32 bits":
            Image.fromarray(RAMP.astype(np.int32)).save(path, "TIFF")
        case "floats to 1":
            Image.fromarray(RAMP.astype(np.float32) / 255).save(path, "TIFF")
        case "floats to 255":
            Image.fromarray(RAMP.astype(np.float32)).save(path, "TIFF")
        case "CMYK":
            grey.convert("RGB").convert("CMYK").save(path, "JPEG", quality=98)
        case "animation":
            grey.save(path, "GIF", save_all=True, append_images=[clear, grey.rotate(180)])
        case "transparent palette":
            grey.convert("P").save(path, "PNG", transparency=bytes(0 if level < 128 else 255 for level in range(256)))
        case "transparent grey":
            Image.merge("LA", [grey, clear]).save(path, "PNG")
        case "transparent colour":
            Image.merge("RGBA", [grey, grey, grey, clear]).save(path, "WEBP", lossless=True)


KINDS = ["grey", "16 bits", "16 bits of a PGM", "32 bits", "floats to 1", "floats to 255", "CMYK", "animation"]
CLEAR = ["transparent palette", "transparent grey", "transparent colour"]


@pytest.mark.parametrize("kind", KINDS + CLEAR)
def test_a_picture_of_any_kind_has_the_levels_that_are_meant(kind: str, tmp_path: Path):
    saved(tmp_path / "picture", kind)
    read = read_picture(tmp_path / "picture")
    meant = np.where(RAMP < 128, 255, RAMP) if kind in CLEAR else RAMP
    assert read.shape == (8, 256, 3)
    assert np.abs(read - meant[..., None].astype(int)).max() <= (6 if kind == "CMYK" else 0)


def test_a_picture_that_cannot_be_read_rightly_is_named(tmp_path: Path):
    wide = Image.fromarray(RAMP.astype(np.float32) * 1000 - 7)
    wide.save(tmp_path / "heights.tif")
    Image.fromarray(RAMP).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:-40])
    (tmp_path / "words.jpg").write_text("no picture")
    for name, why in (
        ("heights.tif", "from -7"),
        ("cut.png", ""),
        ("words.jpg", "no picture"),
        ("absent.png", "no su"),
    ):
        with pytest.raises(DataError, match=rf"{name}: .*{why}"):
            read_picture(tmp_path / name)


# Predictions


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A micro network with CamVid's classes as a run keeps it, its scores far apart."""
    torch.manual_seed(0)
    network = SegNeXt(Model("micro"), 11)
    torch.nn.init.normal_(network.decoder.classifier.weight)  # type: ignore[arg-type,union-attr]
    data = Data("camvid", 11, (240, 180), (176, 240), test_scales=(0.5, 1.0))
    run = Run("camvid-half", 1, Model("micro"), data, Train(5))
    path = tmp_path_factory.mktemp("weights") / "weights.pt"
    save_released(network, path, {"run": canonical(run)})
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of pictures as people have them: two fine ones, one cut off, one no picture, one in a folder below."""
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (3, 9, 12, 3), np.uint8)
    for name, pixels in zip(("a.png", "b.jpg", "below/a.webp"), noise, strict=True):
        Image.fromarray(pixels).resize((120, 90), Image.Resampling.BICUBIC).save(folder / name)
    (folder / "cut.png").write_bytes((folder / "a.png").read_bytes()[:500])
    (folder / "notes.txt").write_text("no picture, and not named like one")
    (folder / ".hidden.png").write_bytes(b"")
    return folder


def test_labels_are_those_of_the_network_on_the_picture_as_its_data_set_is_tested(weights: Path, photos: Path):
    predictor = Predictor(weights)
    picture = read_picture(photos / "a.png")
    for module in predictor.network.modules():
        if isinstance(module, NMF):
            module.reseed(0)
    with torch.no_grad():
        scores = predictor.network(transforms.test_image(picture, predictor.what.data))
        known = F.interpolate(scores, picture.shape[:2], mode="bilinear", align_corners=False)[0].argmax(0).numpy()
    found = predictor(photos / "a.png")
    assert (found.labels == known).mean() > 0.999
    assert len(set(known.flat)) > 1
    assert sum(found.percent.values()) == pytest.approx(100)
    assert list(found.percent.values()) == sorted(found.percent.values(), reverse=True)
    for given in (picture, Image.open(photos / "a.png"), str(photos / "a.png")):
        assert np.array_equal(predictor(given).labels, found.labels)


def test_the_readmes_three_lines(weights: Path, photos: Path, tmp_path: Path):
    from segnext.predict import Predictor

    found = Predictor(weights)(photos / "a.png")  # found.labels: uint8 (H, W); found.percent: {"road": 41.2, ...}
    found.overlay(0.6).save(tmp_path / "seen.png")
    assert isinstance(found, Prediction)
    with Image.open(tmp_path / "seen.png") as seen:
        assert seen.height >= 90
        assert seen.width > 120


def test_a_picture_of_too_many_pixels_for_every_scale_keeps_its_size(
    weights: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
):
    predictor = Predictor(weights, multi_scale=True)
    whole = predictor(photos / "a.png").labels
    monkeypatch.setitem(predictors.MEMORY_LIMIT, "cpu", 4 * 11 * 60 * 45)
    found = predictor(photos / "a.png").labels
    assert found.shape == whole.shape == (90, 120)
    assert (found == whole).mean() > 0.5


def test_a_strip_of_a_picture_is_refused_and_named(weights: Path, tmp_path: Path):
    Image.new("RGB", (5000, 3)).save(tmp_path / "strip.png")
    with pytest.raises(DataError, match=r"strip\.png: 5000x3 is too long and narrow"):
        Predictor(weights)(tmp_path / "strip.png")
    with pytest.raises(DataError, match="uint8 RGB"):
        Predictor(weights)(np.zeros((9, 9), np.uint8))


def segmented(*words: str) -> int:
    """The command in this process; its exit code."""
    try:
        return main(words)
    except SystemExit as left:
        return int(left.code or 0)


def summary(out: Path) -> list[dict[str, str]]:
    with open(out / "summary.csv", newline="") as file:
        return list(csv.DictReader(file))


def contents(folder: Path) -> Mapping[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_is_segmented_but_for_what_is_no_picture_and_nothing_is_overwritten(
    weights: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "out"
    words = [str(photos), "--weights", str(weights.parent), "--out", str(out), "--device", "cpu"]
    said = does("segnext.predict", *words, code=1)
    assert "SegNeXt-micro, 11 classes of camvid" in said
    assert f"error: {photos}/cut.png: cannot be read as a picture" in said
    assert "1 of 4 pictures could not be segmented" in said
    made = contents(out)
    names = ("a", "b", "below/a")
    assert set(made) == {"summary.csv", *(f"{n}.{kind}.png" for n in names for kind in ("labels", "overlay"))}
    found = Predictor(weights)(photos / "a.png")
    with Image.open(out / "a.labels.png") as labels:
        assert labels.mode == "P"
        assert np.array_equal(np.asarray(labels), found.labels)
        assert labels.getpalette()[:33] == [level for colour in CAMVID.values() for level in colour]  # type: ignore[index]
    percent = {line["class"]: float(line["percent"]) for line in summary(out) if line["picture"] == "a"}
    assert percent == pytest.approx(found.percent, abs=1e-4)

    (out / "b.overlay.png").unlink()  # as where Ctrl-C came between two files
    shutil.copy(photos / "a.png", photos / "cut.png")
    assert segmented(*words) == 0
    assert "2 of 4 are there already and kept" in capsys.readouterr().out
    again = contents(out)
    assert {name: again[name] for name in made if name != "summary.csv"} == {
        name: content for name, content in made.items() if name != "summary.csv"
    }
    assert "cut.labels.png" in again

    Image.new("RGB", (64, 64), "red").save(photos / "a.png")
    assert segmented(*words) == 2
    said = capsys.readouterr().err
    assert "a.labels.png or its overlay is there already, of another picture or from other weights" in said
    assert contents(out) == again
    assert segmented(*words, "--overwrite") == 0
    assert contents(out)["a.labels.png"] != again["a.labels.png"]
    assert contents(out)["b.labels.png"] == again["b.labels.png"]


def test_pictures_of_one_name_are_told_apart_or_refused(
    weights: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    shutil.copy(photos / "b.jpg", photos / "a.jpg")
    pictures = [str(photos / name) for name in ("a.png", "a.jpg")]
    words = ["--weights", str(weights), "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert segmented(*pictures, *words) == 0
    assert {line["picture"] for line in summary(tmp_path / "out")} == {"a.png", "a.jpg"}
    (photos / "below" / "a.png").write_bytes((photos / "a.png").read_bytes())
    assert segmented(pictures[0], str(photos / "below" / "a.png"), *words) == 2
    assert "several pictures are called a" in capsys.readouterr().err
    assert segmented(str(photos / "b.jpg"), *words) == 2
    assert "summary.csv is there already, of other pictures (a.jpg)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["PHOTOS", "--weights", "PHOTOS"], "holds no network's weights"),
        (["PHOTOS/absent.png", "--weights", "WEIGHTS"], "there is no such picture or folder"),
        (["PHOTOS", "--weights", "PHOTOS/a.png"], "is not a readable file of plain weights"),
        (["PHOTOS", "--weights", "WEIGHTS", "--overlay", "60"], "is not a number from 0 to 1"),
        (["PHOTOS", "--weights", "WEIGHTS", "--device", "abacus"], "--device abacus"),
        (["PHOTOS", "--weights", "WEIGHTS", "--dataset", "ade2k"], "did you mean ade20k"),
    ],
)
def test_a_persons_mistake_is_told_in_a_line(
    words: list[str], why: str, weights: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    named = {"PHOTOS": str(photos), "WEIGHTS": str(weights)}
    given = [named.get(word, word.replace("PHOTOS/", f"{photos}/")) for word in words]
    assert segmented(*given, "--out", str(tmp_path / "out")) == 2
    assert why in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
