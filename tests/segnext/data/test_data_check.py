"""Promises of `python -m segnext.data check`: every fault is found and named, and nothing stops at the first."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY, SHARED, interruptible
from layouts import NAMES, listing, picture, save, write
from PIL import Image

from segnext.data import cached, open_dataset
from segnext.data.__main__ import main
from segnext.data.datasets import ADE20K, DATASETS, VOC2012
from segnext.data.folders import Split
from segnext.data.tools.check import check

CAMVID = SHARED / "data" / "camvid"
needs_camvid = pytest.mark.skipif(not CAMVID.is_dir(), reason=f"the CamVid copy is not at {CAMVID}")

LABEL = (np.arange(160) % 151).astype(np.uint8).reshape(8, 20)  # of ADE20K: 0 is ignored, the others are all classes


@pytest.fixture
def whole(monkeypatch):
    """A dataset of which a few frames are all: "tiny", in ADE20K's layout."""
    frames = {split: Split(len(NAMES["ade20k"][split]), ADE20K.splits[split].layouts) for split in ("train", "val")}
    tiny = dataclasses.replace(ADE20K, name="tiny", splits=frames, spellings=())
    monkeypatch.setitem(DATASETS, "tiny", tiny)
    return tiny


def spoil(tmp_path):
    """ADE20K's val with every fault in its own frame; returns the dataset's folder."""
    names = [f"ADE_val_{number:08d}" for number in range(10)]
    base = write(tmp_path, "ade20k", "val", LABEL, names, listed=False)
    images, labels = base / "images/validation", base / "annotations/validation"
    for path in (images / f"{names[1]}.jpg", labels / f"{names[2]}.png"):
        path.write_bytes(path.read_bytes()[:-30])
    save(labels / f"{names[3]}.png", picture(3))
    save(labels / f"{names[4]}.png", np.full((8, 20), 151, np.uint8))
    save(labels / f"{names[5]}.png", LABEL[:, :7])
    (images / f"{names[6]}.jpg").unlink()
    (labels / f"{names[7]}.png").unlink()
    (labels / f"{names[8]}.png").write_bytes(b"")
    (images / f"{names[8]}.jpg").write_bytes(b"not an image")
    return base


