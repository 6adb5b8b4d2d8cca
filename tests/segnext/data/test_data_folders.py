"""Promises of the folder reader, on tiny made-up copies of CamVid in both of its layouts."""

import shutil

import numpy as np
import pytest
from conftest import SHARED
from PIL import Image

from segnext.config import Data
from segnext.data import DataError, cached, open_dataset, open_split
from segnext.data.datasets import CAMVID

DATA = Data("camvid", 11, (480, 360), (352, 480), test_split="test")
REAL = SHARED / "data" / "camvid"
needs_camvid = pytest.mark.skipif(not REAL.is_dir(), reason=f"the CamVid copy is not at {REAL}")

NAMES = ("0006R0_f00930", "0006R0_f00960", "Seq05VD_f00000")


def picture(number):
    pixels = np.indices((9, 12)).sum(axis=0) * 8 + 10 * number
    return np.repeat(pixels[..., None], 3, axis=2).astype(np.uint8)


def annotation(number):
    return ((np.arange(9 * 12) + number) % 12).reshape(9, 12).astype(np.uint8)


def write_compact(root, split="train", names=NAMES, listed=True):
    """The layout of the compact copy: JPEG images, palette labels, a list of stems."""
    images, labels = root / "images" / split, root / "labels" / split
    for folder in (images, labels):
        folder.mkdir(parents=True)
    for number, name in enumerate(names):
        Image.fromarray(picture(number)).save(images / f"{name}.jpg", quality=100)
        label = Image.fromarray(annotation(number))
        label.putpalette([level // 3 for level in range(768)])
        label.save(labels / f"{name}.png")
    if listed:
        (root / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    return root


def write_tutorial(root, split="train", names=NAMES, listed=True):
    """The layout of SegNet's tutorial: PNG images, grey labels, lists with the paths of its author."""
    images, labels = root / split, root / f"{split}annot"
    for folder in (images, labels):
        folder.mkdir(parents=True)
    for number, name in enumerate(names):
        Image.fromarray(picture(number)).save(images / f"{name}.png")
        Image.fromarray(annotation(number)).save(labels / f"{name}.png")
    if listed:
        prefix = f"/SegNet/CamVid/{split}"
        (root / f"{split}.txt").write_text("".join(f"{prefix}/{n}.png {prefix}annot/{n}.png\n" for n in names))
    return root


LAYOUTS = {"compact": write_compact, "tutorial": write_tutorial}


@pytest.fixture(params=LAYOUTS)
def write(request):
    return LAYOUTS[request.param]


def only(folder, name):
    """The one file of this stem in a folder tree that is an image, and the one that is its label."""
    image, label = sorted(folder.rglob(f"{name}.*"))
    return image, label


@pytest.mark.parametrize("below", [".", "CamVid", "camvid"])
def test_both_layouts_are_read_in_sorted_order(tmp_path, write, below):
    write(tmp_path / below, names=NAMES[::-1])
    source = open_split(DATA, "train", tmp_path)
    assert [source.name(index) for index in range(len(source))] == list(NAMES)
    assert source.classes == CAMVID.classes
    image, label = source.load(0)
    assert image.dtype == label.dtype == np.uint8
    assert np.abs(image.astype(int) - picture(2)).max() <= 4  # JPEG
    np.testing.assert_array_equal(label, np.where(annotation(2) == 11, 255, annotation(2)))


def test_splits_are_apart(tmp_path, write):
    write(tmp_path, "train")
    write(tmp_path, "val", NAMES[:1])
    assert len(open_split(DATA, "train", tmp_path)) == 3
    assert len(open_split(DATA, "val", tmp_path)) == 1


def test_files_of_desktops_do_not_count(tmp_path, write):
    write(tmp_path)
    for folder in [path for path in tmp_path.rglob("*") if path.is_dir()]:
        (folder / "Thumbs.db").write_bytes(b"")
        (folder / "._hidden.png").write_bytes(b"")
    assert len(open_split(DATA, "train", tmp_path)) == 3


def test_a_neighbours_train_folder_is_not_taken_for_camvid(tmp_path, write):
    (tmp_path / "train").mkdir()
    write(tmp_path / "CamVid")
    assert len(open_split(DATA, "train", tmp_path)) == 3


def test_the_fingerprint_follows_names_and_sizes_but_not_the_place(tmp_path, write):
    here = open_split(DATA, "train", write(tmp_path / "a")).fingerprint()
    assert open_split(DATA, "train", write(tmp_path / "b")).fingerprint() == here
    assert open_split(DATA, "train", write(tmp_path / "fewer", names=NAMES[:2])).fingerprint() != here
    image, _ = only(tmp_path / "b", NAMES[0])
    image.write_bytes(image.read_bytes() + b"\0")
    assert open_split(DATA, "train", tmp_path / "b").fingerprint() != here


def test_a_cached_source_reads_each_file_once(tmp_path):
    source = cached(open_split(DATA, "train", write_compact(tmp_path)))
    first = source.load(1)
    shutil.rmtree(tmp_path / "images")
    again = source.load(1)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert (len(source), source.name(1), source.classes) == (3, NAMES[1], CAMVID.classes)
    with pytest.raises(ValueError, match="read-only"):
        again[0][:] = 0


def refused(root, split="train"):
    with pytest.raises(DataError) as caught:
        open_split(DATA, split, root)
    return str(caught.value)


def test_no_root_is_refused():
    assert "camvid train: no folder is given" in refused(None)


def test_a_missing_root_is_refused(tmp_path):
    message = refused(tmp_path / "nowhere")
    assert "camvid train: not found under" in message
    assert str(tmp_path / "nowhere" / "images" / "train") in message


def test_a_missing_split_is_refused(tmp_path, write):
    write(tmp_path)
    assert "camvid val: not found under" in refused(tmp_path, "val")


def test_a_missing_label_folder_is_refused(tmp_path, write):
    write(tmp_path)
    labels = only(tmp_path, NAMES[0])[1].parent
    shutil.rmtree(labels)
    missing = refused(tmp_path).split("missing are ")[1].split("; ")[0].split(", or ")
    assert str(labels) in missing  # alone: its images are there


def test_empty_folders_are_refused(tmp_path, write):
    write(tmp_path, names=(), listed=False)
    message = refused(tmp_path)
    assert f"camvid train in {tmp_path}: no *." in message
    assert "the whole split has 367" in message


def test_an_image_without_its_label_is_refused(tmp_path, write):
    write(tmp_path, listed=False)
    only(tmp_path, NAMES[1])[1].unlink()
    message = refused(tmp_path)
    assert f"camvid train in {tmp_path}: 1 images without a label ({NAMES[1]})" in message
    assert "Found are 3 images and 2 labels" in message


def test_a_label_without_its_image_is_refused(tmp_path, write):
    write(tmp_path)
    only(tmp_path, NAMES[1])[0].unlink()
    assert f"1 labels without an image ({NAMES[1]})" in refused(tmp_path)


def test_a_listed_frame_without_files_is_refused(tmp_path, write):
    write(tmp_path)
    for path in only(tmp_path, NAMES[1]):
        path.unlink()
    assert f"1 names in train.txt without files ({NAMES[1]})" in refused(tmp_path)


def test_a_list_chooses_the_frames(tmp_path, write):
    write(tmp_path)
    (tmp_path / "train.txt").write_text(f"{NAMES[0]}.png\n\n{NAMES[2]}.png\n")
    source = open_split(DATA, "train", tmp_path)
    assert [source.name(index) for index in range(len(source))] == [NAMES[0], NAMES[2]]
    only(tmp_path, NAMES[1])[1].unlink()  # what is not chosen need not be whole
    assert len(open_split(DATA, "train", tmp_path)) == 2
    (tmp_path / "train.txt").write_text("\n")
    assert "train.txt names no frame" in refused(tmp_path)


def test_a_whole_split_needs_no_list_and_half_of_one_does(tmp_path, write):
    names = [f"frame{number:03d}" for number in range(CAMVID.splits["train"].frames)]
    write(tmp_path, names=names, listed=False)
    assert len(open_split(DATA, "train", tmp_path)) == 367
    for name in names[183:]:
        for path in only(tmp_path, name):
            path.unlink()
    message = refused(tmp_path)
    assert f"camvid train in {tmp_path}: a part of the split only" in message
    assert "Found are 183 images and 183 labels, the whole split has 367" in message


def test_only_the_first_offenders_are_named(tmp_path, write):
    names = [f"frame{number:02d}" for number in range(12)]
    write(tmp_path, names=names, listed=False)
    for name in names:
        only(tmp_path, name)[1].unlink()
    message = refused(tmp_path)
    assert "12 images without a label (frame00, frame01, frame02, frame03, frame04 and 7 more)" in message


def spoilt(root, number=0):
    with pytest.raises(DataError) as caught:
        open_split(DATA, "train", root).load(number)
    return str(caught.value)


@pytest.mark.parametrize("which", [0, 1], ids=["image", "label"])
@pytest.mark.parametrize("damage", ["truncated", "emptied", "overwritten"])
def test_a_damaged_file_is_named(tmp_path, write, which, damage):
    path = only(write(tmp_path), NAMES[0])[which]
    whole = path.read_bytes()
    path.write_bytes(
        {"truncated": whole[: len(whole) * 2 // 3], "emptied": b"", "overwritten": b"not an image"}[damage]
    )
    assert f"{path}: cannot be read as an image" in spoilt(tmp_path)


@pytest.mark.parametrize("which", [0, 1], ids=["image", "label"])
def test_no_damage_raises_anything_but_data_errors(tmp_path, write, which):
    path = only(write(tmp_path), NAMES[0])[which]
    source = open_split(DATA, "train", tmp_path)
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(whole[: random.integers(1, len(whole))] if random.integers(2) else whole)
        for position in random.integers(0, len(damaged), 3):
            damaged[position] = random.integers(256)
        path.write_bytes(damaged)
        try:
            source.load(0)
        except DataError as error:
            assert str(tmp_path) in str(error)  # noqa: PT017 damage may also go unseen


def test_a_label_of_another_size_is_named(tmp_path, write):
    path = only(write(tmp_path), NAMES[0])[1]
    Image.fromarray(annotation(0)[:, :7]).save(path)
    assert f"{path}: the label is 7x9, but its image 12x9" in spoilt(tmp_path)


def test_a_label_value_without_a_class_is_named(tmp_path, write):
    path = only(write(tmp_path), NAMES[0])[1]
    label = annotation(0)
    label[3, 4:6] = 12, 254
    Image.fromarray(label).save(path)
    assert f"{path}: no class has the label value 12, 254" in spoilt(tmp_path)


def test_a_label_in_colours_is_named(tmp_path, write):
    path = only(write(tmp_path), NAMES[0])[1]
    Image.fromarray(picture(0)).save(path)
    assert f"{path}: a label of mode RGB" in spoilt(tmp_path)


@needs_camvid
@pytest.mark.parametrize(("split", "frames"), [("train", 367), ("val", 101), ("test", 233)])
def test_camvid_itself_is_read(split, frames):
    source = open_split(DATA, split, REAL.parent)
    assert len(source) == frames
    image, label = source.load(frames // 2)
    assert image.shape == (360, 480, 3)
    assert label.shape == (360, 480)
    assert set(np.unique(label)) <= {*range(11), 255}


@needs_camvid
def test_camvid_has_the_class_shares_that_are_known():
    """datasets.md 1.1, percent of test pixels that are not void, from every sixth frame."""
    source = open_dataset("camvid", "test", REAL)
    counts = sum(np.bincount(source.load(index)[1].ravel(), minlength=256) for index in range(0, len(source), 6))
    known = [17.75, 25.59, 1.22, 26.84, 9.64, 11.70, 1.05, 1.23, 4.13, 0.66, 0.20]
    np.testing.assert_allclose(100 * counts[:11] / counts[:11].sum(), known, atol=2)
