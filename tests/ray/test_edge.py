"""On Ray and in one process, every result is the same to the bit; what is lost is made again."""

import re
import threading
from dataclasses import replace

import numpy as np
import pytest
import ray

from exdd_ray.banks.coreset import greedy_order
from exdd_ray.errors import ConfigError, DataError, UserError
from exdd_ray.features.embed import embed
from exdd_ray.on_ray.cluster import end, one_thread_workers
from exdd_ray.on_ray.coreset import greedy_order_on_ray, start_actors
from exdd_ray.on_ray.embed import RaySlices
from exdd_ray.store.artifact import Store


@pytest.fixture(scope="module")
def embedding(catalog, features, tmp_path_factory):
    return embed(catalog, features, Store(tmp_path_factory.mktemp("store")))


@pytest.mark.parametrize("workers", [1, 2])
def test_embedding_on_ray_is_bit_identical(catalog, features, embedding, tmp_path, workers):
    steps = []
    store = Store(tmp_path)
    RaySlices(workers)(store, embedding.jobs, steps.append)
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
    found = embed(changed, features, Store(tmp_path / "store"), run=RaySlices())
    assert np.flatnonzero(~found.readable).tolist() == [5]
    assert "broken.png" in found.reasons[5]


def test_what_a_worker_cannot_do_is_one_line(embedding, tmp_path):
    gone = embedding.jobs[0].features.model_copy(update={"weights": tmp_path / "gone.safetensors"})
    with pytest.raises(UserError, match=r"\A[^\n]*gone.safetensors[^\n]*\Z"):
        RaySlices(1)(Store(tmp_path), [replace(embedding.jobs[0], features=gone)], print)


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


def test_any_number_of_shards_gives_the_same_order(embedding):
    at, actors = np.arange(3, 63), start_actors(5)
    assert len(actors) == 5
    wanted = greedy_order(embedding.vectors(at), 150, first=17)
    for shards in (1, 2, 5):
        found = greedy_order_on_ray(embedding, at, 150, first=17, actors=actors[:shards], frontier=60)
        np.testing.assert_array_equal(found.indices, wanted.indices)
        np.testing.assert_array_equal(found.radii, wanted.radii)
    end(actors)


@pytest.fixture
def actors():
    started = start_actors(2)
    yield started
    end(started)


def test_a_killed_shard_is_rebuilt_and_the_order_goes_on(embedding, actors):
    at = np.arange(60)
    wanted = greedy_order(embedding.vectors(at), 300, first=0)
    killed = []

    def kill_once(made, _):
        if made > 20 and not killed:
            ray.kill(actors[1], no_restart=False)
            killed.append(made)

    found = greedy_order_on_ray(embedding, at, 300, first=0, actors=actors, frontier=40, progress=kill_once)
    assert killed
    assert killed[0] < 300
    np.testing.assert_array_equal(found.indices, wanted.indices)
    np.testing.assert_array_equal(found.radii, wanted.radii)


def test_actors_serve_one_order_after_another_and_two_at_a_time(embedding, actors):
    wanted = {}
    for first, at in ((0, np.arange(60)), (5, np.arange(60)), (7, np.arange(10, 41))):
        wanted[first] = greedy_order(embedding.vectors(at), 90, first=first)
        found = greedy_order_on_ray(embedding, at, 90, first=first, actors=actors, frontier=40)
        np.testing.assert_array_equal(found.indices, wanted[first].indices)
        np.testing.assert_array_equal(found.radii, wanted[first].radii)
    both = {}

    def order(first):
        at = np.arange(60)
        both[first] = greedy_order_on_ray(embedding, at, 90, first=first, actors=actors, frontier=40)

    threads = [threading.Thread(target=order, args=(first,), daemon=True) for first in (0, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    for first in (0, 5):
        np.testing.assert_array_equal(both[first].indices, wanted[first].indices)


def test_an_interrupted_order_leaves_nothing_behind(embedding, actors):
    at = np.arange(60)

    def interrupt(made, _):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        greedy_order_on_ray(embedding, at, 90, first=3, actors=actors, frontier=40, progress=interrupt)
    found = greedy_order_on_ray(embedding, at, 90, first=4, actors=actors, frontier=40)
    np.testing.assert_array_equal(found.indices, greedy_order(embedding.vectors(at), 90, first=4).indices)


def test_a_round_that_ray_repeats_is_answered_again(embedding):
    at, (actor,) = np.arange(60), start_actors(1)
    wanted = greedy_order(embedding.vectors(at), 90, first=0)

    class Repeated:
        """Every call arrives twice, as where Ray has lost the answer of an actor that still runs."""

        def __init__(self, name):
            self._method = getattr(actor, name)

        def remote(self, *arguments):
            self._method.remote(*arguments)
            return self._method.remote(*arguments)

    class Twice:
        begin, advance = Repeated("begin"), Repeated("advance")

    found = greedy_order_on_ray(embedding, at, 90, first=0, actors=[Twice], frontier=40)
    end([actor])
    np.testing.assert_array_equal(found.indices, wanted.indices)
    np.testing.assert_array_equal(found.radii, wanted.radii)


def test_bad_requests_for_an_order(embedding, actors):
    at = np.arange(5)
    for first in (-1, 5 * embedding.patches):
        with pytest.raises(DataError, match=re.escape(f"first pick {first} is not one of")):
            greedy_order_on_ray(embedding, at, 9, first=first, actors=actors)
    with pytest.raises(DataError, match="at least one pick"):
        greedy_order_on_ray(embedding, at, 0, first=0, actors=actors)
    with pytest.raises(DataError, match="not one of 0 vectors"):
        greedy_order_on_ray(embedding, at[:0], 9, first=0, actors=actors)
    ray.kill(actors[1])
    with pytest.raises(UserError, match=r"\A[^\n]*cannot answer: ActorDied[^\n]*\Z"):
        greedy_order_on_ray(embedding, at, 9, first=0, actors=actors)
    actors.pop()
