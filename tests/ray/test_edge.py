"""On Ray and in one process, every result is the same to the bit; what is lost is made again."""

import time

import numpy as np
import pytest
import ray

from exdd_ray.banks.coreset import greedy_order
from exdd_ray.banks.search import search
from exdd_ray.config.detector import CoresetConfig
from exdd_ray.detectors.bank import Points, make_bank
from exdd_ray.edge.bank import ShardedBank
from exdd_ray.edge.coreset import greedy_order_on_ray, start_shards
from exdd_ray.edge.embed import RaySlices
from exdd_ray.errors import DataError
from exdd_ray.features.embed import embed
from exdd_ray.progress import silent
from exdd_ray.store.artifact import Store


@pytest.fixture(scope="module")
def embedding(catalog, features, tmp_path_factory):
    return embed(catalog, features, Store(tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="module")
def bank(embedding):
    at = np.arange(40)
    points = Points(lambda: embedding.vectors(at), 40 * embedding.patches, ("test",), embedding.space, "normal")
    return make_bank(points, CoresetConfig(rate=0.2), 0, embedding.store, silent)


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


@pytest.mark.parametrize("shards", [1, 2, 5])
def test_any_number_of_shards_gives_the_same_order(embedding, shards):
    at = np.arange(3, 63)
    wanted = greedy_order(embedding.vectors(at), 150, first=17)
    actors = start_shards(embedding, at, shards)
    assert len(actors) == shards
    found = greedy_order_on_ray(embedding, at, 150, first=17, actors=actors, frontier=60)
    np.testing.assert_array_equal(found.indices, wanted.indices)
    np.testing.assert_array_equal(found.radii, wanted.radii)
    for actor in actors:
        ray.kill(actor)


def test_a_killed_shard_is_rebuilt_and_the_order_goes_on(embedding):
    at = np.arange(60)
    wanted = greedy_order(embedding.vectors(at), 300, first=0)
    actors = start_shards(embedding, at, 2)
    killed = []

    def kill_once(made, _):
        if made > 20 and not killed:
            ray.kill(actors[1], no_restart=False)
            killed.append(made)

    found = greedy_order_on_ray(embedding, at, 300, first=0, actors=actors, frontier=40, progress=kill_once)
    assert killed
    assert killed[0] < 300
    np.testing.assert_array_equal(found.indices, wanted.indices)
    for actor in actors:
        ray.kill(actor)


@pytest.mark.parametrize(("shards", "replicas", "k"), [(1, 1, 1), (2, 1, 3), (5, 1, 9), (2, 2, 1)])
def test_a_sharded_bank_answers_as_the_whole_one(embedding, bank, shards, replicas, k):
    queries = np.concatenate([embedding.image(i) for i in range(40, 70)] * 5)
    wanted = search(queries, bank.vectors, k)
    sharded = ShardedBank(embedding.store, bank.key, shards=shards, replicas=replicas, in_flight=2)
    found = sharded.search(queries, k)
    sharded.close()
    np.testing.assert_array_equal(found.indices, wanted.indices)
    np.testing.assert_array_equal(found.distances, wanted.distances)


def test_a_dead_bank_shard_is_rebuilt_and_asked_again(embedding, bank):
    queries = np.concatenate([embedding.image(i) for i in range(40, 60)])
    wanted = search(queries, bank.vectors, 1)
    sharded = ShardedBank(embedding.store, bank.key, shards=2)
    sharded.search(queries, 1)
    ray.kill(sharded.actors[0][1], no_restart=False)
    time.sleep(0.1)
    found = sharded.search(queries, 1)
    sharded.close()
    np.testing.assert_array_equal(found.indices, wanted.indices)


def test_bad_requests_to_a_sharded_bank(embedding, bank):
    with pytest.raises(DataError, match="cannot be cut"):
        ShardedBank(embedding.store, bank.key, shards=len(bank.vectors) + 1)
    with pytest.raises(DataError, match="no bank"):
        ShardedBank(embedding.store, "bank-00", shards=1)
    sharded = ShardedBank(embedding.store, bank.key, shards=2)
    with pytest.raises(DataError, match="dimensions"):
        sharded.search(np.zeros((3, 5), dtype=np.float32), 1)
    with pytest.raises(DataError, match="neighbours asked"):
        sharded.search(np.zeros((3, bank.vectors.shape[1]), dtype=np.float32), 10**6)
    sharded.close()
