from pathlib import Path

import pyarrow as pa
import pytest
from dataset_trees import put, summary

from exdd_ray.data.catalog import GOOD, UNSPLIT, CatalogRow, catalog_rows
from exdd_ray.data.datasets import DATASETS, guess_dataset, load_dataset
from exdd_ray.errors import DataError, ImageError


def by_id(catalog: pa.Table) -> dict[str, CatalogRow]:
    return {row.id: row for row in catalog_rows(catalog)}


@pytest.fixture
def ksdd2(tmp_path: Path) -> Path:
    for split, name, value in [("train", "10000", 0), ("train", "10301", 1), ("test", "20000", 255)]:
        put(tmp_path / split / f"{name}.png")
        put(tmp_path / split / f"{name}_GT.png", value)
    put(tmp_path / "train" / "10301 (copy).png")
    put(tmp_path / "train" / "10301_GT (copy).png", 255)
    return tmp_path


def test_ksdd2_labels_come_from_the_masks_and_copies_are_dropped(ksdd2: Path) -> None:
    catalog = load_dataset("ksdd2", ksdd2)
    assert summary(catalog) == {
        "test/20000.png": ("test", 1, "defect", "20000_GT.png"),
        "train/10000.png": ("train", 0, GOOD, None),
        "train/10301.png": ("train", 1, "defect", "10301_GT.png"),
    }
    row = by_id(catalog)["train/10301.png"]
    assert row.mask_threshold == 0
    assert Path(row.image) == (ksdd2 / "train" / "10301.png").resolve()
    assert (row.dataset, row.category, row.origin) == ("ksdd2", "ksdd2", "real")


def test_ksdd2_without_a_mask_file_cannot_be_labelled(ksdd2: Path) -> None:
    (ksdd2 / "train" / "10000_GT.png").unlink()
    with pytest.raises(ImageError, match=r"10000_GT\.png: no such file"):
        load_dataset("ksdd2", ksdd2)


def test_ksdd2_without_test(ksdd2: Path) -> None:
    (ksdd2 / "test").rename(ksdd2 / "validation")
    with pytest.raises(DataError, match=r"expected a folder test/, found train/, validation/"):
        load_dataset("ksdd2", ksdd2)


def test_kolektor(tmp_path: Path) -> None:
    put(tmp_path / "kos01" / "Part0.jpg")
    put(tmp_path / "kos01" / "Part0_label.bmp", 0)
    put(tmp_path / "kos50" / "Part7.jpg")
    put(tmp_path / "kos50" / "Part7_label.bmp", 255)
    assert summary(load_dataset("kolektor", tmp_path)) == {
        "kos01/Part0.jpg": (UNSPLIT, 0, GOOD, None),
        "kos50/Part7.jpg": (UNSPLIT, 1, "defect", "Part7_label.bmp"),
    }


def mvtec_category(root: Path, name: str) -> None:
    put(root / name / "train" / "good" / "000.png")
    put(root / name / "test" / "good" / "000.png")
    put(root / name / "test" / "broken_large" / "000.png")
    put(root / name / "ground_truth" / "broken_large" / "000_mask.png", 255)


def test_mvtec_ad(tmp_path: Path) -> None:
    for name in ("bottle", "screw"):
        mvtec_category(tmp_path, name)
    (tmp_path / "readme.txt").touch()
    catalog = load_dataset("mvtec_ad", tmp_path, "screw")
    assert summary(catalog) == {
        "screw/test/broken_large/000.png": ("test", 1, "broken_large", "000_mask.png"),
        "screw/test/good/000.png": ("test", 0, GOOD, None),
        "screw/train/good/000.png": ("train", 0, GOOD, None),
    }
    assert set(load_dataset("mvtec_ad", tmp_path)["category"].to_pylist()) == {"bottle", "screw"}


def test_mpdd_is_read_alike(tmp_path: Path) -> None:
    mvtec_category(tmp_path, "tubes")
    catalog = load_dataset("mpdd", tmp_path)
    assert catalog.num_rows == 3
    assert set(catalog["dataset"].to_pylist()) == {"mpdd"}


def test_btad_masks_of_another_extension(tmp_path: Path) -> None:
    put(tmp_path / "01" / "train" / "ok" / "0000.bmp")
    put(tmp_path / "01" / "test" / "ok" / "0001.bmp")
    for name, suffix in (("0002", "png"), ("0003", "bmp")):
        put(tmp_path / "01" / "test" / "ko" / f"{name}.bmp")
        put(tmp_path / "01" / "ground_truth" / "ko" / f"{name}.{suffix}", 255)
    assert summary(load_dataset("btad", tmp_path)) == {
        "01/test/ko/0002.bmp": ("test", 1, "ko", "0002.png"),
        "01/test/ko/0003.bmp": ("test", 1, "ko", "0003.bmp"),
        "01/test/ok/0001.bmp": ("test", 0, GOOD, None),
        "01/train/ok/0000.bmp": ("train", 0, GOOD, None),
    }


def test_two_masks_of_one_image_are_refused(tmp_path: Path) -> None:
    mvtec_category(tmp_path, "screw")
    put(tmp_path / "screw" / "ground_truth" / "broken_large" / "000.png", 255)
    with pytest.raises(DataError, match="both masks of 000"):
        load_dataset("mvtec_ad", tmp_path)


def visa_root(root: Path, lines: list[str]) -> Path:
    (root / "split_csv").mkdir()
    (root / "split_csv" / "1cls.csv").write_text("\n".join(["object,split,label,image,mask", *lines]) + "\n")
    for name in ("candle", "pcb1"):
        put(root / name / "Data" / "Images" / "Normal" / "0836.JPG")
        put(root / name / "Data" / "Images" / "Anomaly" / "000.JPG")
        put(root / name / "Data" / "Masks" / "Anomaly" / "000.png", 2)
    return root


