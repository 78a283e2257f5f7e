"""Training in Ray's workers: one is this process, two share every batch."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from safetensors.torch import load_file

from exdd_ray.data.catalog import build_catalog, catalog_rows
from exdd_ray.errors import ConfigError, UserError
from exdd_ray.experiment.backend import Backend
from exdd_ray.experiment.session import Session
from exdd_ray.methods.classifier.classifier import fit_classifier
from exdd_ray.methods.classifier.config import ClassifierConfig
from exdd_ray.methods.diffusionad.config import DiffusionADConfig
from exdd_ray.methods.diffusionad.detector import fit_diffusionad
from exdd_ray.methods.method import TrainingImages
from exdd_ray.methods.table import method_of
from exdd_ray.on_ray.train import train_on_ray
from exdd_ray.store.artifact import Store
from exdd_ray.training.checkpoint import WEIGHTS


@pytest.fixture(autouse=True)
def two_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def weights(store):
    (file,) = store.root.glob(f"train-*/*/*/{WEIGHTS}")
    return file


def diffusionad(**training):
    return DiffusionADConfig.model_validate(
        {
            "scale": "small",
            "reconstruction": {"base": 8, "multipliers": (1, 2)},
            "segmentation": {"base": 4, "multipliers": (1, 2)},
            "steps": 4,
            "training": {"batch": 4, "checkpoint_every": 2, "validate_every": 2, "device": "cpu", **training},
        }
    )


def classifier(**training):
    return ClassifierConfig.model_validate(
        {
            "features": {"layers": ["layer2"], "resize": [48, 48]},
            "batchnorm": "frozen",
            "optimizer": "sgd",
            "learning_rate": 0.01,
            "epochs": 2,
            "training": {"batch": 6, "device": "cpu", **training},
        }
    )


@pytest.fixture
def labelled(catalog):
    rows = catalog_rows(catalog)[:20]
    return build_catalog(replace(row, label=1, defect="x") if i % 2 else row for i, row in enumerate(rows))


def test_one_worker_trains_what_this_process_would_bit_by_bit(catalog, tmp_path):
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    config, images = diffusionad(), catalog.slice(0, 16)
    fit_diffusionad(config, images, here, 3)
    train_on_ray(partial(fit_diffusionad, config, images, there, 3), config.training, there)
    assert weights(here).read_bytes() == weights(there).read_bytes()
    assert not [path for path in (tmp_path / "there/unfinished").iterdir() if path.is_dir()]
    assert fit_diffusionad(config, images, there, 3).threshold is not None
    assert there.made == []


@pytest.mark.slow
def test_what_a_worker_logs_is_heard_here(catalog, tmp_path, caplog):
    config, store = diffusionad(), Store(tmp_path)
    with caplog.at_level("INFO", "exdd_ray.training"):
        train_on_ray(partial(fit_diffusionad, config, catalog.slice(0, 16), store, 5), config.training, store)
    assert [line.split(":")[0] for line in caplog.messages] == ["after 2 steps", "after 4 steps"]


@pytest.mark.slow
def test_no_worker_starts_for_what_the_store_has(catalog, tmp_path):
    asked = []
    session = Session(Store(tmp_path), backend=Backend(train=lambda *given: asked.append(1) or train_on_ray(*given)))
    images = TrainingImages(catalog, catalog.slice(0, 16), catalog.slice(16, 4))
    for _ in range(2):
        fitted = method_of(diffusionad()).fit(diffusionad(), images, session, 6)
    assert asked == [1]
    assert session.store.made == []
    assert fitted.threshold is not None


@pytest.mark.slow
def test_two_workers_share_every_batch(labelled, tmp_path):
    alone, shared = Store(tmp_path / "alone"), Store(tmp_path / "shared")
    fit_classifier(classifier(), labelled, alone, 0)
    config = classifier(workers=2)
    train_on_ray(partial(fit_classifier, config, labelled, shared, 0), config.training, shared)
    first, second = load_file(weights(alone)), load_file(weights(shared))
    assert any(not torch.equal(first[key], second[key]) for key in first)  # sums in another order
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5)
    fitted = fit_classifier(config, labelled, shared, 0)
    assert shared.made == []
    assert fitted.held_out == 4
    with pytest.raises(ConfigError, match="training.workers=2, but 1 process"):
        fit_classifier(config, labelled, Store(tmp_path / "none"), 0)


@pytest.mark.slow
def test_what_a_worker_cannot_train_is_said_on_one_line(labelled, tmp_path):
    config, store = classifier(workers=2), Store(tmp_path)
    bursting = config.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(UserError, match=r"a worker cannot train: step \d+: .*not finite|the loss is") as error:
        train_on_ray(partial(fit_classifier, bursting, labelled, store, 0), config.training, store)
    assert "\n" not in str(error.value)
