"""ImageNet's folders are read as torchvision reads them, and what is wrong with them is said."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from segnext.config import ClassificationData
from segnext.data import DataError
from segnext.data.contents import digest_of, keep_contents
from segnext.data.imagenet import ClassFolderSource
from segnext.data.tools.check import check, imagenet

DATA = ClassificationData(classes=3)
WNIDS = ("n01440764", "n01443537", "n02105855")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three classes of 2, 3 and 4 pictures in each split, each of a grey level of its own."""
    for split in ("train", "val"):
        for k, wnid in enumerate(WNIDS):
            folder = tmp_path / "imagenet" / split / wnid
            folder.mkdir(parents=True)
            for i in range(k + 2):
                picture(30 * k + 5 * i).save(folder / f"{wnid}_{11 - i}.JPEG", "JPEG")
    return tmp_path


def picture(level: int) -> Image.Image:
    return Image.new("RGB", (12, 9), (level, level, level))


def replaced(root: Path, name: str = "n02105855_8.JPEG") -> tuple[Path, int]:
    """The path of a training image and its index."""
    source = ClassFolderSource(DATA, "train", root)
    return root / f"imagenet/train/n02105855/{name}", [source.name(k) for k in range(9)].index(f"n02105855/{name}")


@pytest.mark.parametrize("split", ["train", "val"])
def test_order_and_classes_are_those_of_torchvisions_image_folder(root: Path, split: str):
    source, reference = ClassFolderSource(DATA, split, root), ImageFolder(str(root / "imagenet" / split))
    assert len(source) == len(reference) == 9
    assert source.classes == tuple(reference.classes) == WNIDS
    for k, (path, label) in enumerate(reference.samples):
        pixels, own = source.load(k)
        assert (root / "imagenet" / split / source.name(k), own, source.label(k)) == (Path(path), label, label)
        assert np.array_equal(pixels, np.array(reference[k][0]))


def test_the_dataset_is_found_by_its_own_folder_too(root: Path):
    assert ClassFolderSource(DATA, "val", root / "imagenet").load(8)[1] == 2


def test_opening_reads_no_file_and_a_source_travels_to_another_process(root: Path):
    for path in root.rglob("*.JPEG"):
        path.write_bytes(b"")
    source = pickle.loads(pickle.dumps(ClassFolderSource(DATA, "train", root)))
    assert [source.label(k) for k in range(len(source))] == [0, 0, 1, 1, 1, 2, 2, 2, 2]
    with pytest.raises(DataError, match=r"train/n02105855/n02105855_8\.JPEG: cannot be read as an image .*put the ori"):
        source.load(replaced(root)[1])


def test_hidden_files_and_what_is_no_image_do_not_count(root: Path):
    for name in (".DS_Store", "._n01440764_11.JPEG", "synsets.txt"):
        (root / "imagenet/train/n01440764" / name).write_bytes(b"")
        (root / "imagenet/train" / name).write_bytes(b"")
    (root / "imagenet/train/.cache").mkdir()
    assert len(ClassFolderSource(DATA, "train", root)) == 9


@pytest.mark.parametrize("mode", ["CMYK", "L"])
def test_the_traps_of_modes_become_rgb(root: Path, mode: str):
    path, index = replaced(root)
    picture(100).convert(mode).save(path, "JPEG")
    pixels, _ = ClassFolderSource(DATA, "train", root).load(index)
    assert pixels.shape == (9, 12, 3)
    assert np.abs(pixels.astype(int) - 100).max() <= 2


def test_a_png_named_jpeg_is_read_by_its_content(root: Path):
    path, index = replaced(root)
    colours = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
    Image.fromarray(colours).save(path, "PNG")
    assert np.array_equal(ClassFolderSource(DATA, "train", root).load(index)[0], colours)


