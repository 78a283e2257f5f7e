"""Real-IAD and ELPV: datasets whose images are listed in files."""

from pathlib import Path

import pytest
from dataset_trees import FAULTY, elpv, real_iad, summary

from exdd_ray.data.catalog import GOOD, UNSPLIT
from exdd_ray.data.check import check_dataset
from exdd_ray.data.datasets import guess_dataset, load_dataset
from exdd_ray.errors import DataError

EXPECTED = {
    "usb/NG/HS/S0002/usb_0002_NG_HS_C1.jpg": ("test", 1, "scratch", "usb_0002_NG_HS_C1_mask.png"),
    "usb/NG/HS/S0002/usb_0002_NG_HS_C2.jpg": ("test", 0, GOOD, None),
    "usb/OK/S0001/usb_0001_OK_C1.jpg": ("train", 0, GOOD, None),
    "usb/OK/S0003/usb_0003_OK_C1.jpg": ("test", 0, GOOD, None),
}


@pytest.mark.parametrize("lists", ["realiad_jsons", "realiad_jsons/realiad_jsons"])
def test_real_iad_follows_its_lists(tmp_path: Path, lists: str) -> None:
    root = real_iad(tmp_path, lists)
    assert guess_dataset(root) == "real_iad"
    assert summary(load_dataset("real_iad", root)) == EXPECTED
    assert check_dataset(load_dataset("real_iad", root, "usb")).masks == ()


def test_real_iad_by_the_lists_of_one_view(tmp_path: Path) -> None:
    root = real_iad(tmp_path, "realiad_jsons_sv")
    assert guess_dataset(root) == "real_iad_sv"
    assert summary(load_dataset("real_iad_sv", root)) == EXPECTED


def test_real_iad_at_several_sizes_asks_for_one(tmp_path: Path) -> None:
    root = real_iad(real_iad(tmp_path), size="realiad_256")
    with pytest.raises(DataError, match=r"several sizes \(realiad_1024, realiad_256\): give one .*realiad_1024"):
        load_dataset("real_iad", root)
    assert guess_dataset(root / "realiad_256") == "real_iad"
    assert summary(load_dataset("real_iad", root / "realiad_256")) == EXPECTED


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"usb\.json: not a list of Real-IAD: Invalid JSON"),
        ('{"train": [], "test": []}', r"usb\.json: not a list of Real-IAD: meta: Field required"),
        (None, r"usb\.json: No such file or directory"),
    ],
)
def test_real_iad_with_a_bad_list(tmp_path: Path, content: str | None, message: str) -> None:
    path = real_iad(tmp_path) / "realiad_jsons" / "usb.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(DataError, match=message):
        load_dataset("real_iad", tmp_path)


def test_real_iad_without_images_or_lists(tmp_path: Path) -> None:
    real_iad(tmp_path)
    with pytest.raises(DataError, match=r"realiad_1024: expected a folder zipper/, found usb/"):
        load_dataset("real_iad", tmp_path, "zipper")
    (tmp_path / "realiad_1024").rename(tmp_path / "images")
    with pytest.raises(DataError, match="expected a folder realiad_1024/ with the images; found images/"):
        load_dataset("real_iad", tmp_path)


def test_real_iad_names_a_missing_mask(tmp_path: Path) -> None:
    (real_iad(tmp_path) / "realiad_1024" / "usb" / f"{FAULTY}_mask.png").unlink()
    (trouble,) = check_dataset(load_dataset("real_iad", tmp_path)).masks
    assert (Path(trouble.path).name, trouble.reason) == ("usb_0002_NG_HS_C1_mask.png", "no such file")


@pytest.mark.parametrize("place", ["", "src/elpv_dataset/data"])
def test_elpv_is_defective_above_one_half(tmp_path: Path, place: str) -> None:
    elpv(tmp_path / place)
    assert guess_dataset(tmp_path) == "elpv"
    assert summary(load_dataset("elpv", tmp_path)) == {
        "images/cell0000.png": (UNSPLIT, 0, GOOD, None),
        "images/cell0001.png": (UNSPLIT, 0, GOOD, None),
        "images/cell0002.png": (UNSPLIT, 1, "likely_defective", None),
        "images/cell0003.png": (UNSPLIT, 1, "defective", None),
        "images/cell0004.png": (UNSPLIT, 0, GOOD, None),
    }
    assert load_dataset("elpv", tmp_path, "poly").num_rows == 2


def test_elpv_names_a_strange_line_and_missing_labels(tmp_path: Path) -> None:
    labels = elpv(tmp_path) / "labels.csv"
    labels.write_text(labels.read_text().replace("1.0 poly", "1.0 thin"))
    with pytest.raises(DataError, match=r"labels\.csv line 4: expected a path, a defect probability .*1\.0 thin"):
        load_dataset("elpv", tmp_path)
    labels.unlink()
    with pytest.raises(DataError, match=r"expected labels\.csv beside images/, found images/"):
        load_dataset("elpv", tmp_path)


def test_elpv_names_an_image_that_is_listed_and_missing(tmp_path: Path) -> None:
    (elpv(tmp_path) / "images" / "cell0002.png").unlink()
    (trouble,) = check_dataset(load_dataset("elpv", tmp_path)).unreadable
    assert (trouble.id, trouble.reason) == ("images/cell0002.png", "no such file")


def test_elpv_labels_as_other_programs_write_them(tmp_path: Path) -> None:
    labels = elpv(tmp_path) / "labels.csv"
    plain = load_dataset("elpv", tmp_path)
    labels.write_bytes(b"\xef\xbb\xbf" + labels.read_bytes() + b"\n\n")
    assert load_dataset("elpv", tmp_path).equals(plain)
    labels.write_bytes(labels.read_bytes().replace(b"mono", b"m\xf6no"))
    with pytest.raises(DataError, match=r"labels\.csv: cannot be read: UnicodeDecodeError"):
        load_dataset("elpv", tmp_path)
