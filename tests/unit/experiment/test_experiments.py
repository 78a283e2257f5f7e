"""Every experiment of configs/ on a small tree in its dataset's official layout: loaded, split, its trials laid out."""

import csv
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from dataset_trees import ad_2, autovi, elpv, loco, real_iad, vad
from diffusionad_inputs import tiny
from PIL import Image

from exdd_ray.config.bundled import bundled_names, configs_folder
from exdd_ray.data.catalog import select_rows
from exdd_ray.data.datasets import load_dataset
from exdd_ray.errors import DataError
from exdd_ray.experiment.assign import Assignment, assign
from exdd_ray.experiment.session import Session
from exdd_ray.experiment.space import LoadedSweep, load_run
from exdd_ray.experiment.synthesis import synthesis_keys
from exdd_ray.methods.diffusionad.detector import fit_diffusionad
from exdd_ray.store.artifact import Store
from exdd_ray.synthesizers.dualanodiff.config import DualConfig
from exdd_ray.synthesizers.mixture.config import MixtureConfig
from exdd_ray.synthesizers.painting.config import DiffusionConfig

pytestmark = pytest.mark.usefixtures("one_thread")

COMMIT = "a" * 40  # a hub's model of a known commit is not asked for
DEFECTS = {"ksdd2": 4, "magnetic_tile": 20}


