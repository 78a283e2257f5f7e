"""Banks of several sizes, made at once: the same artifacts as one by one."""

import numpy as np
import pyarrow as pa
import pytest
from experiments import run_experiments
from test_bank import points_of

from exdd_ray.banks.config import CoresetConfig
from exdd_ray.banks.memory_bank import make_bank, make_banks
from exdd_ray.data.catalog import select_rows
from exdd_ray.data.config import DatasetConfig, ProceduralConfig
from exdd_ray.data.split import split_catalog
from exdd_ray.errors import DataError
from exdd_ray.experiment.config import ExperimentConfig
from exdd_ray.experiment.dataset import load_catalog
from exdd_ray.experiment.load import Trial
from exdd_ray.experiment.session import Session
from exdd_ray.features.embedder import Embedder
from exdd_ray.methods.patch_bank.config import PatchBankConfig
from exdd_ray.methods.patch_bank.fit import fit_patch_bank
from exdd_ray.methods.patch_bank.nearest import search_nested
from exdd_ray.methods.patch_bank.nested import prepare_patch_banks
from exdd_ray.progress import silent
from exdd_ray.store.artifact import Store

RATES = (0.2, 0.05, 0.1)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory) -> pa.Table:
    made = ProceduralConfig(
        size=(64, 64), materials=("ceramic",), kinds=("hole",), normal_train=6, normal_test=3, defects_per_kind=6
    )
    dataset = DatasetConfig(name="procedural", procedural=made)
    universe = load_catalog(dataset, Store(tmp_path_factory.mktemp("data")), silent)
    return split_catalog(universe, train_fraction=0.8, defects=3, seed=0)


def detectors() -> list[PatchBankConfig]:
    return [
        PatchBankConfig.model_validate(
            {"features": {"resize": (64, 64)}, "bank": {"negative": {"rate": rate}}, "scoring": {"calibration": 4}}
        )
        for rate in RATES
    ]


def contents(store: Store, stages: tuple[str, ...]) -> dict[str, bytes]:
    """Every file of these stages' artifacts but the manifests, which hold when they were made."""
    return {
        f"{path.parent.name}/{path.name}": path.read_bytes()
        for stage in stages
        for path in sorted(store.root.glob(f"{stage}/*/*/*.arrow"))
    }


@pytest.mark.parametrize("method", ["greedy", "approximate", "random", "merge_reduce"])
@pytest.mark.parametrize("projection", [None, 4])
def test_banks_made_together_are_those_made_alone(tmp_path, method, projection):
    vectors = np.random.default_rng(0).standard_normal((200, 12)).astype(np.float32)
    configs = [CoresetConfig(rate=rate, method=method, projection=projection, chunk=60) for rate in RATES]
    together = make_banks(points_of(vectors), configs, 3, Store(tmp_path / "a"), silent)
    for config, bank in zip(configs, together, strict=True):
        alone = make_bank(points_of(vectors), config, 3, Store(tmp_path / "b"), silent)
        assert alone.key == bank.key
        np.testing.assert_array_equal(alone.vectors, bank.vectors)
        np.testing.assert_array_equal(alone.radii, bank.radii)


def test_a_larger_bank_of_the_store_is_not_made_again(tmp_path):
    vectors = np.random.default_rng(0).standard_normal((200, 12)).astype(np.float32)
    store, largest = Store(tmp_path), CoresetConfig(rate=0.5)
    make_bank(points_of(vectors), largest, 0, store, silent)
    titles: list[str] = []

    def progress(title: str, total: int):
        titles.append(f"{title}, {total}")
        return silent(title, total)

    make_banks(points_of(vectors), [largest, CoresetConfig(rate=0.1), CoresetConfig(rate=0.2)], 0, store, progress)
    assert titles == ["normal bank: 40 of 200 vectors, 40"]


def test_detectors_prepared_together_are_those_fitted_alone(tmp_path, catalog):
    train, test = (select_rows(catalog, split=split) for split in ("train", "test"))
    together, alone = Store(tmp_path / "together"), Store(tmp_path / "alone")
    configs = detectors()
    embedder = Embedder(together, configs[0].features, catalog)
    prepare_patch_banks(configs, train, embedder, 0)
    prepared = contents(together, ("bank", "nearest"))
    for config in configs:
        mine = fit_patch_bank(config, train, embedder, 0).predict(test)
        other = fit_patch_bank(config, train, Embedder(alone, config.features, catalog), 0).predict(test)
        np.testing.assert_array_equal(mine.scores, other.scores)
        np.testing.assert_array_equal(mine.patch_maps, other.patch_maps)
    assert len(prepared) == 3 * len(RATES)
    assert prepared.items() <= contents(alone, ("bank", "nearest")).items()


def test_banks_that_are_not_nested_are_refused(tmp_path, catalog):
    train = select_rows(catalog, split="train")
    embedder = Embedder(Store(tmp_path), detectors()[0].features, catalog)
    banks = [fit_patch_bank(config, train, embedder, seed).negative for seed, config in enumerate(detectors()[:2])]
    embedding = embedder.embedding(catalog)
    with pytest.raises(DataError, match=r"is not the beginning of bank"):
        search_nested(embedding, np.arange(2), banks, detectors()[0].search, embedder.store, silent, "test")


def test_trials_of_a_run_share_one_order_and_one_search(tmp_path):
    made = {"size": [64, 64], "materials": ["ceramic"], "kinds": ["hole"], "normal_train": 6, "normal_test": 3}
    trials = [
        Trial(
            f"rate {rate}",
            ExperimentConfig.model_validate(
                {
                    "dataset": {"procedural": {**made, "defects_per_kind": 4}, "split": {"defects": 2}},
                    "detector": detector.model_dump(),
                    "evaluation": {"bootstrap": 0},
                }
            ),
        )
        for rate, detector in zip(RATES, detectors(), strict=True)
    ]
    titles: list[str] = []

    def progress(title: str, total: int):
        titles.append(title)
        return silent(title, total)

    together = run_experiments(trials, Session(Store(tmp_path / "together"), progress))
    assert sum("normal bank: " in title for title in titles) == 1
    assert sum(title.startswith("test images, normal bank") for title in titles) == 1
    assert sum(title.startswith("held-out normal images: nearest of 19, 38, 76") for title in titles) == 1
    for trial, result in zip(trials, together, strict=True):
        (alone,) = run_experiments([trial], Session(Store(tmp_path / trial.name)))
        np.testing.assert_array_equal(alone.predictions.scores, result.predictions.scores)
        assert alone.pixel is not None
        assert result.pixel is not None
        assert alone.metrics["aupro"] == result.metrics["aupro"]
        assert alone.pixel.detection.ap == result.pixel.detection.ap
        assert alone.bank_sizes == result.bank_sizes