def run(*words, **environment):
    return subprocess.run(
        [sys.executable, "-m", "segnext.data", *map(str, words)],
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_whole_dataset_is_fine(tmp_path, whole, capsys):
    for split in ("train", "val"):
        write(tmp_path, "ade20k", split, LABEL, listed=False)
    assert main(["check", "tiny", "--data-root", str(tmp_path), "--processes", "1"]) == 0
    out, err = capsys.readouterr()
    for split, count in (("train", 3), ("val", 2)):
        fingerprint = open_dataset("tiny", split, tmp_path).fingerprint()
        assert re.search(rf"^{split}\t{count}\t{count}\t{count}\t{fingerprint}$", out, re.MULTILINE)
    assert "no problems" in out
    assert "tiny frames read 5/5" in err


def test_every_fault_is_found_and_named_at_once(tmp_path, capsys):
    base = spoil(tmp_path)
    before = {path: path.read_bytes() for path in base.rglob("*.*")}
    assert main(["check", "ADE20K", "--split", "val", "--data-root", str(tmp_path), "--processes", "1"]) == 1
    out = capsys.readouterr().out
    images, labels = base / "images/validation", base / "annotations/validation"
    for line in (
        "val: 1 images without a label\n  ADE_val_00000007\n",
        "val: 1 labels without an image\n  ADE_val_00000006\n",
        f"val: 2 unreadable images\n  {images}/ADE_val_00000001.jpg: cannot be read as an image",
        f"val: 3 unreadable labels\n  {labels}/ADE_val_00000002.png: cannot be read as an image",
        f"  {labels}/ADE_val_00000003.png: a label of mode RGB",
        f"  {labels}/ADE_val_00000008.png: cannot be read as an image",
        f"  {images}/ADE_val_00000008.jpg: cannot be read as an image",
        f"val: 1 labels with values that no class has\n  {labels}/ADE_val_00000004.png: no class has the label value",
        f"val: 1 labels of another size than their image\n  {labels}/ADE_val_00000005.png: the label is 7x8, but its",
        f"val: 1 another number of images than the split has\n  9 images, "
        "expected are 2000 (a list val.txt that names its frames makes a part "
        f"welcome: {base}/val.txt)\n",
        "\n10 problems",
        "none: it cannot be opened as it is",
    ):
        assert line in out, line
    assert {path: path.read_bytes() for path in base.rglob("*.*")} == before


def test_processes_find_what_one_finds(tmp_path):
    base = spoil(tmp_path)
    for number in range(10, 60):  # enough to be shared
        for folder, suffix in (("images", "jpg"), ("annotations", "png")):
            path = base / folder / "validation"
            os.link(path / f"ADE_val_{number % 5:08d}.{suffix}", path / f"ADE_val_{number:08d}.{suffix}")
    words = ("check", "ade20k", "--split", "val", "--data-root", tmp_path)
    one, two = run(*words, "--processes", 1), run(*words, "--processes", 2)
    assert (one.returncode, two.returncode) == (1, 1)
    assert one.stdout == two.stdout
    assert "Traceback" not in two.stderr


def test_only_the_first_of_a_kind_are_listed_unless_all_are_asked_for(tmp_path, capsys):
    names = [f"ADE_val_{number:08d}" for number in range(8)]
    base = write(tmp_path, "ade20k", "val", names=names)
    for path in (base / "annotations").rglob("*.png"):
        path.unlink()
    words = ["check", "ade20k", "--split", "val", "--data-root", str(tmp_path)]
    assert main(words) == 1
    short = capsys.readouterr().out
    assert "  ADE_val_00000004\n  and 3 more (--all lists them)" in short
    assert main([*words, "--all"]) == 1
    assert all(f"  {name}\n" in capsys_out for capsys_out in [capsys.readouterr().out] for name in names)


def test_names_only_reads_no_file(tmp_path, whole, capsys):
    base = write(tmp_path, "ade20k", "val", listed=False)
    for path in base.rglob("*.*"):
        path.write_bytes(b"")
    words = ["check", "tiny", "--split", "val", "--data-root", str(tmp_path), "--processes", "1"]
    assert main([*words, "--names-only"]) == 0
    assert "pixels of each class" not in capsys.readouterr().out
    assert main(words) == 1


def test_pixels_are_counted_by_class(tmp_path, whole, capsys):
    write(tmp_path, "ade20k", "train", np.array([[0, 1, 1, 150]], np.uint8), listed=False)
    reports, absent = check(whole, tmp_path, ["train"])
    assert not absent
    counts = reports[0].findings.pixels
    assert {label: int(count) for label, count in enumerate(counts) if count} == {0: 6, 149: 3, 255: 3}
    assert main(["check", "tiny", "--split", "train", "--data-root", str(tmp_path), "--processes", "1"]) == 1
    out = capsys.readouterr().out
    assert "train: 148 classes without a pixel in any label\n  1 building\n" in out  # the whole of it: a problem
    assert re.search(r"^0\twall\t66\.6667\t6$", out, re.MULTILINE)
    assert re.search(r"^149\tflag\t33\.3333\t3$", out, re.MULTILINE)
    assert re.search(r"^255\tignored, % of all\t25\.0000\t3$", out, re.MULTILINE)


def test_a_wrong_size_of_the_dataset_is_found(tmp_path):
    """Tiles as the PyTorch release's converter cuts them from an image of 896 x less are thin."""
    write(tmp_path, "isaid", "val", np.zeros((896, 3), np.uint8), ["P0003_0_896_0_896"])
    (report,), _ = check(DATASETS["isaid"], tmp_path, ["val"])
    (message,) = report.findings.problems["images of another size than the dataset's"]
    assert message.endswith("P0003_0_896_0_896.png: 3x896, where all are 896x896")


def test_a_union_is_read_once_and_reported_whole(tmp_path, capsys):
    for split, value in (("train", 1), ("aug", 2), ("val", 3)):
        write(tmp_path, "voc2012", split, np.full((8, 12), value, np.uint8))
    reports, absent = check(VOC2012, tmp_path)
    assert [report.split for report in reports] == ["train", "val", "aug", "trainaug", "trainval"]
    assert absent.keys() == {"test"}
    by_split = {report.split: report for report in reports}
    assert by_split["trainaug"].images == 4
    assert by_split["trainaug"].findings.pixels[:4].tolist() == [0, 192, 192, 0]
    assert by_split["trainaug"].fingerprint == open_dataset("voc2012", "trainaug", tmp_path).fingerprint()
    assert main(["check", "voc", "--data-root", str(tmp_path), "--processes", "1"]) == 0
    captured = capsys.readouterr()
    assert "test is not there (only its test server needs it)" in captured.out
    assert "voc2012 frames read 6/6" in captured.err


def test_a_frame_of_val_in_the_augmented_set_is_found(tmp_path):
    """SBD holds VOC's val; a list that forgot to leave it out would train on what is tested."""
    leaked = NAMES["voc2012"]["val"][0]
    for split in ("train", "val"):
        write(tmp_path, "voc2012", split)
    write(tmp_path, "voc2012", "aug", names=(*NAMES["voc2012"]["aug"], leaked))
    reports, _ = check(VOC2012, tmp_path)
    found = {r.split: r.findings.problems.get("frames that are in both val and aug") for r in reports}
    assert found == {"train": None, "val": [leaked], "aug": [leaked], "trainaug": [leaked], "trainval": [leaked]}


def test_a_split_that_should_be_there_is_a_problem(tmp_path, whole, capsys):
    write(tmp_path, "ade20k", "val", LABEL, listed=False)
    assert main(["check", "tiny", "--data-root", str(tmp_path), "--processes", "1"]) == 1
    out = capsys.readouterr().out
    assert "train is not there: tiny train: not found under" in out
    assert "\n1 problems" in out
    assert main(["check", "tiny", "--split", "train", "--data-root", str(tmp_path)]) == 3


def test_the_papers_count_is_told_where_it_differs(tmp_path, capsys):
    write(tmp_path, "pascal_context", "val")
    assert main(["check", "context", "--split", "val", "--data-root", str(tmp_path), "--processes", "1"]) == 1
    out = capsys.readouterr().out
    assert "(the paper says 5104)" in out
    assert "1 images, expected are 5105" in out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["ade2k"], 2, "error: 'ade2k' is not a dataset (did you mean ade20k?)"),
        (["ade20k", "--split", "trian"], 2, "error: ade20k: 'trian' is not one of its splits train, val"),
        (["ade20k", "--processes", "0"], 2, "error: --processes: 0 is not between 1 and 1024"),
        (["diagnostic/scene"], 2, "error: diagnostic/scene is generated: there are no files to check"),
        (["ade20k"], 3, "error: ade20k train: no folder is given"),
        (["ade20k", "--data-root", "nowhere"], 3, "error: ade20k train: not found under nowhere"),
    ],
)
def test_mistakes_are_explained_with_their_exit_status(words, code, message, capsys):
    assert main(["check", *words]) == code
    assert message in capsys.readouterr().err


