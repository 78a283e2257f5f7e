"""The exact and the approximate indexes of a bank."""

import numpy as np
import pytest
from search_inputs import plain

from exdd_ray.banks.indexes import IndexParams, build_index, recall
from exdd_ray.errors import DataError


@pytest.mark.parametrize("kind", ["exact", "flat", "hnsw", "ivf"])
def test_indexes_answer_alike(kind):
    rng = np.random.default_rng(11)
    bank, queries = (rng.standard_normal((n, 12)).astype(np.float32) for n in (600, 80))
    distances, indices = plain(queries, bank, 5)
    effort = IndexParams(search_effort=600, cells=10, probes=10)
    found, where = build_index(kind, bank, effort).search(queries, 5)
    assert (found.dtype, where.dtype, found.shape) == (np.float32, np.int64, (80, 5))
    np.testing.assert_array_equal(where, indices)
    np.testing.assert_allclose(found, distances, rtol=1e-4)


def test_recall_counts_neighbours_in_any_order():
    true = np.array([[1, 2], [3, 4]])
    assert recall(np.array([[2, 1], [3, 9]]), true) == 0.75
    rng = np.random.default_rng(12)
    bank, queries = (rng.standard_normal((n, 32)).astype(np.float32) for n in (2000, 200))
    exact = build_index("exact", bank).search(queries, 3)[1]
    few, many = (
        recall(build_index("ivf", bank, IndexParams(cells=40, probes=probes)).search(queries, 3)[1], exact)
        for probes in (1, 40)
    )
    assert few < 0.9
    assert many == 1


@pytest.mark.parametrize("kind", ["exact", "flat", "hnsw", "ivf"])
def test_bad_requests_to_an_index(kind):
    bank = np.random.default_rng(13).standard_normal((50, 4)).astype(np.float32)
    index = build_index(kind, bank)
    with pytest.raises(DataError, match="dimensions"):
        index.search(np.zeros((2, 3), dtype=np.float32), 1)
    with pytest.raises(DataError, match="51 neighbours asked of a bank of 50"):
        index.search(np.zeros((2, 4), dtype=np.float32), 51)
    with pytest.raises(DataError, match="queries: 2 vectors hold NaN"):
        index.search(np.full((2, 4), np.nan, dtype=np.float32), 1)
    with pytest.raises(DataError, match="empty"):
        build_index(kind, bank[:0])
    with pytest.raises(DataError, match="the bank: 50 vectors hold NaN"):
        build_index(kind, bank * np.inf)
    with pytest.raises(DataError, match="51 cells asked of a bank of 50"):
        build_index("ivf", bank, IndexParams(cells=51))
