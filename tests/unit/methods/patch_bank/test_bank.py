import numpy as np
import pytest

from exdd_ray.banks.config import CoresetConfig
from exdd_ray.banks.edit_bank import add_to_bank, merge_banks, remove_batch
from exdd_ray.banks.memory_bank import Points, bank_size, make_bank, open_bank
from exdd_ray.banks.options import patchcore_released_order, random_order
from exdd_ray.banks.vectors import VectorBlocks
from exdd_ray.errors import DataError
from exdd_ray.progress import silent
from exdd_ray.store.artifact import Store


def points_of(vectors, batch="normal", space="features"):
    return Points(lambda: VectorBlocks([vectors]), len(vectors), (batch, "key"), space, batch)


@pytest.fixture
def vectors():
    return np.random.default_rng(0).standard_normal((200, 12)).astype(np.float32)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def test_size_is_the_rate_between_minimum_and_all():
    assert bank_size(560 * 2085, CoresetConfig(rate=0.01)) == 11_676
    assert bank_size(500, CoresetConfig(rate=0.01, minimum=1000)) == 500
    assert bank_size(50_000, CoresetConfig(rate=0.01, minimum=1000)) == 1000


@pytest.mark.parametrize("method", ["greedy", "approximate", "merge_reduce", "random"])
@pytest.mark.parametrize("projection", [None, 4])
def test_banks_hold_the_vectors_of_their_points(vectors, store, method, projection):
    config = CoresetConfig(rate=0.2, method=method, projection=projection)
    bank = make_bank(points_of(vectors), config, 3, store, silent)
    assert len(set(bank.points.tolist())) == 40
    np.testing.assert_array_equal(bank.vectors, vectors[bank.points])
    again = open_bank(Store(store.root), bank.key)
    np.testing.assert_array_equal(again.vectors, bank.vectors)
    other = make_bank(points_of(vectors), config, 4, store, silent)
    assert other.points.tolist() != bank.points.tolist()


def test_chunks_are_part_of_what_a_merge_reduce_bank_is(vectors, store):
    whole, cut = (
        make_bank(points_of(vectors), CoresetConfig(rate=0.2, method="merge_reduce", chunk=chunk), 0, store, silent)
        for chunk in (1000, 50)
    )
    greedy = make_bank(points_of(vectors), CoresetConfig(rate=0.2), 0, store, silent)
    np.testing.assert_array_equal(whole.points, greedy.points)
    assert cut.key != whole.key
    radius = np.linalg.norm(vectors[:, None] - cut.vectors, axis=2).min(axis=1).max()
    assert radius <= 4 * np.linalg.norm(vectors[:, None] - greedy.vectors, axis=2).min(axis=1).max()


def test_greedy_radii_are_the_covering_radii(vectors, store):
    bank = make_bank(points_of(vectors), CoresetConfig(rate=0.2), 0, store, silent)
    for i in (1, 7, 39):
        apart = np.linalg.norm(vectors[:, None] - bank.vectors[:i], axis=2).min(axis=1)
        assert bank.radii[i] == pytest.approx(apart.max(), rel=1e-6)


def test_released_approximation_step_by_step(vectors):
    starts = np.random.default_rng(5).choice(200, size=10, replace=False)
    nearest = np.mean([np.linalg.norm(vectors - vectors[s], axis=1) for s in starts], axis=0)
    wanted = []
    for _ in range(30):
        wanted.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, np.linalg.norm(vectors - vectors[wanted[-1]], axis=1))
    assert patchcore_released_order(VectorBlocks([vectors]), 30, seed=5).indices.tolist() == wanted


def test_random_order_is_nested():
    assert random_order(100, 50, seed=1).indices[:20].tolist() == random_order(100, 20, seed=1).indices.tolist()


def test_add_merge_and_remove_give_new_banks(vectors, store):
    first = make_bank(points_of(vectors[:100]), CoresetConfig(rate=0.1), 0, store, silent)
    second = make_bank(points_of(vectors[100:], "monday"), CoresetConfig(rate=0.1), 0, store, silent)
    grown = add_to_bank(first, vectors[:7], "features", "tuesday", store)
    merged = merge_banks(grown, second, store)
    assert (len(grown.vectors), merged.batches) == (17, ("normal", "tuesday", "monday"))
    other = make_bank(points_of(vectors[50:]), CoresetConfig(rate=0.1), 0, store, silent)
    both = merge_banks(first, other, store)
    assert both.batches == tuple(f"normal of {bank.key.rpartition('-')[2][:8]}" for bank in (first, other))
    np.testing.assert_array_equal(remove_batch(both, both.batches[0], store).vectors, other.vectors)
    np.testing.assert_array_equal(merged.vectors, np.concatenate([first.vectors, vectors[:7], second.vectors]))
    without = remove_batch(merged, "tuesday", store)
    assert without.batches == ("normal", "monday")
    np.testing.assert_array_equal(without.vectors, np.concatenate([first.vectors, second.vectors]))
    np.testing.assert_array_equal(without.batch, np.repeat([0, 1], 10))
    np.testing.assert_array_equal(open_bank(store, first.key).vectors, first.vectors)
    assert len({first.key, grown.key, merged.key, without.key}) == 4


def test_bad_edits(vectors, store):
    bank = make_bank(points_of(vectors), CoresetConfig(rate=0.1), 0, store, silent)
    other = make_bank(points_of(vectors, "b", "other features"), CoresetConfig(rate=0.1), 0, store, silent)
    with pytest.raises(DataError, match="other features"):
        merge_banks(bank, other, store)
    with pytest.raises(DataError, match="with itself"):
        merge_banks(bank, bank, store)
    with pytest.raises(DataError, match="other features"):
        add_to_bank(bank, vectors, "other features", "x", store)
    with pytest.raises(DataError, match="12 dimensions"):
        add_to_bank(bank, vectors[:, :5], "features", "x", store)
    with pytest.raises(DataError, match="NaN"):
        add_to_bank(bank, vectors * np.nan, "features", "x", store)
    with pytest.raises(DataError, match="already"):
        add_to_bank(bank, vectors, "features", "normal", store)
    with pytest.raises(DataError, match="no batch 'x'"):
        remove_batch(bank, "x", store)
    with pytest.raises(DataError, match="empty"):
        remove_batch(bank, "normal", store)


def test_a_vanished_bank_is_one_clear_error(store):
    with pytest.raises(DataError, match="no bank bank-0000"):
        open_bank(store, f"bank-{'0' * 40}")


@pytest.mark.parametrize("method", ["greedy", "approximate", "random"])
def test_vectors_that_are_no_numbers_make_no_bank(vectors, store, method):
    vectors[:] = np.nan
    with pytest.raises(DataError, match="hold NaN"):
        make_bank(points_of(vectors), CoresetConfig(rate=0.2, method=method), 3, store, silent)