VISA_LINES = [
    f"{name},{entry}"
    for name in ("candle", "pcb1")
    for entry in (
        f"train,normal,{name}/Data/Images/Normal/0836.JPG,",
        f"test,anomaly,{name}/Data/Images/Anomaly/000.JPG,{name}/Data/Masks/Anomaly/000.png",
    )
]


def test_visa_follows_its_split_file(tmp_path: Path) -> None:
    catalog = load_dataset("visa", visa_root(tmp_path, VISA_LINES), "pcb1")
    assert summary(catalog) == {
        "pcb1/Data/Images/Anomaly/000.JPG": ("test", 1, "anomaly", "000.png"),
        "pcb1/Data/Images/Normal/0836.JPG": ("train", 0, GOOD, None),
    }
    assert set(catalog["mask_threshold"].to_pylist()) == {0}
    assert load_dataset("visa", tmp_path).num_rows == 4


def test_visa_with_a_strange_line_names_it(tmp_path: Path) -> None:
    root = visa_root(tmp_path, [*VISA_LINES, "candle,val,normal,candle/x.JPG,"])
    with pytest.raises(DataError, match=r"1cls\.csv line 6: expected train or test"):
        load_dataset("visa", root)


def test_magnetic_tile_masks_of_normal_images_are_left_out(tmp_path: Path) -> None:
    for folder, value in (("MT_Free", 0), ("MT_Blowhole", 255)):
        put(tmp_path / folder / "Imgs" / "exp1_num_1.jpg")
        put(tmp_path / folder / "Imgs" / "exp1_num_1.png", value)
    put(tmp_path / "MT_Crack" / "Imgs" / "exp1_num_2.JPG")
    assert summary(load_dataset("magnetic_tile", tmp_path)) == {
        "MT_Blowhole/Imgs/exp1_num_1.jpg": (UNSPLIT, 1, "blowhole", "exp1_num_1.png"),
        "MT_Crack/Imgs/exp1_num_2.JPG": (UNSPLIT, 1, "crack", None),
        "MT_Free/Imgs/exp1_num_1.jpg": (UNSPLIT, 0, GOOD, None),
    }


@pytest.mark.shared
def test_magnetic_tile_counts_of_the_real_images(shared_dir: Path) -> None:
    catalog = load_dataset("magnetic_tile", shared_dir / "data" / "magnetic-tile")
    counts = {entry["values"]: entry["counts"] for entry in catalog["defect"].value_counts().to_pylist()}
    assert counts == {GOOD: 952, "blowhole": 115, "break": 85, "crack": 57, "fray": 32, "uneven": 103}
    assert all((row.mask is None) == (row.label == 0) for row in catalog_rows(catalog))


def test_dagm_is_defective_where_a_label_file_is(tmp_path: Path) -> None:
    for split in ("Train", "Test"):
        put(tmp_path / "Class1" / split / "0001.PNG")
        put(tmp_path / "Class1" / split / "0002.PNG")
        put(tmp_path / "Class1" / split / "Label" / "0002_label.PNG", 255)
    assert summary(load_dataset("dagm", tmp_path, "Class1")) == {
        "Class1/Test/0001.PNG": ("test", 0, GOOD, None),
        "Class1/Test/0002.PNG": ("test", 1, "defect", "0002_label.PNG"),
        "Class1/Train/0001.PNG": ("train", 0, GOOD, None),
        "Class1/Train/0002.PNG": ("train", 1, "defect", "0002_label.PNG"),
    }


def test_misspelt_names_get_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no dataset 'mvtec-ad'; did you mean 'mvtec_ad'\?"):
        load_dataset("mvtec-ad", tmp_path)
    with pytest.raises(DataError, match=r"no category 'bottel'; did you mean 'bottle'\?"):
        load_dataset("mvtec_ad", tmp_path, "bottel")
    with pytest.raises(DataError, match="no dataset 'xyz'; known: ksdd2"):
        load_dataset("xyz", tmp_path)


def test_missing_root_and_another_layout(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such folder"):
        load_dataset("ksdd2", tmp_path / "nowhere")
    put(tmp_path / "images" / "a.png")
    with pytest.raises(DataError, match=r"expected bottle/train/good, .*found images/"):
        load_dataset("mvtec_ad", tmp_path)
    mvtec_category(tmp_path, "screw")
    with pytest.raises(DataError, match="expected a folder bottle/"):
        load_dataset("mvtec_ad", tmp_path, "bottle")


def test_layout_tells_the_dataset(tmp_path: Path, ksdd2: Path) -> None:
    assert guess_dataset(ksdd2) == "ksdd2"
    mvtec_category(tmp_path / "m", "toothbrush")
    assert guess_dataset(tmp_path / "m") == "mvtec_ad"
    put(tmp_path / "own" / "a.png")
    assert guess_dataset(tmp_path / "own") == "folder"


def test_official_counts_add_up_to_the_published_totals() -> None:
    totals = {
        "ksdd2": 3335,
        "kolektor": 399,
        "mvtec_ad": 5354,
        "visa": 10821,
        "magnetic_tile": 1344,
        "mpdd": 1346,
        "btad": 2540,
        "mvtec_ad_2": 3914,  # of 8,004: the private test images are not read
        "mvtec_loco": 3651,
        "vad": 5000,
        "elpv": 2624,
    }
    assert {name: sum(e.images for e in DATASETS[name].expected) for name in totals} == totals
    dagm = DATASETS["dagm"].expected
    assert sum(e.images for e in dagm if e.split is not None) == 16100
    for spec in DATASETS.values():
        assert {e.category for e in spec.expected} <= set(spec.categories)
