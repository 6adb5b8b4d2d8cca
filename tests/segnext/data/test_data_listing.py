"""Promises of the reader of list files: a line is a name, whoever wrote the list, and never silently another's."""

from __future__ import annotations

import codecs
import shutil

import pytest
from conftest import FUZZ
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import NAMES, listing, paths, write

from segnext.data import DataError, open_dataset
from segnext.data.listing import frame_of, listed


@pytest.mark.parametrize(
    ("line", "frame"),
    [
        ("2007_000032", "2007_000032"),
        ("2007_000032.jpg", "2007_000032"),
        ("2007_000032.JPG\r", "2007_000032"),
        ("2007_000032.PnG", "2007_000032"),
        ("\ufeff2007_000032.jpeg", "2007_000032"),
        ("JPEGImages/2007_000032.jpg", "2007_000032"),
        ("/JPEGImages/2007_000032.jpg /SegmentationClassAug/2007_000032.png", "2007_000032"),
        ("JPEGImages/2007_000032 SegmentationClass/2007_000032", "2007_000032"),
        ("a.JPG\ta.PNG", "a"),
        ("a.jpg a_labelTrainIds.png", "a"),
        ("my frame", "my frame"),
        ("my frame.jpg", "my frame"),
        ("my images/my frame.jpg my labels/my frame.png", "my frame"),
        ("frame 1", "frame 1"),
        ("frame.jpg 1", "frame.jpg 1"),
        ("a.jpg b.jpg", "a.jpg b"),
        ("x/a.jpg y/b.jpg", "x/a.jpg y/b.jpg"),  # belongs to no frame
        ("a.b", "a.b"),
    ],
)
def test_a_line_is_one_frames_name(line, frame):
    assert frame_of(line, ".jpg") == frame


@pytest.mark.parametrize(
    "line",
    [
        "aachen/aachen_0",
        "leftImg8bit/train/aachen/aachen_0_leftImg8bit.png",
        "leftImg8bit/train/aachen/aachen_0_LEFTIMG8BIT.PNG gtFine/train/aachen/aachen_0_gtFine_labelTrainIds.png",
        "leftImg8bit/train/aachen/aachen_0_leftImg8bit.png\tgtFine/train/aachen/aachen_0_gtFine_labelIds.png",
    ],
)
def test_a_city_is_a_part_of_its_frames_names(line):
    assert frame_of(line, "_leftImg8bit.png", nested=True) == "aachen/aachen_0"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_marks_and_ends_of_lines_are_no_part_of_a_name(tmp_path, encoding, end):
    (tmp_path / "list.txt").write_bytes(end.join(["é 1", "", "b.jpg", ""]).encode(encoding))
    assert listed(tmp_path / "list.txt", ".jpg") == {"é 1", "b"}
    (tmp_path / "list.txt").write_bytes("".encode(encoding))
    assert listed(tmp_path / "list.txt") == set()


@pytest.mark.parametrize(("dataset", "split"), [(name, split) for name in NAMES for split in NAMES[name]])
@pytest.mark.parametrize("form", ["marked", "upper", "paths"])
def test_every_dataset_reads_every_form_of_list(tmp_path, dataset, split, form):
    base = write(tmp_path, dataset, split)
    names = NAMES[dataset][split]
    images = [paths(dataset, split, name)[0] for name in names]
    lines = {
        "marked": names,
        "upper": [image[:-3] + image[-3:].upper() for image in images],
        "paths": [" ".join(filter(None, paths(dataset, split, name))) for name in names],
    }[form]
    content = "\r\n".join(lines).encode()
    (base / listing(dataset, split)).write_bytes(codecs.BOM_UTF8 * (form == "marked") + content)
    source = open_dataset(dataset, split, tmp_path)
    assert [source.name(index) for index in range(len(source))] == sorted(names)