def test_the_environment_names_the_data_root(tmp_path, whole, monkeypatch):
    write(tmp_path, "ade20k", "val", LABEL, listed=False)
    monkeypatch.setenv("SEGNEXT_DATA", str(tmp_path))
    assert main(["check", "tiny", "--split", "val", "--processes", "1"]) == 0


def is_gone(group):
    """Whether a process group ends within seconds: multiprocessing's own helper outlives the rest by a moment."""
    for _ in range(200):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_an_interrupt_leaves_cleanly(tmp_path):
    """Ctrl-C reaches the whole process group, as from a terminal."""
    base = write(tmp_path, "ade20k", "val", np.zeros((1500, 1500), np.uint8), ["first"], listed=False)
    for number in range(600):
        for folder, suffix in (("images", "jpg"), ("annotations", "png")):
            folder = base / folder / "validation"
            os.link(folder / f"first.{suffix}", folder / f"{number}.{suffix}")
    words = ["check", "ade20k", "--split", "val", "--data-root", str(tmp_path), "--processes", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "segnext.data", *words],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=interruptible,
    )
    assert process.stderr.readline() == "ade20k frames read 0/601\n"
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "interrupted" in err
    assert "Traceback" not in err
    assert is_gone(process.pid)


def test_imagenet_is_counted_and_its_images_are_read(tmp_path, capsys):
    imagenet = pytest.importorskip("segnext.data.imagenet")
    for split in ("train", "val"):
        for number in range(1000):
            folder = tmp_path / "imagenet" / split / f"n{number:08d}"
            folder.mkdir(parents=True)
            (folder / f"n{number:08d}_1.JPEG").write_bytes(b"")
    Image.fromarray(picture(1)).save(tmp_path / "imagenet/val/n00000000/n00000000_1.JPEG")
    words = ["check", "ImageNet", "--data-root", str(tmp_path), "--processes", "1"]
    assert main([*words, "--names-only"]) == 1
    out = capsys.readouterr().out
    assert re.search(r"^train\t1000\t-\t1281167\t[0-9a-f]{12}$", out, re.MULTILINE)
    assert "1000 images, expected are 50000" in out
    assert main([*words, "--split", "val"]) == 1
    assert "val: 999 unreadable images" in capsys.readouterr().out
    assert imagenet.IMAGES == {"train": 1_281_167, "val": 50_000}


