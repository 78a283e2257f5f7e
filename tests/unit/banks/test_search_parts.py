"""A search in parts: sizes, blocks, shards, threads and prepared banks change no answer."""

import numpy as np
import pytest
import torch
from search_inputs import integers, plain

from exdd_ray.banks.search import merge_neighbours, prepare_bank, search, search_prepared
from exdd_ray.banks.tiles import one_thread_each
from exdd_ray.banks.vectors import VectorBlocks


@pytest.mark.parametrize("k", [1, 3])
def test_nested_sizes_in_one_pass_equal_separate_searches(k):
    rng = np.random.default_rng(2)
    queries, bank = integers(rng, 600, 6), integers(rng, 333, 6)
    sizes = (5, 64, 65, 200, 333)
    found = search(queries, bank, k, sizes=sizes)
    for s, size in enumerate(sizes):
        alone = search(queries, bank[:size], k)
        np.testing.assert_array_equal(found.indices[s], alone.indices[0])
        np.testing.assert_array_equal(found.distances[s], alone.distances[0])


@pytest.mark.parametrize("memory_mib", [1, 2, 64])
def test_blocks_do_not_change_a_bit(memory_mib):
    rng = np.random.default_rng(4)
    queries, bank = (rng.standard_normal((n, 48)).astype(np.float32) for n in (1500, 2500))
    whole, blocked = search(queries, bank, 2), search(queries, bank, 2, memory_mib=memory_mib)
    np.testing.assert_array_equal(blocked.squares, whole.squares)
    np.testing.assert_array_equal(blocked.indices, whole.indices)
    pieces = [search(queries[i : i + 97], bank, 2).squares for i in range(0, 1500, 97)]
    np.testing.assert_array_equal(np.concatenate(pieces, axis=1), whole.squares)


def test_merged_shards_equal_the_whole_bank():
    rng = np.random.default_rng(5)
    queries, bank = integers(rng, 300, 7), integers(rng, 210, 7)
    whole = search(queries, bank, 4)
    parts = []
    for start in range(0, 210, 70):
        part = search(queries, bank[start : start + 70], 4)
        parts.append(type(part)(part.distances, part.squares, part.indices + start))
    merged = merge_neighbours(parts, 4)
    np.testing.assert_array_equal(merged.indices, whole.indices)
    np.testing.assert_array_equal(merged.distances, whole.distances)


def test_half_precision_queries_in_blocks():
    rng = np.random.default_rng(6)
    half = rng.standard_normal((40, 16)).astype(np.float16)
    bank = rng.standard_normal((30, 16)).astype(np.float32)
    found = search(VectorBlocks([half[:13], half[13:]]), bank, 1)
    np.testing.assert_array_equal(found.indices[0], plain(half.astype(np.float32), bank, 1)[1])


def test_threads_change_nothing():
    rng = np.random.default_rng(9)
    queries, bank = (rng.standard_normal((n, 24)).astype(np.float32) for n in (5000, 700))
    threads = torch.get_num_threads()
    found = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        found.append(search(queries, bank, 2))
        assert torch.get_num_threads() == count
    torch.set_num_threads(threads)
    for other in found[1:]:
        np.testing.assert_array_equal(other.squares, found[0].squares)
        np.testing.assert_array_equal(other.indices, found[0].indices)


def test_a_pair_has_the_same_distance_in_every_search():
    rng = np.random.default_rng(10)
    queries, bank = (rng.standard_normal((n, 384)).astype(np.float32) for n in (300, 200))
    far = search(queries, bank, 200)
    near = search(queries[::-7], bank, 1)
    np.testing.assert_array_equal(near.squares[0], far.squares[0, ::-7, :1])


def test_a_bank_of_equal_vectors_is_searched_in_bounded_memory(monkeypatch):
    monkeypatch.setattr("exdd_ray.banks.scan._MOST_GROUPS", 100)
    bank = np.ones((3000, 8), dtype=np.float32)
    bank[::2] += 1
    found = search(np.ones((40, 8), dtype=np.float32), bank, 3, memory_mib=1)
    np.testing.assert_array_equal(found.indices[0], np.tile([1, 3, 5], (40, 1)))
    assert not found.distances.any()


def test_a_prepared_bank_answers_like_a_search():
    rng = np.random.default_rng(15)
    bank, queries = (rng.standard_normal((n, 16)).astype(np.float32) for n in (500, 90))
    prepared = prepare_bank(bank, sizes=(100, 500))
    whole = search(queries, bank, 3, sizes=(100, 500))
    for start in (0, 30, 60):
        part = search_prepared(queries[start : start + 30], prepared, 3)
        np.testing.assert_array_equal(part.squares, whole.squares[:, start : start + 30])
        np.testing.assert_array_equal(part.indices, whole.indices[:, start : start + 30])


def test_searches_that_overlap_restore_the_threads():
    before = torch.get_num_threads()
    first, second = one_thread_each(), one_thread_each()
    assert first.__enter__() == before
    assert second.__enter__() == before
    first.__exit__(None, None, None)
    assert torch.get_num_threads() == 1
    second.__exit__(None, None, None)
    assert torch.get_num_threads() == before
