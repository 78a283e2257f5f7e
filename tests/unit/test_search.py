import numpy as np
import pytest
import torch

from exdd_ray.banks.indexes import IndexParams, build_index, recall
from exdd_ray.banks.scan import PreparedBank
from exdd_ray.banks.search import merge_neighbours, prepare_bank, search, search_prepared
from exdd_ray.banks.tiles import one_thread_each
from exdd_ray.banks.vectors import VectorBlocks
from exdd_ray.config.detector import FeaturesConfig
from exdd_ray.data.catalog import select_rows
from exdd_ray.data.datasets import load_dataset
from exdd_ray.errors import DataError
from exdd_ray.features.embed import embed
from exdd_ray.store.artifact import Store


def plain(queries, bank, k, forbidden=None):
    """Every distance in double precision, sorted, ties by index."""
    squares = ((queries[:, None].astype(np.float64) - bank[None]) ** 2).sum(axis=2)
    if forbidden is not None:
        squares[forbidden] = np.inf
    order = np.lexsort((np.broadcast_to(np.arange(len(bank)), squares.shape), squares), axis=1)[:, :k]
    return np.sqrt(np.take_along_axis(squares, order, 1)), order


def integers(rng, rows, dim, offset=0.0):
    """Few distinct values: many exact ties and duplicates, and sums that have no rounding."""
    return (rng.integers(0, 3, (rows, dim)) + offset).astype(np.float32)


@pytest.mark.parametrize("seed", range(12))
def test_random_shapes_against_every_distance(seed):
    rng = np.random.default_rng(seed)
    count, size, dim = int(rng.integers(1, 700)), int(rng.integers(1, 400)), int(rng.integers(1, 40))
    k = int(rng.integers(1, min(size, 12) + 1))
    make = integers if seed % 2 else lambda r, n, d: r.standard_normal((n, d)).astype(np.float32)
    queries, bank = make(rng, count, dim), make(rng, size, dim)
    bank[: size // 3] = queries[rng.integers(0, count, size // 3)]
    distances, indices = plain(queries, bank, k)
    found = search(queries, bank, k)
    np.testing.assert_array_equal(found.indices[0], indices)
    np.testing.assert_allclose(found.distances[0], distances, rtol=1e-6)


@pytest.mark.parametrize("k", [1, 4])
def test_far_from_the_origin_nothing_cancels(k):
    rng = np.random.default_rng(0)
    queries, bank = integers(rng, 300, 16, offset=4000), integers(rng, 200, 16, offset=4000)
    bank[7] = queries[3]
    distances, indices = plain(queries, bank, k)
    found = search(queries, bank, k)
    np.testing.assert_array_equal(found.indices[0], indices)
    np.testing.assert_array_equal(found.distances[0], distances.astype(np.float32))
    assert found.distances[0][3, 0] == 0


def test_a_query_in_the_bank_has_distance_zero():
    bank = np.random.default_rng(1).standard_normal((500, 64)).astype(np.float32)
    found = search(bank, bank, 1)
    assert not found.distances.any()
    np.testing.assert_array_equal(found.indices[0, :, 0], np.arange(500))


def test_all_neighbours_of_a_bank_of_duplicates_come_by_index():
    bank = np.ones((130, 5), dtype=np.float32)
    found = search(np.zeros((3, 5), dtype=np.float32), bank, 130)
    np.testing.assert_array_equal(found.indices[0, 2], np.arange(130))


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


@pytest.mark.parametrize("k", [1, 5])
def test_excluded_groups_are_never_found(k):
    rng = np.random.default_rng(3)
    queries, bank = integers(rng, 200, 5), integers(rng, 150, 5)
    mine, theirs = rng.integers(0, 4, 200), rng.integers(0, 4, 150)
    _, indices = plain(queries, bank, k, forbidden=mine[:, None] == theirs[None])
    np.testing.assert_array_equal(search(queries, bank, k, exclude=(mine, theirs)).indices[0], indices)


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"queries": np.zeros((4, 3), dtype=np.float32)}, "3 dimensions, the bank has 5"),
        ({"queries": np.full((4, 5), np.nan, dtype=np.float32)}, "queries: 4 vectors hold NaN"),
        ({"bank": np.full((6, 5), np.inf, dtype=np.float32)}, "the bank: 6 vectors hold NaN"),
        ({"bank": np.zeros((0, 5), dtype=np.float32)}, "empty"),
        ({"k": 7}, "7 neighbours asked of a bank of 6"),
        ({"k": 0}, "0 neighbours"),
        ({"sizes": (3, 3)}, "not ascending"),
        ({"sizes": (3, 9)}, "not ascending within 1 to 6"),
        ({"exclude": (np.zeros(4, dtype=int), np.zeros(6, dtype=int))}, "outside of its own group"),
    ],
)
def test_bad_requests(arguments, message):
    usual = {"queries": np.zeros((4, 5), dtype=np.float32), "bank": np.zeros((6, 5), dtype=np.float32), "k": 1}
    with pytest.raises(DataError, match=message):
        search(**{**usual, **arguments})


