"""Gaussian random projection (ExDD): the same matrix and the same products on every processor.

A matrix product rounds as its library adds up, which differs between processors, block shapes and threads. Here the
factors have so few bits that all products and sums are whole numbers within float64: no order of addition rounds
anything, and a row's projection is a function of that row alone.
"""

import numpy as np
import torch

from exdd_ray.banks.vectors import VectorBlocks

_BLOCK = 2048
_DRAWN_TOGETHER = 16
_ROW_BITS = 22  # what float32 keeps of a number beside one of twice the row's largest
_FLOAT64_BITS = 53


def projection_matrix(dim: int, projected: int, seed: int) -> np.ndarray:
    """Gaussian matrix float64 [dim x projected] with columns of unit length.

    Drawn as ExDD's released code does: the numbers of `torch.manual_seed(seed); torch.randn(dim, projected)`, without
    the rounding errors of their logarithms and cosines, which differ between processors (by 1e-6 and less).
    """
    matrix = _normal(dim * projected, seed).reshape(dim, projected)
    unit: np.ndarray = (matrix / np.sqrt((matrix * matrix).sum(axis=0))).astype(np.float32).astype(np.float64)
    return unit


def project(points: VectorBlocks, matrix: np.ndarray) -> VectorBlocks:
    """Projected points [N x D] -> float32 [N x dim], held in memory.

    Rows are rounded to 2^-23 of their largest component, the matrix to 2^-39 of its own (for D up to 1,023; one bit
    less in each of its two parts with every doubling).

    Args:
        matrix: of `projection_matrix`.
    """
    bits, width = _FLOAT64_BITS - _ROW_BITS - points.dim.bit_length(), matrix.shape[1]
    parts = np.concatenate(_split(matrix, bits), axis=1)
    projected = np.empty((len(points), width), dtype=np.float32)
    for start, block in points.blocks(_BLOCK):
        products = _rounded_rows(block.astype(np.float32)) @ parts
        projected[start : start + len(block)] = products[:, :width] + products[:, width:]
    return VectorBlocks([projected])


def _rounded_rows(rows: np.ndarray) -> np.ndarray:
    """Rows float64 [n x D] of float32 ones, whole multiples of 2^-_ROW_BITS of the power of two above their largest."""
    largest = np.maximum(rows.max(axis=1, keepdims=True), -rows.min(axis=1, keepdims=True))
    shift = np.ldexp(np.float32(3), np.frexp(largest)[1])
    with np.errstate(invalid="ignore"):  # what is infinite is refused where distances are taken
        rows += shift
        rows -= shift
    return rows.astype(np.float64)


def _split(values: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Two parts of so many bits each, whole multiples, whose sum is the values but for 2^-2`bits` of the largest."""
    _, exponent = np.frexp(np.abs(values).max())
    high = np.ldexp(np.rint(np.ldexp(values, bits - exponent)), exponent - bits)
    low = np.ldexp(np.rint(np.ldexp(values - high, 2 * bits - exponent)), exponent - 2 * bits)
    return high, low


def _normal(count: int, seed: int) -> np.ndarray:
    """torch.randn's numbers float64 [count], where there are sixteen or more; the last sixteen are drawn anew."""
    generator = torch.Generator().manual_seed(seed)
    whole = count // _DRAWN_TOGETHER * _DRAWN_TOGETHER
    values = np.zeros(count)
    values[:whole] = _box_muller(torch.rand(count, generator=generator)[:whole])
    if whole < count:
        last = _box_muller(torch.rand(_DRAWN_TOGETHER, generator=generator))
        values[-_DRAWN_TOGETHER:] = last[:count]
    return values


def _box_muller(uniform: torch.Tensor) -> np.ndarray:
    """Normal numbers float64 [n] of uniform ones [n]: of sixteen, the first eight are radii and the others angles."""
    pairs = uniform.numpy().astype(np.float64).reshape(-1, 2, _DRAWN_TOGETHER // 2)
    radius, angle = np.sqrt(-2 * np.log(1 - pairs[:, 0])), 2 * np.pi * pairs[:, 1]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).ravel()
