"""What every synthesizer of the table makes on Ray it makes in one process too, to the bit."""

import numpy as np
import pytest
from synthesizer_inputs import make_images, quick

from exdd_ray.data.masks import read_pair
from exdd_ray.on_ray.fits import fine_tune_on_ray
from exdd_ray.on_ray.synthesis import RayChunks
from exdd_ray.progress import silent
from exdd_ray.store.artifact import Store
from exdd_ray.synthesizers.fits import lacking_fits, train_all
from exdd_ray.synthesizers.job import CHUNK
from exdd_ray.synthesizers.plan import plan_parts
from exdd_ray.synthesizers.synthesize import synthesize
from exdd_ray.synthesizers.synthesizer import Resources
from exdd_ray.synthesizers.table import synthesizers


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return make_images(tmp_path_factory.mktemp("images"))


@pytest.mark.parametrize("kind", synthesizers())
def test_samples_made_on_ray_are_bit_identical(images, tmp_path, kind):
    config = quick(kind, count=2 * CHUNK)
    here = synthesize(config, *images, 0, Store(tmp_path / "here"))
    steps, store = [], Store(tmp_path / "ray")
    parts = plan_parts(config, *images, 0)
    train_all(lacking_fits(parts, store), Resources(store, silent, RayChunks(2)), fine_tune_on_ray)
    for _, jobs in parts:
        RayChunks(2)(store, jobs, steps.append)
    assert sum(steps) == CHUNK * sum(len(jobs) for _, jobs in parts) >= 2 * CHUNK
    there = synthesize(config, *images, 0, store)
    assert (store.made, there.fresh) == ([], 0)
    for one, other in zip(here.samples, there.samples, strict=True):
        assert (one.row.id, one.row.origin) == (other.row.id, other.row.origin)
        for mine, theirs in zip(read_pair(one.row), read_pair(other.row), strict=True):
            np.testing.assert_array_equal(mine, theirs)
