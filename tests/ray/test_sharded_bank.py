"""A bank held by Ray actors answers as the whole one; a shard that is lost is built again."""

import time

import numpy as np
import pytest
import ray

from exdd_ray.banks.config import CoresetConfig
from exdd_ray.banks.memory_bank import Points, make_bank
from exdd_ray.banks.search import search
from exdd_ray.banks.vectors import VectorBlocks
from exdd_ray.errors import ConfigError, DataError, UserError
from exdd_ray.features.embed import embed
from exdd_ray.on_ray.bank import ShardedBank
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


@pytest.fixture(scope="module")
def heavy(tmp_path_factory):
    """A bank in which a batch of queries takes a shard a noticeable time; and queries for it, six batches."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((30_000, 256)).astype(np.float32)
    points = Points(lambda: VectorBlocks([vectors[:6000]]), 6000, ("heavy",), "space", "normal")
    store = Store(tmp_path_factory.mktemp("heavy"))
    bank = make_bank(points, CoresetConfig(rate=1, method="random"), 0, store, silent)
    return store, bank, vectors[6000:]


class Counted(VectorBlocks):
    """Queries that count the batches read from them."""

    read = 0

    def take(self, indices):
        self.read += 1
        return super().take(indices)


@pytest.mark.parametrize("in_flight", [1, 3])
def test_no_more_batches_are_under_way_than_allowed(heavy, in_flight):
    store, bank, vectors = heavy
    queries, under_way, answered = Counted([vectors]), [], []
    sharded = ShardedBank(store, bank.key, shards=2, in_flight=in_flight)

    def advance(count):
        under_way.append(queries.read - len(answered))
        answered.append(count)

    found = sharded.search(queries, 1, advance=advance)
    sharded.close()
    assert queries.read == len(answered) == 6
    assert max(under_way) == in_flight
    assert sum(answered) == found.indices.shape[1] == len(vectors)


def test_a_shard_killed_while_a_query_is_in_flight_is_asked_again(heavy):
    store, bank, vectors = heavy
    sharded = ShardedBank(store, bank.key, shards=2)
    busy = []

    def kill_once(_):
        if not busy:
            shard = sharded.actors[0][1]
            done, waiting = ray.wait([shard.__ray_ready__.remote()], timeout=0.01)
            busy.append(bool(waiting) and not done)  # a shard answers in turn: its queries come before this call
            ray.kill(shard, no_restart=False)

    found = sharded.search(vectors, 1, advance=kill_once)
    sharded.close()
    assert busy == [True]
    wanted = search(vectors, bank.vectors, 1)
    np.testing.assert_array_equal(found.indices, wanted.indices)
    np.testing.assert_array_equal(found.squares, wanted.squares)


def test_bad_requests_to_a_sharded_bank(embedding, bank):
    for wrong in ({"shards": 0}, {"replicas": 0}, {"in_flight": 0}, {"shards": -1}):
        with pytest.raises(ConfigError, match=f"{next(iter(wrong))} of at least 1"):
            ShardedBank(embedding.store, bank.key, **wrong)
    with pytest.raises(DataError, match="cannot be cut"):
        ShardedBank(embedding.store, bank.key, shards=len(bank.vectors) + 1)
    with pytest.raises(DataError, match="no bank"):
        ShardedBank(embedding.store, f"bank-{0:040d}", shards=1)
    sharded = ShardedBank(embedding.store, bank.key, shards=2)
    queries = np.zeros((3, bank.vectors.shape[1]), dtype=np.float32)
    with pytest.raises(DataError, match="dimensions"):
        sharded.search(np.zeros((3, 5), dtype=np.float32), 1)
    with pytest.raises(DataError, match="neighbours asked"):
        sharded.search(queries, 10**6)
    with pytest.raises(DataError, match="empty"):
        sharded.search(queries[:0], 1)
    with pytest.raises(DataError, match=r"\A[^\n]*NaN[^\n]*\Z"):
        sharded.search(queries * np.nan, 1)
    with pytest.raises(DataError, match=f"{bank.space}.*other features, elsewhere"):
        sharded.search(queries, 1, space="elsewhere")
    sharded.close()
    with pytest.raises(UserError, match=r"\A[^\n]*cannot answer: ActorDied[^\n]*\Z"):
        sharded.search(queries, 1)


def test_a_shard_that_cannot_be_built_again_is_one_line(tmp_path):
    vectors = np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32)
    store = Store(tmp_path)
    points = Points(lambda: VectorBlocks([vectors]), 40, ("lost",), "space", "normal")
    bank = make_bank(points, CoresetConfig(rate=1, method="random"), 0, store, silent)
    sharded = ShardedBank(store, bank.key, shards=2)
    sharded.search(vectors, 1)
    file = store.folder(bank.key) / "bank.arrow"
    damaged = file.read_bytes()[:-50]
    file.unlink()
    file.write_bytes(damaged)
    ray.kill(sharded.actors[0][1], no_restart=False)

    def search_until_it_is_gone():
        for _ in range(100):  # the shard may answer once more before it is
            sharded.search(vectors, 1)
            time.sleep(0.1)

    with pytest.raises(DataError, match=rf"\A[^\n]*no bank {bank.key}[^\n]*\Z"):
        search_until_it_is_gone()
    sharded.close()


@pytest.fixture(
    scope="module", params=[(1, 1), (5, 1), (2, 2), pytest.param((None, 3), marks=pytest.mark.slow)], ids=str
)
def sharded(request, embedding, bank):
    shards, replicas = request.param
    started = ShardedBank(embedding.store, bank.key, shards=shards, replicas=replicas, in_flight=2)
    yield started
    started.close()


@pytest.mark.parametrize("k", [1, 2, 3, 9])
def test_a_sharded_bank_answers_as_the_whole_one(embedding, bank, sharded, k):
    queries = np.concatenate([embedding.image(i) for i in range(40, 70)] * 5)
    wanted = search(queries, bank.vectors, k)
    found = sharded.search(queries, k, space=embedding.space)
    np.testing.assert_array_equal(found.indices, wanted.indices)
    np.testing.assert_array_equal(found.distances, wanted.distances)
    np.testing.assert_array_equal(found.squares, wanted.squares)


def test_nested_sizes_are_answered_in_one_pass(embedding, bank, sharded):
    queries, sizes = np.concatenate([embedding.image(i) for i in range(40, 60)]), (1, 7, 100, len(bank.vectors))
    wanted = search(queries, bank.vectors, 1, sizes=sizes)
    found = sharded.search(queries, 1, sizes=sizes)
    for bad, k in (((7, 1), 1), ((0, 7), 1), ((1, 10**6), 1), (sizes, 2)):
        with pytest.raises(DataError, match="nested sizes"):
            sharded.search(queries, k, sizes=bad)
    np.testing.assert_array_equal(found.indices, wanted.indices)
    np.testing.assert_array_equal(found.squares, wanted.squares)
