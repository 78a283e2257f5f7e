"""Random projection: as ExDD's authors draw it, and the same bits on every processor."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from exdd_ray.banks.projection import project, projection_matrix
from exdd_ray.banks.vectors import VectorBlocks


@pytest.fixture(scope="module")
def vectors():
    """Like patches: positive, with a few large components."""
    return np.random.default_rng(0).gamma(0.5, 1.0, (3000, 384)).astype(np.float32)


@pytest.mark.parametrize(("dim", "projected"), [(1536, 128), (384, 128), (13, 3), (100, 33), (5, 7)])
def test_the_matrix_is_what_torch_draws_after_its_seed(dim, projected):
    torch.manual_seed(3)
    drawn = torch.randn(dim, projected).double().numpy()
    wanted = drawn / np.linalg.norm(drawn, axis=0)
    found = projection_matrix(dim, projected, 3)
    np.testing.assert_allclose(found, wanted, atol=2e-6)
    np.testing.assert_allclose((found**2).sum(axis=0), 1, rtol=1e-6)


@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_the_projection_is_the_product(vectors, kind):
    stored, matrix = vectors.astype(kind), projection_matrix(384, 128, 0)
    found = project(VectorBlocks([stored]), matrix).take(np.arange(3000))
    wanted = stored.astype(np.longdouble) @ matrix.astype(np.longdouble)
    np.testing.assert_allclose(found, wanted.astype(np.float64), atol=2e-6 * float(np.abs(wanted).max()))


def test_a_rows_projection_is_a_function_of_the_row_alone(vectors):
    matrix = projection_matrix(384, 64, 0)
    whole = project(VectorBlocks([vectors]), matrix).take(np.arange(3000))
    cut = project(VectorBlocks([vectors[:7], vectors[7:8], vectors[8:2500], vectors[2500:]]), matrix)
    np.testing.assert_array_equal(cut.take(np.arange(3000)), whole)
    scaled = project(VectorBlocks([vectors[:9] * np.float32(2**-20)]), matrix).take(np.arange(9))
    np.testing.assert_array_equal(scaled * 2**20, whole[:9])


def test_rows_of_zeros_and_of_huge_values(vectors):
    rows = np.concatenate([vectors[:1] * 0, vectors[:1] * np.float32(1e15), -vectors[:1]])
    zero, huge, turned = project(VectorBlocks([rows]), projection_matrix(384, 64, 0)).take(np.arange(3))
    plain = project(VectorBlocks([vectors[:1]]), projection_matrix(384, 64, 0)).take(np.arange(1))[0]
    assert not zero.any()
    np.testing.assert_allclose(huge / 1e15, plain, rtol=1e-4, atol=1e-6 * np.abs(plain).max())
    np.testing.assert_array_equal(turned, -plain)


_ON_ANY_PROCESSOR = """
import hashlib
import numpy as np
from exdd_ray.banks.coreset import greedy_order
from exdd_ray.banks.options import merge_reduce_order
from exdd_ray.banks.projection import project, projection_matrix
from exdd_ray.banks.search import search
from exdd_ray.banks.vectors import VectorBlocks

vectors = np.random.default_rng(0).gamma(0.5, 1.0, (3000, 384)).astype(np.float32)
vectors[1000:1100] = vectors[:100]  # ties
matrix = projection_matrix(384, 128, 0)
points = project(VectorBlocks([vectors]), matrix)
order = greedy_order(points, 300, first=5)
merged = merge_reduce_order(points, 100, first=5, chunk=700)
found = search(vectors[1500:2500], vectors[order.indices], 3)
groups = np.arange(3000) // 50
held = search(vectors[:500], vectors[order.indices], 1, exclude=(groups[:500], groups[order.indices]))
for values in (matrix, points.take(np.arange(3000)), order.indices, order.radii, merged.indices, merged.radii,
               found.indices, found.distances, held.indices, held.distances):
    print(hashlib.blake2b(np.ascontiguousarray(values).tobytes()).hexdigest())
"""


def test_picks_and_neighbours_of_vectors_are_the_same_on_other_processors():
    kinds = [
        {},
        {"OPENBLAS_CORETYPE": "Haswell", "ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
        {"OPENBLAS_CORETYPE": "Nehalem", "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX2 FMA3"},
        {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "ATEN_CPU_CAPABILITY": "avx2", "OMP_NUM_THREADS": "1"},
    ]
    found = [
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _ON_ANY_PROCESSOR],
            env={**os.environ, **kind},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for kind in kinds
    ]
    assert found[0].count("\n") == 10
    assert found[1:] == found[:1] * 3
