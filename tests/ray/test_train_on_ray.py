"""Training in several of Ray's workers: what they train is in `test_trials_on_ray.py`."""

from dataclasses import replace

import pytest
import torch

from exdd_ray.data.catalog import build_catalog, catalog_rows
from exdd_ray.errors import UserError
from exdd_ray.methods.classifier.classifier import fit_classifier
from exdd_ray.methods.classifier.config import ClassifierConfig
from exdd_ray.on_ray.train import train_on_ray
from exdd_ray.store.artifact import Store


@pytest.fixture
def four_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.usefixtures("four_threads")
def test_what_a_worker_cannot_train_is_said_on_one_line(catalog, tmp_path):
    rows = catalog_rows(catalog)[:20]
    labelled = build_catalog(replace(row, label=1, defect="x") if i % 2 else row for i, row in enumerate(rows))
    bursting = ClassifierConfig.model_validate(
        {
            "features": {"layers": ["layer2"], "resize": [48, 48]},
            "batchnorm": "frozen",
            "optimizer": "sgd",
            "learning_rate": 1e30,
            "epochs": 2,
            "training": {"batch": 6, "device": "cpu", "workers": 2},
        }
    )
    store = Store(tmp_path)

    def fit():
        assert torch.get_num_threads() == 2  # of four, for two workers
        fit_classifier(bursting, labelled, store, 0)

    with pytest.raises(UserError, match=r"a worker cannot train: step \d+: .*not finite|the loss is") as error:
        train_on_ray(fit, bursting.training, store)
    assert "\n" not in str(error.value)