@needs_camvid
def test_camvid_itself_is_as_it_is_known(capsys):
    """datasets.md 1.1, and the fingerprints that stand in the records."""
    reports, absent = check(DATASETS["camvid"], CAMVID, processes=1)
    assert not absent
    assert [(r.split, r.images, r.labels, r.findings.problems) for r in reports] == [
        ("train", 367, 367, {}),
        ("val", 101, 101, {}),
        ("test", 233, 233, {}),
    ]
    known = {
        "train": (17.54, 24.21, 1.02, 32.96, 4.67, 10.12, 1.22, 1.17, 6.11, 0.67, 0.30, 3.95),
        "val": (9.34, 26.41, 0.57, 29.46, 8.87, 16.62, 0.91, 3.13, 1.78, 0.66, 2.26, 1.70),
        "test": (17.75, 25.59, 1.22, 26.84, 9.64, 11.70, 1.05, 1.23, 4.13, 0.66, 0.20, 3.83),
    }
    for report in reports:
        pixels = report.findings.pixels
        shares = [*(100 * pixels[:11] / pixels[:255].sum()), 100 * pixels[255] / pixels.sum()]
        np.testing.assert_allclose(shares, known[report.split], atol=0.0051)
    records = [json.loads(path.read_text()) for path in (REPOSITORY / "results" / "records").glob("*.json")]
    runs = [r for r in records if r["kind"] == "run" and r["config"]["data"]["dataset"] == "camvid"]
    fingerprints = {report.split: report.fingerprint for report in reports}
    assert runs
    for record in runs:
        data = record["provenance"]["data"]
        assert data["train_fingerprint"] == fingerprints[record["config"]["data"]["train_split"]]
        assert data["test_fingerprint"] == fingerprints[record["config"]["data"]["test_split"]]


def test_links_to_nowhere_are_problems_of_their_own(tmp_path, whole):
    base = write(tmp_path, "ade20k", "val", LABEL, listed=False)
    for path in (base / "images/validation").iterdir():
        path.unlink()
        path.symlink_to(tmp_path / "nowhere")
    (report,), _ = check(whole, tmp_path, ["val"])
    assert {kind: len(found) for kind, found in report.findings.problems.items()} == {"unreadable images": 2}
    assert report.fingerprint is None
    (report,), _ = check(whole, tmp_path, ["val"], names_only=True)
    assert report.findings.problems.keys() == {"the split cannot be opened"}


def test_a_list_that_disagrees_is_told_as_such(tmp_path):
    base = write(tmp_path, "ade20k", "val")
    (base / listing("ade20k", "val")).write_text("ADE_val_00000001\nADE_val_00000009\n")
    (report,), _ = check(ADE20K, tmp_path, ["val"])
    assert report.findings.problems["names in val.txt without files"] == ["ADE_val_00000009"]
    assert report.findings.remarks["list val.txt that leaves images out"] == ["1 of 2 are not read"]


