"""Nearest neighbours in a bank, against every distance in double precision."""

import numpy as np
import pytest
from search_inputs import integers, plain

from exdd_ray.banks.scan import PreparedBank
from exdd_ray.banks.search import search
from exdd_ray.data.catalog import select_rows
from exdd_ray.data.datasets import load_dataset
from exdd_ray.errors import DataError
from exdd_ray.features.config import FeaturesConfig
from exdd_ray.features.embed import embed
from exdd_ray.store.artifact import Store


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


@pytest.mark.parametrize("k", [1, 5])
def test_excluded_groups_are_never_found(k):
    rng = np.random.default_rng(3)
    queries, bank = integers(rng, 200, 5), integers(rng, 150, 5)
    mine, theirs = rng.integers(0, 4, 200), rng.integers(0, 4, 150)
    _, indices = plain(queries, bank, k, forbidden=mine[:, None] == theirs[None])
    np.testing.assert_array_equal(search(queries, bank, k, exclude=(mine, theirs)).indices[0], indices)


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
