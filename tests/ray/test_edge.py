"""Embedding on Ray gives what one process does, to the bit, or an error of one line; and workers fit the cluster."""

from dataclasses import replace

import numpy as np
import pytest
import ray

from exdd_ray.errors import ConfigError, UserError
from exdd_ray.features.embed import embed
from exdd_ray.on_ray.cluster import one_thread_workers
from exdd_ray.on_ray.embed import RaySlices
from exdd_ray.store.artifact import Store


@pytest.fixture(scope="module")
def embedding(catalog, features, tmp_path_factory):
    return embed(catalog, features, Store(tmp_path_factory.mktemp("store")))


def test_embedding_on_ray_is_bit_identical(catalog, features, embedding, tmp_path):
    steps = []
    store = Store(tmp_path)
    RaySlices(2)(store, embedding.jobs, steps.append)
    assert sum(steps) == catalog.num_rows
    again = embed(catalog, features, store)
    assert again.key == embedding.key
    for row in range(catalog.num_rows):
        np.testing.assert_array_equal(again.image(row), embedding.image(row))


def test_an_unreadable_image_does_not_lose_the_others(catalog, features, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    column = catalog.column_names.index("image")
    paths = catalog["image"].to_pylist()
    paths[5] = str(broken)
    import pyarrow as pa

    changed = catalog.set_column(column, "image", pa.array(paths))
    found = embed(changed, features, Store(tmp_path / "store"), run=RaySlices(1))
    assert np.flatnonzero(~found.readable).tolist() == [5]
    assert "broken.png" in found.reasons[5]
    here = embed(changed, features, Store(tmp_path / "here"))
    for row in np.flatnonzero(here.readable):
        np.testing.assert_array_equal(found.image(row), here.image(row))


def test_a_workers_programming_error_brings_its_traceback(embedding, tmp_path):
    with pytest.raises(UserError, match=r"\Aa worker cannot embed: \w+: [^\n]*\.py:\d+, in \w+\)\Z") as error:
        RaySlices(1)(Store(tmp_path), [replace(embedding.jobs[0], features=None)], print)
    assert "Traceback (most recent call last)" in error.value.trace
    assert "make_slice" in error.value.trace


def test_work_for_a_gpu_is_refused_where_the_cluster_has_none(embedding, tmp_path):
    if ray.cluster_resources().get("GPU"):
        pytest.skip("this cluster has a GPU")
    with pytest.raises(UserError, match="no GPU"):
        RaySlices(1)(Store(tmp_path), [replace(embedding.jobs[0], device="cuda")], print)


@pytest.mark.parametrize("workers", [1, 2, 3, 7, 100])
def test_workers_fit_beside_a_free_cpu(workers):
    count, share = one_thread_workers(workers)
    assert count == workers
    assert 0 < round(count * share, 2) <= max(ray.cluster_resources()["CPU"] - 1, 0.5)


def test_a_number_of_workers_that_cannot_be():
    with pytest.raises(ConfigError, match="at least one"):
        one_thread_workers(0)
    with pytest.raises(ConfigError, match="more than"):
        one_thread_workers(100_000)
