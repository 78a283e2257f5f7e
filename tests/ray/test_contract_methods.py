"""Every method of the table: what it fits on a Ray cluster is what it fits in this process, to the bit."""

import numpy as np
import pytest
from method_contract import fit, made_images, small, training_images

from exdd_ray.experiment.session import Session
from exdd_ray.methods.table import methods
from exdd_ray.on_ray.backend import ray_stages
from exdd_ray.store.artifact import Store
from exdd_ray.training.checkpoint import WEIGHTS

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def universe(tmp_path_factory):
    return made_images(tmp_path_factory.mktemp("images"))


def validations(caplog):
    """What a training has told of them since."""
    told = [line for line in caplog.messages if line.startswith("after ")]
    caplog.clear()
    return told


def weights(store):
    (file,) = store.glob(f"train-*/*/*/{WEIGHTS}")
    return file.read_bytes()


@pytest.mark.parametrize("kind", methods())
def test_a_detector_fitted_on_ray_is_the_one_fitted_here(kind, universe, tmp_path, caplog):
    config = small(kind)
    images = training_images(config, universe)
    store = Store(tmp_path / "ray")
    with caplog.at_level("INFO", "exdd_ray.training"):
        here, told = fit(config, images, Store(tmp_path / "here")), validations(caplog)
        there = methods()[kind].fit(config, images, Session(store, backend=ray_stages()), 0)
    wanted, found = here.predict(images.test), there.predict(images.test)
    np.testing.assert_array_equal(found.scores, wanted.scores)
    np.testing.assert_array_equal(found.patch_maps, wanted.patch_maps)
    assert (there.train, there.threshold, there.bank_sizes) == (here.train, here.threshold, here.bank_sizes)
    if methods()[kind].training(config):
        assert store.made == []  # by the worker
        assert validations(caplog) == told  # in the worker
        mine, theirs = (weights(tmp_path / place) for place in ("here", "ray"))
        assert mine == theirs
        assert not [path for path in (tmp_path / "ray/unfinished").iterdir() if path.is_dir()]