def test_names_with_blanks_are_listed_and_never_taken_for_another(tmp_path):
    base = write(tmp_path, "ade20k", "val", names=["frame", "frame 1", "two words"])
    (base / "val.txt").write_text("frame 1\ntwo words.jpg\n")
    source = open_dataset("ade20k", "val", tmp_path)
    assert [source.name(index) for index in range(len(source))] == ["frame 1", "two words"]
    (base / "val.txt").write_text("frame 2\n")
    with pytest.raises(DataError, match=r"1 names in val\.txt without files \(frame 2\)"):
        open_dataset("ade20k", "val", tmp_path)


def test_a_list_in_latin_1_names_files_of_the_same_bytes_and_no_message_breaks_a_terminal(tmp_path):
    base = write(tmp_path, "ade20k", "val", names=["caf\udce9"], listed=False)
    (base / "val.txt").write_bytes(b"caf\xe9.jpg\n")
    assert len(open_dataset("ade20k", "val", tmp_path).fingerprint()) == 12
    (base / "val.txt").write_bytes(b"th\xe9\x1b[2J\n")
    with pytest.raises(DataError, match=r"without files \(th\\udce9\\x1b\[2J\)") as raised:
        open_dataset("ade20k", "val", tmp_path)
    str(raised.value).encode()


@pytest.mark.parametrize("which", [0, 1], ids=["image", "label"])
@pytest.mark.parametrize("listing", [True, False])
def test_two_files_of_one_frame_are_refused_with_both_names(tmp_path, which, listing):
    base = write(tmp_path, "cityscapes", "val", listed=listing)
    path = base / paths("cityscapes", "val", NAMES["cityscapes"]["val"][0])[which]
    twin = path.with_suffix(".PNG")
    shutil.copy(path, twin)
    with pytest.raises(DataError, match="1 frames with two files") as raised:
        open_dataset("cityscapes", "val", tmp_path)
    assert f"{twin.relative_to(base)} and {path.relative_to(base)}" in str(raised.value)


def test_two_files_of_a_frame_that_the_list_leaves_out_do_not_matter(tmp_path):
    base = write(tmp_path, "ade20k", "val")
    (base / "images/validation/x.jpg").touch()
    (base / "images/validation/x.JPG").touch()
    assert len(open_dataset("ade20k", "val", tmp_path)) == 2


def test_deeplabs_augmented_set_is_read_without_aug_txt(tmp_path):
    """SegmentationClassAug with trainaug.txt: the same frames and labels as with the converter's lists."""
    for split in ("train", "aug"):
        write(tmp_path, "voc2012", split)
    base = tmp_path / "VOCdevkit/VOC2012"
    known = [open_dataset("voc2012", split, tmp_path).fingerprint() for split in ("train", "aug", "trainaug")]
    names = [f"\ufeff{name}.jpg" for split in ("train", "aug") for name in NAMES["voc2012"][split]]
    (base / "ImageSets/Segmentation/aug.txt").unlink()
    (base / "ImageSets/Segmentation/trainaug.txt").write_text("\n".join(names), encoding="utf-8")
    assert [open_dataset("voc2012", s, tmp_path).fingerprint() for s in ("train", "aug", "trainaug")] == known


WORDS = ("a", "b", "a 1", ".jpg", ".JPG", " ", "/", "\r\n", "\n", "\ufeff", "\0", "é", "_x")


@pytest.mark.fuzz
@given(st.lists(st.sampled_from(WORDS)), st.binary())
@settings(max_examples=FUZZ, deadline=None, derandomize=True)
def test_whatever_a_list_holds_a_split_opens_with_what_it_names_or_is_refused(tmp_path_factory, words, tail):
    base = tmp_path_factory.mktemp("ade")
    for name in ("a", "b", "a 1"):
        for path in (f"images/validation/{name}.jpg", f"annotations/validation/{name}.png"):
            (base / path).parent.mkdir(parents=True, exist_ok=True)
            (base / path).touch()
    (base / "val.txt").write_bytes("".join(words).encode() + tail)
    try:
        source = open_dataset("ade20k", "val", base)
    except DataError as error:
        assert str(base) in str(error)  # noqa: PT017 both outcomes are judged
        assert "val.txt" in str(error)  # noqa: PT017
        str(error).encode()
    else:
        assert {source.name(index) for index in range(len(source))} == listed(base / "val.txt", ".jpg")
