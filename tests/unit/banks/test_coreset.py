import itertools
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from exdd_ray.banks import coreset, shard, vectors
from exdd_ray.banks.coreset import advance_all, greedy_order, run_rounds
from exdd_ray.banks.exact import rounding_bound, squared_distances
from exdd_ray.banks.options import merge_reduce_order
from exdd_ray.banks.shard import CoresetShard
from exdd_ray.banks.vectors import VectorBlocks
from exdd_ray.data.catalog import select_rows
from exdd_ray.data.datasets import load_dataset
from exdd_ray.errors import DataError
from exdd_ray.features.config import FeaturesConfig
from exdd_ray.features.embed import embed
from exdd_ray.store.artifact import Store


def plain(points, picks, first):
    """One pick at a time, every distance in double precision, ties to the lowest row."""
    points = points.astype(np.float64)
    left = ((points - points[first]) ** 2).sum(1)
    order, radii = [first], [np.inf]
    left[first] = -1
    while len(order) < picks:
        order.append(int(left.argmax()))
        radii.append(np.sqrt(left[order[-1]]))
        left = np.minimum(left, ((points - points[order[-1]]) ** 2).sum(1))
        left[order] = -1
    return np.array(order), np.array(radii)


def normal(rng, n, d):
    return rng.standard_normal((n, d))


def offset(rng, n, d):
    return rng.standard_normal((n, d)) * 0.01 + rng.standard_normal(d) * 1000


