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
from exdd_ray.on_ray import bank as sharding
from exdd_ray.on_ray.bank import ShardedBank
from exdd_ray.progress import silent
from exdd_ray.store.artifact import Store

SIZE, IN_FLIGHT, BATCH = 6000, 3, 400


@pytest.fixture(scope="module")
def vectors():
    """For a bank in which a batch of queries takes a shard a noticeable time; two shards hold equal ones."""
    made = np.random.default_rng(0).standard_normal((SIZE, 256)).astype(np.float32)
    made[1::2] = made[::2]
    return made


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def bank(store, vectors):
    return stored(store, vectors)


def stored(store, vectors):
    points = Points(lambda: VectorBlocks([vectors]), len(vectors), ("test",), "space", "normal")
    return make_bank(points, CoresetConfig(rate=1, method="random"), 0, store, silent)


@pytest.fixture(scope="module")
def sharded(store, bank):
    """It reserves one CPU of the cluster's two: beside it a test has room for another."""
    started = ShardedBank(store, bank.key, shards=3, replicas=2, in_flight=IN_FLIGHT)
    yield started
    started.close()


@pytest.fixture
def queries(monkeypatch):
    """More batches than may be under way at a time, the last one not full."""
    monkeypatch.setattr(sharding, "_BATCH", BATCH)
    return np.random.default_rng(1).standard_normal((8 * BATCH + 7, 256)).astype(np.float32)


def require_equal(found, wanted):
    for name in ("distances", "squares", "indices"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))


@pytest.mark.parametrize("k", [1, 2, 9])
def test_a_sharded_bank_answers_as_the_whole_one(bank, sharded, queries, k):
    require_equal(sharded.search(queries, k, space="space"), search(queries, bank.vectors, k))


def test_nested_sizes_are_answered_in_one_pass(bank, sharded, queries):
    sizes = (1, 7, 2100, SIZE)
    for bad, k in (((7, 1), 1), ((0, 7), 1), ((1, 10**6), 1), (sizes, 2)):
        with pytest.raises(DataError, match="nested sizes"):
            sharded.search(queries, k, sizes=bad)
    require_equal(sharded.search(queries, 1, sizes=sizes), search(queries, bank.vectors, 1, sizes=sizes))


class Counted(VectorBlocks):
    """Queries that count the batches read from them."""

    read = 0

    def take(self, indices):
        self.read += 1
        return super().take(indices)


def test_no_more_batches_are_under_way_than_allowed(sharded, queries):
    counted, under_way, answered = Counted([queries]), [], []

    def advance(count):
        under_way.append(counted.read - len(answered))
        answered.append(count)

    found = sharded.search(counted, 1, advance=advance)
    assert counted.read == len(answered) == 9
    assert max(under_way) == IN_FLIGHT * len(sharded.actors) == 6
    assert sum(answered) == found.indices.shape[1] == len(queries)


def test_a_shard_killed_while_a_query_is_in_flight_is_asked_again(bank, sharded):
    many, busy = np.random.default_rng(2).standard_normal((24_000, 256)).astype(np.float32), []

    def kill_once(_):
        if not busy:
            shard = sharded.actors[0][1]
            done, waiting = ray.wait([shard.__ray_ready__.remote()], timeout=0.01)
            busy.append(bool(waiting) and not done)  # a shard answers in turn: its queries come before this call
            ray.kill(shard, no_restart=False)

    found = sharded.search(many, 1, advance=kill_once)
    assert busy == [True]
    require_equal(found, search(many, bank.vectors, 1))


def test_queries_leave_out_their_own_group(store, vectors, queries):
    bank, groups = stored(store, vectors[:60]), np.arange(60) % 3
    groups[30:] = 2  # all of the second shard
    sharded = ShardedBank(store, bank.key, shards=2, groups=groups)
    some, all_two = np.arange(len(queries)) % 4, np.full(len(queries), 2)
    for own, k, sizes in ((some, 1, None), (some, 1, (3, 20, 60)), (all_two, 20, None)):
        wanted = search(queries, bank.vectors, k, sizes=sizes, exclude=(own, groups))
        require_equal(sharded.search(queries, k, sizes=sizes, groups=own), wanted)
    with pytest.raises(DataError, match="fewer than 21 bank vectors outside of its own group"):
        sharded.search(queries, 21, groups=all_two)
    with pytest.raises(DataError, match="of the queries and of the bank vectors, or of neither"):
        sharded.search(queries, 1)
    sharded.close()


def test_bad_requests_to_a_sharded_bank(store, bank, sharded, queries):
    for wrong in ({"shards": 0}, {"replicas": 0}, {"in_flight": 0}, {"shards": -1}):
        with pytest.raises(ConfigError, match=f"{next(iter(wrong))} of at least 1"):
            ShardedBank(store, bank.key, **wrong)
    with pytest.raises(DataError, match="cannot be cut"):
        ShardedBank(store, bank.key, shards=SIZE + 1)
    with pytest.raises(DataError, match="no bank"):
        ShardedBank(store, f"bank-{0:040d}", shards=1)
    with pytest.raises(DataError, match="dimensions"):
        sharded.search(queries[:, :5], 1)
    with pytest.raises(DataError, match="neighbours asked"):
        sharded.search(queries, 10**6)
    with pytest.raises(DataError, match="empty"):
        sharded.search(queries[:0], 1)
    with pytest.raises(DataError, match=r"\A[^\n]*NaN[^\n]*\Z"):
        sharded.search(queries * np.nan, 1)
    with pytest.raises(DataError, match=f"{bank.space}.*other features, elsewhere"):
        sharded.search(queries, 1, space="elsewhere")


def test_a_shard_that_cannot_be_built_again_or_is_closed_is_one_line(tmp_path):
    store, vectors = Store(tmp_path), np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32)
    bank = stored(store, vectors)
    sharded = ShardedBank(store, bank.key, shards=1)
    sharded.search(vectors, 1)
    file = store.folder(bank.key) / "bank.arrow"
    damaged = file.read_bytes()[:-50]
    file.unlink()
    file.write_bytes(damaged)
    ray.kill(sharded.actors[0][0], no_restart=False)

    def search_until_it_is_gone():
        for _ in range(100):  # the shard may answer once more before it is
            sharded.search(vectors, 1)
            time.sleep(0.1)

    with pytest.raises(DataError, match=rf"\A[^\n]*no bank {bank.key}[^\n]*\Z"):
        search_until_it_is_gone()
    sharded.close()
    with pytest.raises(UserError, match=r"\A[^\n]*cannot answer: ActorDied[^\n]*\Z"):
        sharded.search(vectors, 1)