@pytest.mark.parametrize("k", [1, 6])
@pytest.mark.parametrize("make", [integers, lambda rng, n, d: rng.standard_normal((n, d)).astype(np.float32)])
def test_products_in_half_precision_find_the_same(make, k):
    rng = np.random.default_rng(7)
    queries, bank = make(rng, 700, 50), make(rng, 900, 50)
    groups = rng.integers(0, 3, 700), rng.integers(0, 3, 900)
    request = {"sizes": (100, 900), "exclude": groups}
    whole, half = search(queries, bank, k, **request), search(queries, bank, k, precision="bfloat16", **request)
    np.testing.assert_array_equal(half.indices, whole.indices)
    np.testing.assert_array_equal(half.squares, whole.squares)


def test_bfloat16_rounds_away_less_than_its_margin():
    """Components half a unit of bfloat16 off, so that its products order the two nearest wrongly."""
    step, beyond = 1 + 2**-8, 1 + 2**-8 + 2**-18

    def vector(x, y, tail, last):
        return np.concatenate([np.full(167, x), np.full(170, y), np.full(16, tail), [last, 0]]).astype(np.float32)

    query = vector(2 * step, 2 * beyond, 1, 1)
    near, far = vector(2 * step, step, 1, 0.75), vector(beyond, 2 * beyond, 1, 0.75)
    apart = [((other.astype(float) - query) ** 2).sum() for other in (near, far)]
    far[-1] = (apart[0] - apart[1] + 0.05) ** 0.5
    found = search(query[None], np.stack([far, near, -near, -far]), 1, precision="bfloat16")
    assert found.indices.item() == 1


def test_a_tight_cluster_far_from_an_outlier():
    rng = np.random.default_rng(8)
    bank = (rng.standard_normal((400, 20)) * 1e-4).astype(np.float32)
    bank[17] = 1000
    queries = (rng.standard_normal((50, 20)) * 1e-4).astype(np.float32)
    distances, indices = plain(queries, bank, 3)
    found = search(queries, bank, 3)
    np.testing.assert_array_equal(found.indices[0], indices)
    np.testing.assert_allclose(found.distances[0], distances, rtol=1e-6)


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


@pytest.mark.shared
def test_real_features(shared_dir, tmp_path):
    catalog = select_rows(load_dataset("magnetic_tile", shared_dir / "data" / "magnetic-tile"), label=0).slice(0, 4)
    weights = shared_dir / "weights" / "resnet18_in1k_conv1-layer3.safetensors"
    embedding = embed(catalog, FeaturesConfig(backbone="resnet18", weights=weights), Store(tmp_path))
    bank = np.concatenate([embedding.image(0), embedding.image(1)])
    queries = embedding.vectors(np.array([1, 3]))
    distances, indices = plain_in_blocks(queries.take(np.arange(len(queries))), bank, 2)
    for precision in ("float32", "bfloat16"):
        found = search(queries, bank, 2, precision=precision)
        np.testing.assert_array_equal(found.indices[0], indices)
        np.testing.assert_allclose(found.distances[0], distances, rtol=1e-6)
    assert (distances[:784, 0] == 0).all()


def plain_in_blocks(queries, bank, k):
    found = [plain(queries[i : i + 16], bank, k) for i in range(0, len(queries), 16)]
    return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))


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


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_one_long_vector_makes_the_others_no_less_certain(precision, monkeypatch):
    rng = np.random.default_rng(14)
    bank, queries = (rng.standard_normal((n, 64)).astype(np.float32) for n in (4096, 64))
    bank[7] *= 1e4
    looked_at = []
    exact = PreparedBank._exact

    def counted(self, tile, found, k):
        looked_at.append(len(found.rows))
        return exact(self, tile, found, k)

    monkeypatch.setattr(PreparedBank, "_exact", counted)
    _, indices = plain(queries, bank, 1)
    found = search(queries, bank, 1, precision=precision)
    np.testing.assert_array_equal(found.indices[0], indices)
    assert sum(looked_at) < (4 if precision == "float32" else 60) * len(queries) + 64 * len(queries)


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sizes": ()}, "bank sizes"),
        ({"precision": "float16"}, "no precision 'float16'"),
        ({"exclude": (np.zeros(1, dtype=int), np.zeros(50, dtype=int))}, "groups of 5 queries"),
        ({"exclude": (np.zeros(5), np.zeros(50, dtype=int))}, "groups of 5 queries"),
        ({"exclude": (np.zeros(5, dtype=int), np.zeros(3, dtype=int))}, "groups of 50 bank vectors"),
    ],
)
def test_arguments_that_do_not_fit(change, message):
    bank = np.random.default_rng(16).standard_normal((50, 4)).astype(np.float32)
    with pytest.raises(DataError, match=message):
        search(bank[:5], bank, 1, **change)


def test_searches_that_overlap_restore_the_threads():
    before = torch.get_num_threads()
    first, second = one_thread_each(), one_thread_each()
    assert first.__enter__() == before
    assert second.__enter__() == before
    first.__exit__(None, None, None)
    assert torch.get_num_threads() == 1
    second.__exit__(None, None, None)
    assert torch.get_num_threads() == before
