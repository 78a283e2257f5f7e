"""Images are known by file and content, never by id; what is kept is kept under all that it depends on."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from experiments import run_experiments
from PIL import Image

from exdd_ray.data.catalog import build_catalog, catalog_rows, select_rows
from exdd_ray.data.config import DatasetConfig
from exdd_ray.data.datasets import load_dataset
from exdd_ray.data.procedural.surfaces import make_surface
from exdd_ray.data.split import split_catalog
from exdd_ray.errors import UserError
from exdd_ray.experiment.config import ExperimentConfig
from exdd_ray.experiment.load import Trial, validate
from exdd_ray.experiment.session import Session
from exdd_ray.experiment.stored import stored_trial
from exdd_ray.experiment.stored_result import read_result
from exdd_ray.features.config import FeaturesConfig
from exdd_ray.features.embedder import Embedder
from exdd_ray.features.slices import make_slice, plan_slices
from exdd_ray.methods.patch_bank.config import PatchBankConfig
from exdd_ray.methods.patch_bank.fit import fit_patch_bank
from exdd_ray.metrics.config import EvaluationConfig
from exdd_ray.report.numbers import measured
from exdd_ray.store.artifact import Store
from exdd_ray.store.contents import content_digests
from exdd_ray.store.hashes import file_digest

SIDE = 64
CONFIG = PatchBankConfig(system="exdd", features={"resize": (SIDE, SIDE)}, bank={"negative": {"rate": 0.2}})


def surface(path: Path, seed: int, *, hole: bool = False) -> None:
    pixels = make_surface("wood", (SIDE, SIDE), np.random.default_rng(seed)).copy()
    if hole:
        pixels[24:40, 24:40] = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def folder(root: Path, first: int) -> Path:
    """Twelve normal images and four defective ones; the ids are the same in every folder."""
    for i in range(12):
        surface(root / "normal" / f"{i:02d}.png", first + i)
    for i in range(4):
        surface(root / "defect" / f"{i:02d}.png", first + 50 + i, hole=True)
        mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
        mask[24:40, 24:40] = 255
        (root / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(root / "masks" / f"{i:02d}.png")
    return root


@pytest.fixture
def monday(tmp_path):
    catalog = load_dataset("folder", folder(tmp_path / "monday", 0))
    return split_catalog(catalog, train_fraction=0.8, defects=2, seed=0)


@pytest.fixture
def fitted(monday, tmp_path):
    embedder = Embedder(Store(tmp_path / "store"), CONFIG.features, monday)
    return fit_patch_bank(CONFIG, select_rows(monday, split="train"), embedder, seed=0)


def scores(fitted, catalog) -> dict[str, float]:
    found = fitted.predict(catalog)
    return {row.image: float(score) for row, score in zip(found.rows, found.scores, strict=True)}


def alone(fitted, catalog) -> dict[str, float]:
    """The scores by a detector that knows nothing of the images yet."""
    return scores(replace(fitted, embedder=replace(fitted.embedder, universe=None, _known={})), catalog)


def test_other_images_under_the_same_ids_have_scores_of_their_own(fitted, monday, tmp_path):
    tuesday = load_dataset("folder", folder(tmp_path / "tuesday", 1000))
    assert tuesday["id"].to_pylist() == monday["id"].to_pylist()
    found = scores(fitted, tuesday)
    assert found == alone(fitted, tuesday)
    assert set(found.values()).isdisjoint(scores(fitted, monday).values())


def test_images_under_other_ids_are_embedded(fitted, tmp_path):
    for i in range(3):
        surface(tmp_path / "wednesday" / f"new-{i}.png", 2000 + i)
    catalog = load_dataset("folder", tmp_path / "wednesday")
    assert scores(fitted, catalog) == alone(fitted, catalog)


def test_old_and_new_images_at_once(fitted, monday, tmp_path):
    tuesday = load_dataset("folder", folder(tmp_path / "tuesday", 1000))
    test = select_rows(monday, split="test")
    rows = [*catalog_rows(test), *(replace(row, id=f"tuesday/{row.id}") for row in catalog_rows(tuesday))]
    apart = {**scores(fitted, test), **scores(fitted, tuesday)}
    assert scores(fitted, build_catalog(rows)) == pytest.approx(apart, rel=1e-5)  # in slices with other neighbours


def test_selections_of_the_universe_are_served_from_it(fitted, monday):
    made = list(fitted.embedder.store.made)
    fitted.predict(select_rows(monday, split="test"))
    renamed = build_catalog([replace(row, id=f"x/{row.id}") for row in catalog_rows(monday)])
    fitted.predict(select_rows(renamed, split="test"))
    assert [key for key in fitted.embedder.store.made[len(made) :] if key.startswith("embed")] == []


def test_an_image_that_is_replaced_in_place_is_noticed(fitted, monday, tmp_path):
    test = select_rows(monday, split="test")
    before = scores(fitted, test)
    replaced = test["image"][0].as_py()
    status = Path(replaced).stat()
    surface(tmp_path / "new.png", 3000, hole=True)
    shutil.copyfile(tmp_path / "new.png", replaced)
    os.utime(replaced, ns=(status.st_atime_ns, status.st_mtime_ns))
    after = scores(fitted, test)
    assert after == pytest.approx(alone(fitted, test), rel=1e-5)
    assert [image for image in before if after[image] != before[image]] == [replaced]


def test_a_slice_of_images_that_changed_since_it_was_planned_is_not_made(monday, tmp_path):
    store, (job, *_) = Store(tmp_path / "store"), plan_slices(monday, CONFIG.features)
    surface(Path(job.rows[3].image), 4000)
    with pytest.raises(UserError, match="has changed since the embedding was begun"):
        make_slice(store, job)
    assert store.find(job.recipe.key) is None


@pytest.mark.parametrize("keep_time", [False, True])
def test_a_file_of_the_same_size_that_is_written_over_is_hashed_again(tmp_path, keep_time):
    file = tmp_path / "file"
    file.write_bytes(b"old")
    os.utime(file, ns=(10**18, 10**18))
    assert content_digests([file]) == [file_digest(file)]
    file.write_bytes(b"new")
    if keep_time:
        os.utime(file, ns=(10**18, 10**18))
    assert content_digests([file]) == [file_digest(file)]


def test_two_datasets_whose_first_image_is_one_file_are_two(monday, tmp_path):
    session = Session(Store(tmp_path / "store"))
    fewer = monday.slice(0, 6)
    assert fewer["image"][0] == monday["image"][0]
    assert session.contents(fewer) != session.contents(monday)
    features = FeaturesConfig(resize=(SIDE, SIDE))
    assert session.slices(features, fewer) != session.slices(features, monday)
    assert session.embedder(features, fewer) is not session.embedder(features, monday)
    Path(monday["image"][8].as_py()).write_bytes(b"no image")
    assert session.faults(fewer) == {}
    assert list(session.faults(monday)) == [monday["id"][8].as_py()]


def test_what_a_session_keeps_follows_the_files(monday, tmp_path):
    session, features = Session(Store(tmp_path / "store")), FeaturesConfig(resize=(SIDE, SIDE))
    row = next(row for row in catalog_rows(monday) if row.mask)
    before = session.contents(monday), session.slices(features, monday)
    mask = session.mask(row, features, EvaluationConfig())
    surface(Path(row.image), 5000)
    Image.fromarray(np.full((SIDE, SIDE), 255, dtype=np.uint8)).save(row.mask)
    assert session.contents(monday) != before[0]
    assert session.slices(features, monday) != before[1]
    assert not mask.all()
    assert session.mask(row, features, EvaluationConfig()).all()


def test_one_run_of_two_datasets_in_one_folder(tmp_path):
    root = tmp_path / "mvtec"
    for i in range(6):
        surface(root / "bottle/train/good" / f"{i}.png", i)
        surface(root / "bottle/test/good" / f"{i}.png", 100 + i)
        surface(root / "bottle/test/hole" / f"{i}.png", 200 + i, hole=True)
    surface(root / "bottle/train/crack/0.png", 300, hole=True)
    detector = {"system": "patchcore", "features": {"resize": [SIDE, SIDE]}}
    datasets = [
        DatasetConfig(name="mvtec_ad", root=root, category="bottle"),
        DatasetConfig(name="folder", root=root / "bottle"),
    ]
    trials = [
        Trial(dataset.name, validate(ExperimentConfig, {"dataset": dataset, "detector": detector}, root))
        for dataset in datasets
    ]
    together = run_experiments(trials, Session(Store(tmp_path / "store")))
    for trial, result in zip(trials, together, strict=True):
        (single,) = run_experiments([trial], Session(Store(tmp_path / trial.name)))
        assert result.predictions.rows == single.predictions.rows
        np.testing.assert_array_equal(result.predictions.scores, single.predictions.scores)


def test_trials_on_other_images_under_the_same_ids_are_not_compared(tmp_path):
    store, split = Store(tmp_path / "store"), {"defects": 2}
    days = {"monday": 0, "tuesday": 1000}
    found, tested = {}, {}
    for day, first in days.items():
        config = ExperimentConfig(
            dataset={"name": "folder", "root": folder(tmp_path / day, first), "split": split}, detector=CONFIG
        )
        session, trial = Session(store), Trial(day, config)
        (universe,) = session.categories(config.dataset).values()
        artifact = stored_trial(trial, universe, session)
        found[day], tested[day] = read_result(store, artifact.key, day, "folder", "a"), artifact.metadata["tested"]
    ids = [{row.id for row in result.rows} for result in found.values()]
    assert ids[0] == ids[1]
    mine, other = (measured([result], "image_auroc") for result in found.values())
    assert not mine.keys() & other.keys()
    assert tested["monday"] != tested["tuesday"]