def test_exif_neither_turns_an_image_nor_warns_when_damaged(root: Path):
    path, index = replaced(root)
    turned = Image.Exif()
    turned[0x0112] = 6
    picture(100).save(path, "JPEG", exif=turned)
    assert ClassFolderSource(DATA, "train", root).load(index)[0].shape == (9, 12, 3)
    picture(100).save(path, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x09\0" + b"\x1a\x01\x05\0")
    assert ClassFolderSource(DATA, "train", root).load(index)[0].shape == (9, 12, 3)


def test_a_truncated_image_is_named(root: Path):
    path, index = replaced(root)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=re.escape(str(path))):
        ClassFolderSource(DATA, "train", root).load(index)


def test_the_fingerprint_tells_parts_and_resized_copies_apart(root: Path):
    found = ClassFolderSource(DATA, "train", root).fingerprint()
    assert re.fullmatch("[0-9a-f]{12}", found)
    assert ClassFolderSource(DATA, "train", root / "imagenet").fingerprint() == found
    path, _ = replaced(root, "n02105855_11.JPEG")
    path.rename(path.with_name("n02105855_12.JPEG"))
    other = ClassFolderSource(DATA, "train", root).fingerprint()
    for path in root.rglob("train/*/*.JPEG"):
        Image.open(path).resize((24, 18)).save(path, "JPEG")
    assert len({found, other, ClassFolderSource(DATA, "train", root).fingerprint()}) == 3


def test_check_counts_and_reads_what_training_reads(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("segnext.data.tools.check.ClassificationData", lambda: DATA)
    folder = root / "imagenet/val" / WNIDS[0]
    for name, kind in (("a.jpg", "JPEG"), ("a.png", "PNG"), ("A.PNG", "PNG")):
        picture(100).save(folder / name, kind)
    (folder / "notes.txt").touch()
    (root / "imagenet/val.txt").write_text("n01440764_11.JPEG 0\n")  # Caffe's list, which nothing reads
    (report,), _ = check(imagenet(), root, ["val"])
    source = ClassFolderSource(DATA, "val", root)
    assert report.images == len(source) == 9 + 3
    assert sorted(path for _, path in report.files) == sorted(f"val/{source.name(index)}" for index in range(12))
    assert report.findings.problems.keys() == {"another number of images than the split has"}
    assert report.findings.digests.keys() == {f"{folder}/{path}" for folder, path in report.files}


def test_a_content_fingerprint_is_kept_while_nothing_changes(root: Path):
    source = ClassFolderSource(DATA, "val", root)
    assert source.contents() is None
    digests = {f"{folder}/{path}": digest_of(folder, path) for folder, path in source.files()}
    contents, place = keep_contents(source.base, "imagenet1k", "val", source.files(), digests)
    assert place is not None
    assert ClassFolderSource(DATA, "val", root).contents() == contents
    (source.base / source.files()[3][1]).touch()
    assert source.contents() is None


def remove(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def flatten(root: Path) -> None:
    for path in list((root / "imagenet/val").rglob("*.JPEG")):
        path.rename(root / "imagenet/val" / path.name)
    for wnid in WNIDS:
        (root / "imagenet/val" / wnid).rmdir()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flatten, r"imagenet1k val: the images lie in .*val itself; sort them into one folder for each class"),
        (lambda root: remove(root / "imagenet/val/n01443537"), r"val has 2 class folders, but .*classes is 3"),
        (lambda root: [p.unlink() for p in root.glob("imagenet/val/n01443537/*")], r"no image in n01443537 of .*val"),
        (
            lambda root: (root / "imagenet/val/n01443537").rename(root / "imagenet/val/n01443538"),
            r"n01443538 only in val/, n01443537 only in train/; .*make them the same",
        ),
        (lambda root: (root / "imagenet/val").rename(root / "imagenet/validation"), r"no folder val/ in .*data root"),
    ],
    ids=["flat val", "a class missing", "an empty class", "another class", "no split"],
)
def test_folders_that_are_not_the_dataset_are_refused(root: Path, damage, message: str):
    damage(root)
    with pytest.raises(DataError, match=message):
        ClassFolderSource(DATA, "val", root)


def test_a_missing_data_root_is_said():
    with pytest.raises(DataError, match=r"imagenet1k train: no folder is given.*--data-root"):
        ClassFolderSource(DATA, "train", None)