def put(path: Path, *, defect: bool | None = None) -> None:
    """An image; or a mask, empty or with a defect."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(str(path))).integers(0, 256, (20, 10)).astype(np.uint8)
    if defect is not None:
        pixels = np.zeros((20, 10), np.uint8)
        pixels[4:9, 3:6] = 255 * defect
    Image.fromarray(pixels).save(path)


def mvtec_like(root: Path, categories: tuple[str, ...], defects: int = 1) -> None:
    for name in categories:
        for number in range(3):
            put(root / name / "train" / "good" / f"{number}.png")
        put(root / name / "test" / "good" / "0.png")
        for number in range(defects):
            put(root / name / "test" / "crack" / f"{number}.png")
            put(root / name / "ground_truth" / "crack" / f"{number}_mask.png", defect=True)


def mvtec_ad(root: Path) -> None:
    mvtec_like(root, ("bottle", "zipper", "carpet"))


def mpdd(root: Path) -> None:
    mvtec_like(root, ("tubes", "connector"))


def visa(root: Path) -> None:
    rows = []
    for split, label, number in (
        ("train", "normal", 0),
        ("train", "normal", 1),
        ("test", "normal", 2),
        ("test", "anomaly", 3),
    ):
        folder = "Normal" if label == "normal" else "Anomaly"
        image, mask = f"candle/Data/Images/{folder}/{number}.JPG", f"candle/Data/Masks/Anomaly/{number}.png"
        put(root / image)
        if label == "anomaly":
            put(root / mask, defect=True)
        rows.append({"object": "candle", "split": split, "label": label, "image": image})
        rows[-1]["mask"] = mask if label == "anomaly" else ""
    (root / "split_csv").mkdir()
    with (root / "split_csv" / "1cls.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def dagm(root: Path) -> None:
    for name in ("Class1", "Class10"):
        for split in ("Train", "Test"):
            for number in range(3):
                put(root / name / split / f"{number:04d}.PNG")
            put(root / name / split / "Label" / "0000_label.PNG", defect=True)


def ksdd2(root: Path) -> None:
    for split, first in (("train", 10000), ("test", 20000)):
        for number in range(first, first + 10):
            put(root / split / f"{number}.png")
            put(root / split / f"{number}_GT.png", defect=number < first + DEFECTS["ksdd2"])


def kolektor(root: Path) -> None:
    for part in range(1, 8):
        for number in range(3):
            put(root / f"kos{part:02d}" / f"Part{number}.jpg")
            put(root / f"kos{part:02d}" / f"Part{number}_label.bmp", defect=number == 0)


def magnetic_tile(root: Path) -> None:
    for kind, images in (("Free", 10), ("Blowhole", DEFECTS["magnetic_tile"])):
        for number in range(images):
            put(root / f"MT_{kind}" / "Imgs" / f"{number}.jpg")
            put(root / f"MT_{kind}" / "Imgs" / f"{number}.png", defect=kind != "Free")


def folder(root: Path) -> None:
    mvtec_like(root, (".",))


TREES = {
    "mvtec_ad": mvtec_ad,
    "mpdd": mpdd,
    "visa": visa,
    "dagm": dagm,
    "ksdd2": ksdd2,
    "kolektor_folds": kolektor,
    "magnetic_tile": magnetic_tile,
    "folder": folder,
    "mvtec_ad_2": ad_2,
    "mvtec_loco": loco,
    "autovi": autovi,
    "vad": vad,
    "real_iad": real_iad,
    "elpv": partial(elpv, more=["0.0 poly"] * 3),
}


def loaded(name: str, root: Path) -> LoadedSweep:
    path = configs_folder() / "experiments" / f"{name}.yaml"
    trials = load_run(path).trials
    first, overrides = trials[0].config, []
    if isinstance(first.synthesizer, DualConfig):  # a variant is a category, with kinds of defects of its own
        mvtec_like(root, tuple(str(trial.config.dataset.category) for trial in trials), defects=6)
        overrides += [f"dataset.root={root}", "synthesizer.kinds=[crack]"]
    elif first.dataset.name in TREES:
        TREES[first.dataset.name](root)
        overrides.append(f"dataset.root={root}")
    else:
        overrides += ["procedural.normal_train=4", "procedural.normal_test=2"]
    if isinstance(first.synthesizer, DiffusionConfig):
        overrides += [f"synthesizer.revision={COMMIT}", "synthesizer.run.device=cuda"]
    if isinstance(first.synthesizer, MixtureConfig):
        painter = "synthesizer.parts.0.synthesizer"
        overrides += [f"{painter}.revision={COMMIT}", f"{painter}.run.device=cuda"]
    if name == "in_and_out_ksdd2_few":
        overrides.append("split.defects=3")
    if first.dataset.name == "magnetic_tile" and name != "patchcore_magnetic_tile":
        overrides.append("split.defects=3")
    return load_run(path, overrides)


def planned(run: LoadedSweep, session: Session) -> dict[tuple[str, int, str], tuple[Assignment, int]]:
    """(trial, seed, category) -> its images and how many chunks of synthetic defects it asks for."""
    found = {}
    for trial in run.trials:
        for category, universe in session.categories(trial.config.dataset).items():
            assignment = assign(trial.config, universe)
            chunks = synthesis_keys(trial.config, universe, assignment.train, session)
            found[trial.name, trial.config.seed, category] = (assignment, len(set(chunks)))
    return found


@pytest.fixture
def plan(tmp_path):
    return lambda name: planned(loaded(name, tmp_path / "data"), Session(Store(tmp_path / "store")))


@pytest.mark.parametrize("name", bundled_names("experiments"))
def test_every_experiment_can_be_laid_out(name, plan):
    found = plan(name)
    assert found
    for assignment, _ in found.values():
        assert select_rows(assignment.train, label=0).num_rows
        for label in (0, 1):
            assert select_rows(assignment.test, label=label).num_rows


def test_exdds_headline_paints_none_to_150_defects_beside_the_real_ones(plan):
    found = plan("exdd_ksdd2_synthetic")
    chunks = {name: chunks for (name, _, _), (_, chunks) in found.items()}
    assert chunks == {"count=0": 0, "count=50": 6, "count=100": 10, "count=150": 16}  # 25, 50 and 75 of each prompt
    assert {select_rows(images.train, label=1).num_rows for images, _ in found.values()} == {DEFECTS["ksdd2"]}
    assert any("masks of training defects" in remark for remark in found["count=100", 0, "ksdd2"][0].remarks)


def test_dualanodiff_trains_on_the_first_third_of_each_kind_and_paints_500_pairs_of_it(plan):
    found = plan("dualanodiff_mvtec_ad")
    assert len(found) == 15
    for images, chunks in found.values():
        ids = [set(select_rows(part, label=1)["id"].to_pylist()) for part in (images.train, images.test)]
        assert [{one.rpartition("/")[2] for one in part} for part in ids] == [
            {"0.png", "1.png"},
            {f"{number}.png" for number in range(2, 6)},
        ]
        assert chunks % 50 == 0
    trials = load_run(configs_folder() / "experiments" / "dualanodiff_mvtec_ad.yaml").trials
    assert all(one.config.synthesizer.count == 500 * len(one.config.synthesizer.kinds) for one in trials)
    assert sum(len(one.config.synthesizer.kinds) for one in trials) == 73


def test_diag_trains_on_the_published_totals_with_and_without_real_defects(plan, tmp_path):
    for name, real in (("diag_ksdd2_zero", 0), ("diag_ksdd2_full", DEFECTS["ksdd2"])):
        found = planned(loaded(name, tmp_path / name), Session(Store(tmp_path / "store")))
        assert {key[0]: chunks for key, (_, chunks) in found.items()} == {
            "count=80": 8,
            "count=100": 10,
            "count=120": 12,
        }
        assert {select_rows(images.train, label=1).num_rows for images, _ in found.values()} == {real}


def test_a_part_is_tested_in_one_fold_and_trains_in_the_others(plan):
    found = {key[2]: images for key, (images, _) in plan("exdd_kolektor_folds").items() if key[0] == "two banks"}
    assert list(found) == ["fold1", "fold2", "fold3"]
    tested = {fold: {name.split("/")[1] for name in images.test["id"].to_pylist()} for fold, images in found.items()}
    assert sorted(part for parts in tested.values() for part in parts) == [f"kos{n:02d}" for n in range(1, 8)]
    for fold, images in found.items():
        trained = {name.split("/")[1] for name in images.train["id"].to_pylist()}
        assert trained == {f"kos{n:02d}" for n in range(1, 8)} - tested[fold]
        assert select_rows(images.train, label=1).num_rows == len(trained)
        assert not any("the split is random" in remark for remark in images.remarks)


def test_the_publishers_folds_are_read_where_their_file_is(tmp_path):
    import pickle

    kolektor(tmp_path)
    tested = [["kos01", "kos02"], ["kos03", "kos04", "kos05"], ["kos06", "kos07"]]
    folds = [[(part, True) for part in parts] for parts in tested]
    (tmp_path / "split_33_33.pyb").write_bytes(pickle.dumps([folds, folds]))
    for number, parts in enumerate(tested, start=1):
        rows = select_rows(load_dataset("kolektor_folds", tmp_path, f"fold{number}"), split="test")
        assert {name.split("/")[1] for name in rows["id"].to_pylist()} == set(parts)
    (tmp_path / "split_33_33.pyb").write_bytes(pickle.dumps([folds, folds[:2]]))
    with pytest.raises(DataError, match="tests kos06 in none of 2 folds"):
        load_dataset("kolektor_folds", tmp_path)


@pytest.mark.parametrize("category", ["zipper", "bottle"])
def test_anomalies_of_published_textures_are_filled_with_textures_alone(category, tmp_path, monkeypatch):
    own = []
    monkeypatch.setattr("exdd_ray.synthesizers.per_region.blend.structure", lambda image, rng: own.append(1) or image)
    mvtec_ad(tmp_path)
    train = select_rows(load_dataset("mvtec_ad", tmp_path, category), split="train")
    fit_diffusionad(tiny(preset="paper", steps=8), train, Store(tmp_path / "store"), 0)
    assert bool(own) == (category == "bottle")