def test_a_part_that_a_list_names_is_no_problem(tmp_path, capsys):
    """And what it leaves out is said: half a list would otherwise be half a split without a word."""
    base = write(tmp_path, "camvid", "train", (np.arange(172800) % 12).astype(np.uint8).reshape(360, 480))
    (base / "train.txt").write_text("0006R0_f00930.jpg\n")
    words = ["check", "camvid", "--split", "train", "--data-root", str(tmp_path), "--processes", "1"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "train: remark: 1 list train.txt that leaves images out\n  1 of 2 are not read\n" in out
    assert "train: remark: 1 list of a part of the split\n  1 images, expected are 367\n" in out
    assert "\nno problems, 2 remarks\n" in out
    (base / "train.txt").unlink()
    assert main(words) == 1
    hint = f"2 images, expected are 367 (a list train.txt that names its frames makes a part welcome: {base}/train.txt)"
    assert hint in capsys.readouterr().out


@pytest.mark.parametrize("dataset", [name for name in NAMES if name != "isaid_800_200"])
def test_labels_without_any_class_are_a_problem(tmp_path, dataset):
    values = DATASETS[dataset].values
    void = max(value for value, label in values.items() if label == 255)
    write(tmp_path, dataset, "train", np.full((8, 12), void, np.uint8))
    (report,), _ = check(DATASETS[dataset], tmp_path, ["train"])
    assert "split of labels without any class" in report.findings.problems


@pytest.mark.parametrize("dataset", ["ade20k", "pascal_context"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_labels_that_are_shifted_already_are_a_problem(tmp_path, dataset, split):
    """0 has become 255 and k has become k - 1, as reduce_zero_label leaves them."""
    last = {"ade20k": 150, "pascal_context": 59}[dataset]
    label = np.arange(160, dtype=np.uint8).reshape(8, 20) % (last + 1)
    write(tmp_path, dataset, split, label)
    kind = "split of labels that are shifted already"
    (report,), _ = check(DATASETS[dataset], tmp_path, [split])
    assert kind not in report.findings.problems
    write(tmp_path, dataset, split, label - np.uint8(1))
    (report,), _ = check(DATASETS[dataset], tmp_path, [split])
    (message,) = report.findings.problems[kind]
    assert f"none is {last}, its last class" in message


def test_classes_that_no_label_shows_prove_a_whole_split_wrong_and_are_a_remark_on_a_part(tmp_path, monkeypatch):
    """iSAID's labels of 0 and 1 alone: objects, but not which."""
    write(tmp_path, "isaid", "train", (np.arange(896 * 896) % 2).astype(np.uint8).reshape(896, 896))
    write(tmp_path, "isaid", "val", np.zeros((896, 896), np.uint8))
    kind = "classes without a pixel in any label"
    (train, val), _ = check(DATASETS["isaid"], tmp_path)
    assert kind not in train.findings.problems
    assert len(train.findings.remarks[kind]) == 14
    assert kind not in val.findings.remarks  # nothing is trained on it
    whole = {**DATASETS["isaid"].splits, "train": Split(3, DATASETS["isaid"].splits["train"].layouts)}
    (train,), _ = check(dataclasses.replace(DATASETS["isaid"], splits=whole), tmp_path, ["train"])
    assert train.findings.problems[kind][0] == f"2 {DATASETS['isaid'].classes[2]}"


@pytest.mark.skipif(not (SHARED / "cases").is_dir(), reason="the cases are not here")
def test_photographs_on_their_side_are_a_remark(tmp_path, whole, capsys):
    """They are read as they are stored, like their labels."""
    base = write(tmp_path, "ade20k", "val", (np.arange(512) % 151).astype(np.uint8).reshape(8, 64), listed=False)
    path = base / "images/validation/ADE_val_00000001.jpg"
    path.write_bytes((SHARED / "cases/exif6.jpg").read_bytes())
    assert main(["check", "tiny", "--split", "val", "--data-root", str(tmp_path), "--processes", "1"]) == 0
    out = capsys.readouterr().out
    assert "val: remark: 1 images with an EXIF orientation, read as they are stored, like their labels" in out
    assert f"  {path} (orientation 6)\n" in out
    assert "\nno problems, 1 remarks\n" in out


def contents_after_check(dataset, split, root, capsys):
    """What `check` prints as the content fingerprint, which is what the opened split then reports, and its file."""
    main(["check", dataset, "--split", split, "--data-root", str(root), "--processes", "1"])
    printed = re.search(
        rf"^contents of {split}, every byte: ([0-9a-f]{{12}}), kept in (.*)$", capsys.readouterr().out, re.M
    )
    assert open_dataset(dataset, split, root).contents() == printed[1]
    return printed[1], Path(printed[2])


def test_data_whose_bytes_alone_differ_have_other_contents_once_they_are_checked(tmp_path, whole, capsys):
    """Names and sizes agree, and so does the fingerprint: what a run can know without reading."""
    roots = [tmp_path / "a", tmp_path / "b", tmp_path / "c"]
    for root, label in zip(roots, (LABEL, LABEL, LABEL[::-1].copy()), strict=True):
        base = write(root, "ade20k", "val", LABEL, listed=False)
        for path in base.rglob("*.png"):
            Image.fromarray(label).save(path, compress_level=0)
    before = [open_dataset("tiny", "val", root).fingerprint() for root in roots]
    assert len({*before}) == 1
    assert {open_dataset("tiny", "val", root).contents() for root in roots} == {None}
    contents = [contents_after_check("tiny", "val", root, capsys)[0] for root in roots]
    assert contents[0] == contents[1] != contents[2]
    assert [open_dataset("tiny", "val", root).fingerprint() for root in roots] == before
    assert cached(open_dataset("tiny", "val", roots[0])).contents() == contents[0]


def in_place(path):
    data, times = path.read_bytes(), path.stat()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # as a careful copy does


@pytest.mark.parametrize(
    "change",
    [
        in_place,
        lambda path: path.write_bytes(path.read_bytes() + b"0"),
        lambda path: path.touch(),
        lambda path: path.rename(path.with_name("other.jpg")),
        lambda path: (path.unlink(), path.symlink_to("nowhere")),
    ],
)
def test_contents_are_not_known_any_more_once_a_file_changed(tmp_path, whole, capsys, change):
    base = write(tmp_path, "ade20k", "val", LABEL, listed=False)
    _, place = contents_after_check("tiny", "val", tmp_path, capsys)
    assert place.parent.parent == base
    path = base / "images/validation/ADE_val_00000001.jpg"
    change(path)
    if not path.exists() and not path.is_symlink():
        (base / "annotations/validation/ADE_val_00000001.png").rename(base / "annotations/validation/other.png")
    assert open_dataset("tiny", "val", tmp_path).contents() is None


def test_contents_are_kept_in_the_users_cache_where_the_data_cannot_be_written(tmp_path, whole, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    base = write(tmp_path / "data", "ade20k", "val", LABEL, listed=False)
    (base / ".segnext-contents").write_text("no folder")
    _, place = contents_after_check("tiny", "val", tmp_path / "data", capsys)
    assert place.is_relative_to(tmp_path / "cache" / "segnext")
    for damage in (b"", b"[]", b"{}", b"\xff", b'{"contents": 1, "state": 2}', b"[" * 100_000):
        place.write_bytes(damage)
        assert open_dataset("tiny", "val", tmp_path / "data").contents() is None
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    main(["check", "tiny", "--split", "val", "--data-root", str(tmp_path / "data"), "--processes", "1"])
    assert "kept nowhere: neither the data nor the cache can be written" in capsys.readouterr().out


def test_contents_of_a_union_and_of_a_part_are_those_of_its_frames(tmp_path, capsys):
    for split in ("train", "aug"):
        write(tmp_path, "voc2012", split)
    found = {split: contents_after_check("voc2012", split, tmp_path, capsys)[0] for split in ("trainaug", "train")}
    assert len({*found.values()}) == 2
    (tmp_path / "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt").write_text(NAMES["voc2012"]["train"][0])
    assert open_dataset("voc2012", "train", tmp_path).contents() is None


def test_without_reading_nothing_is_known_of_contents(tmp_path, whole, capsys):
    base = write(tmp_path, "ade20k", "val", LABEL, listed=False)
    main(["check", "tiny", "--split", "val", "--data-root", str(tmp_path), "--names-only"])
    assert "contents of" not in capsys.readouterr().out
    assert not (base / ".segnext-contents").exists()