def duplicates(rng, n, d):
    return rng.standard_normal((n // 5 + 1, d))[rng.integers(0, n // 5 + 1, n)]


def equal(rng, n, d):
    return np.tile(rng.standard_normal(d), (n, 1))


def lattice(rng, n, d):
    return rng.integers(0, 3, (n, d))


def cluster(rng, n, d):
    far = rng.standard_normal((n // 10 + 1, d)) * 10 + 50
    return np.concatenate([rng.standard_normal((n - len(far), d)) * 1e-3, far])


def tiny(rng, n, d):
    return rng.standard_normal((n, d)) * 1e-24


def outlier(rng, n, d):
    points = rng.standard_normal((n, d))
    points[n // 2] *= 1e6
    return points


def rectified(rng, n, d):
    return np.maximum(rng.standard_normal((n, d)), 0)


SHAPES = [(1, 3), (17, 5), (100, 33), (300, 2), (300, 64)]
KINDS = [normal, offset, duplicates, equal, lattice, cluster, tiny, outlier, rectified]


@pytest.fixture
def small_tiles(monkeypatch):
    """Sizes at which a few hundred points already take many rounds, blocks and inner frontiers."""
    monkeypatch.setattr(shard, "_CPU_TILE", (64, 16))
    monkeypatch.setattr(coreset, "_INNER", 12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_picks_are_those_of_the_plain_loop(kind, shape, small_tiles):
    rng = np.random.default_rng(shape[0])
    points = kind(rng, *shape).astype(np.float32)[: shape[0]]
    picks, first = len(points) // 3 + 1, int(rng.integers(len(points)))
    order, radii = plain(points, picks, first)
    found = greedy_order(points, picks, first=first, frontier=50)
    np.testing.assert_array_equal(found.indices, order)
    np.testing.assert_allclose(found.radii, radii.astype(np.float32), rtol=1e-6)


@pytest.mark.parametrize("kind", [normal, duplicates, equal, lattice])
def test_every_point_is_picked_once_and_more_cannot_be(kind, small_tiles):
    points = kind(np.random.default_rng(0), 120, 4).astype(np.float32)
    found = greedy_order(points, 1000, first=7, frontier=20)
    np.testing.assert_array_equal(found.indices, plain(points, len(points), 7)[0])
    assert sorted(found.indices.tolist()) == list(range(len(points)))


@pytest.mark.parametrize("frontier", [1, 3, 64, 10_000])
@pytest.mark.parametrize("inner", [1, 7, 256])
def test_batches_change_nothing(frontier, inner, monkeypatch):
    monkeypatch.setattr(coreset, "_INNER", inner)
    points = normal(np.random.default_rng(1), 150, 6).astype(np.float32)
    np.testing.assert_array_equal(greedy_order(points, 60, first=0, frontier=frontier).indices, plain(points, 60, 0)[0])


def sharded(points, shards, picks, first, frontier=40, lose=None):
    """The order over shards of unequal size; `lose` is a shard that is built again after every round."""
    bounds = [
        0,
        *sorted(np.random.default_rng(shards).choice(np.arange(1, len(points)), shards - 1, False)),
        len(points),
    ]
    ranges = list(itertools.pairwise(bounds))

    def build(s):
        return CoresetShard(VectorBlocks([points[slice(*ranges[s])]]), offset=int(ranges[s][0]))

    parts = [build(s) for s in range(shards)]
    made = [np.empty(0, dtype=np.int64)]

    def advance(ids, vectors, *request):
        found = advance_all(parts)(ids, vectors, *request)
        made.append(ids)
        if lose is not None:
            parts[lose] = build(lose)
            everything = np.concatenate(made)
            parts[lose].update(everything, points[everything])
        return found

    return run_rounds(advance, first, points[first : first + 1], picks, frontier=frontier)


@pytest.mark.parametrize("kind", [normal, duplicates, lattice, cluster])
@pytest.mark.parametrize("shards", [1, 2, 5])
def test_any_number_of_shards_gives_the_same_order(kind, shards, small_tiles):
    points = kind(np.random.default_rng(2), 300, 5).astype(np.float32)
    np.testing.assert_array_equal(sharded(points, shards, 120, 11).indices, plain(points, 120, 11)[0])


def test_a_shard_that_was_lost_is_replayed(small_tiles):
    points = normal(np.random.default_rng(3), 300, 5).astype(np.float32)
    found = sharded(points, 3, 120, 0, lose=1)
    assert found.rounds > 3
    np.testing.assert_array_equal(found.indices, plain(points, 120, 0)[0])


def test_order_is_nested_and_radii_are_covering_radii():
    points = normal(np.random.default_rng(4), 300, 8).astype(np.float32)
    long, short = greedy_order(points, 100, first=5), greedy_order(points, 20, first=5)
    np.testing.assert_array_equal(long.indices[:20], short.indices)
    for i in (1, 10, 99):
        apart = np.linalg.norm(points[:, None].astype(float) - points[long.indices[:i]], axis=2).min(1)
        assert long.radii[i] == np.float32(apart.max())


def test_half_precision_points_in_segments_are_read_as_they_are(small_tiles):
    points = normal(np.random.default_rng(5), 400, 9).astype(np.float16)
    cut = VectorBlocks([points[:13], points[13:14], points[14:300], points[300:]])
    np.testing.assert_array_equal(greedy_order(cut, 90, first=3).indices, plain(points, 90, 3)[0])


def test_threads_change_nothing():
    points = normal(np.random.default_rng(6), 5000, 16).astype(np.float32)
    threads = torch.get_num_threads()
    orders = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        orders.append(greedy_order(points, 200, first=0, frontier=300))
        assert torch.get_num_threads() == count
    torch.set_num_threads(threads)
    for order in orders[1:]:
        np.testing.assert_array_equal(order.indices, orders[0].indices)
        np.testing.assert_array_equal(order.radii, orders[0].radii)


@pytest.mark.shared
def test_real_features_in_the_store(shared_dir, tmp_path):
    catalog = select_rows(load_dataset("magnetic_tile", shared_dir / "data" / "magnetic-tile"), label=0).slice(0, 8)
    weights = shared_dir / "weights" / "resnet18_in1k_conv1-layer3.safetensors"
    embedding = embed(catalog, FeaturesConfig(backbone="resnet18", weights=weights), Store(tmp_path))
    blocks = embedding.vectors(np.array([0, 1, 2, 4, 5, 7]))
    points = blocks.take(np.arange(len(blocks)))
    order, radii = plain(points, 200, 17)
    found = greedy_order(blocks, 200, first=17, frontier=300)
    np.testing.assert_array_equal(found.indices, order)
    np.testing.assert_allclose(found.radii, radii, rtol=1e-6)
    np.testing.assert_array_equal(sharded(points, 5, 200, 17, frontier=300).indices, order)


def test_a_memory_mapped_file_is_neither_copied_nor_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(vectors, "_KEEP", 0)
    points = normal(np.random.default_rng(7), 20_000, 64).astype(np.float32)
    np.save(tmp_path / "points.npy", points)
    with pa.OSFile(str(tmp_path / "points.arrow"), "wb") as file:
        file.write(points.tobytes())
    mapped = np.load(tmp_path / "points.npy", mmap_mode="r")
    buffer = pa.memory_map(str(tmp_path / "points.arrow")).read_buffer()
    arrow = np.frombuffer(buffer, dtype=np.float32).reshape(points.shape)
    for view in (mapped, arrow, arrow[:, 16:48]):
        chosen, blocks = points[:, 16:48] if view.shape[1] == 32 else points, VectorBlocks([view])
        wanted = greedy_order(np.ascontiguousarray(chosen), 50, first=0)
        np.testing.assert_array_equal(greedy_order(blocks, 50, first=0).indices, wanted.indices)
        np.testing.assert_array_equal(blocks.take(np.arange(0, len(points), 999)), chosen[::999])
    assert resident_bytes("points.npy") + resident_bytes("points.arrow") < points.nbytes / 10


def resident_bytes(name):
    """Bytes of a mapped file that this process holds."""
    if not sys.platform.startswith("linux"):
        pytest.skip("needs /proc")
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    sizes = [next(line for line in lines if line.startswith("Rss")) for header in lines if header.endswith(name)]
    assert sizes
    return sum(int(line.split()[1]) * 1024 for line in sizes)


def test_selection_of_rows_shares_memory():
    points = np.arange(60, dtype=np.float32).reshape(20, 3)
    blocks = VectorBlocks([points[:8], points[8:]])
    chosen = blocks.select([(1, 4), (4, 6), (7, 10), (19, 20)])
    rows = [1, 2, 3, 4, 5, 7, 8, 9, 19]
    np.testing.assert_array_equal(chosen.take(np.arange(9)), points[rows])
    np.testing.assert_array_equal(chosen.take(np.array([8, 0, 5])), points[[19, 1, 7]])
    assert all(np.shares_memory(segment, points) for segment in chosen.segments)
    assert [start for start, _ in chosen.blocks(2)] == [0, 2, 4, 5, 6, 8]
    with pytest.raises(DataError, match="rows 18 to 21 do not exist"):
        blocks.select([(18, 21)])


def test_exact_distance_is_of_the_pair_alone():
    rng = np.random.default_rng(8)
    a, b = (torch.from_numpy(rng.standard_normal((50, 77)).astype(np.float32)) for _ in range(2))
    together = squared_distances(a, b)
    alone = torch.cat([squared_distances(b[i : i + 1], a[i : i + 1]) for i in range(50)])
    assert torch.equal(together, alone)
    np.testing.assert_allclose(together.numpy(), ((a.double() - b.double()) ** 2).sum(1).numpy(), rtol=1e-14)


@pytest.mark.parametrize("scale", [1e-25, 1e-3, 1.0, 1e12])
def test_rounding_stays_within_its_bound(scale):
    rng = np.random.default_rng(9)
    points = torch.from_numpy((rng.standard_normal((300, 700)) * scale + 3 * scale).astype(np.float32))
    squares = (points * points).sum(1)
    computed = torch.addmm(squares, points, points.T, alpha=-2) + squares[:, None]
    wide = points.double()
    true = torch.cdist(wide, wide, compute_mode="donot_use_mm_for_euclid_dist").square()
    norms = wide.square().sum(1).sqrt().float()
    assert ((computed - true).abs() <= rounding_bound(norms[:, None], norms[None], 700)).all()


def test_merge_reduce_covers_within_its_factor():
    points = cluster(np.random.default_rng(10), 900, 6).astype(np.float32)
    exact = greedy_order(points, 31, first=0)
    found = merge_reduce_order(VectorBlocks([points]), 30, chunk=200, first=0)
    assert len(set(found.indices.tolist())) == 30
    apart = np.linalg.norm(points[:, None].astype(float) - points[found.indices], axis=2).min(1)
    # exact.radii[30] is at most twice the best possible radius, and at least that radius.
    assert apart.max() <= 4 * exact.radii[30]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": np.full((4, 3), np.nan, dtype=np.float32)}, "4 of 4 vectors hold NaN"),
        ({"points": np.array([[1, 2], [np.inf, 0]], dtype=np.float32)}, "1 of 2 vectors hold NaN, infinite"),
        ({"points": np.zeros((0, 3), dtype=np.float32)}, "empty"),
        ({"points": np.zeros((3, 0), dtype=np.float32)}, "no components"),
        ({"points": np.zeros((3, 2))}, "float16 or float32, got float64"),
        ({"points": np.zeros(3, dtype=np.float32)}, "must be a matrix"),
        ({"first": 10}, "first pick 10 is not one of 10"),
        ({"picks": 0}, "at least one pick"),
    ],
)
def test_bad_requests(change, message):
    usual = {"points": np.zeros((10, 3), dtype=np.float32), "picks": 2, "first": 0}
    with pytest.raises(DataError, match=message):
        greedy_order(**{**usual, **change})


def test_segments_must_fit_together():
    with pytest.raises(DataError, match="3 x float16 cannot follow vectors of 3 x float32"):
        VectorBlocks([np.zeros((2, 3), dtype=np.float32), np.zeros((2, 3), dtype=np.float16)])


@pytest.mark.gpu
@pytest.mark.parametrize("kind", [normal, lattice, offset])
def test_a_gpu_gives_the_same_order(kind):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    points = kind(np.random.default_rng(11), 3000, 32).astype(np.float32)
    found, wanted = (greedy_order(points, 300, first=2, device=device) for device in ("cuda", "cpu"))
    np.testing.assert_array_equal(found.indices, wanted.indices)
    np.testing.assert_array_equal(found.radii, wanted.radii)
