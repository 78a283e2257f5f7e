"""Vectors as float32 tensors on the device that computes, moved towards the origin."""

import itertools
import threading

import numpy as np
import torch

from exdd_ray.banks.vectors import Span, VectorBlocks

_SAMPLE = 1024
_FAR = 16.0
_MAPPED_ROWS = 256


class Scratch(threading.local):
    """Each thread's own buffers, used again by its next tile."""

    def __init__(self) -> None:
        self.buffers: dict[str, torch.Tensor] = {}

    def matrix(self, name: str, rows: int, columns: int, like: torch.Tensor) -> torch.Tensor:
        """Uninitialised [rows x columns] of the type and on the device of `like`, until the thread asks again."""
        name = f"{name} {like.dtype}"
        buffer = self.buffers.get(name)
        if buffer is None or buffer.numel() < rows * columns:
            buffer = self.buffers[name] = like.new_empty(rows * columns)
        return buffer[: rows * columns].view(rows, columns)


class VectorLoader:
    """Loads vectors in float32, minus a shift where they lie far from the origin and near each other.

    There |x|^2 + |c|^2 - 2xc would lose its digits. Elsewhere vectors are used where they lie, without a copy.

    Args:
        points: the vectors.
        device: where the tensors go; a GPU keeps the stored vectors when they fit in half of its free memory.
        shift: float32 [D] on the device, see `needed_shift`; None for none.
    """

    def __init__(self, points: VectorBlocks, device: torch.device, shift: torch.Tensor | None) -> None:
        self.points = points
        self.device = device
        self.shift = shift
        self._scratch = Scratch()
        self._empty = torch.empty(0, device=device)
        self._starts = torch.from_numpy(points.starts).to(device)
        self._segments = [as_tensor(segment) for segment in points.segments]
        self._as_it_lies = shift is None and device.type == "cpu" and points.segments[0].dtype == np.float32
        if device.type == "cuda" and 2 * points.nbytes <= torch.cuda.mem_get_info(device)[0]:
            self._segments = [segment.to(device) for segment in self._segments]

    def load(self, span: Span) -> torch.Tensor:
        """The vectors of a span; valid until the same thread loads others."""
        stored = self._segments[span.segment][span.start : span.stop]
        if self._as_it_lies and not self.points.mapped[span.segment]:
            return stored
        block = self._scratch.matrix("block", len(stored), self.points.dim, self._empty).copy_(stored)
        self.points.release(span.rows)
        return block if self.shift is None else block.sub_(self.shift)

    def gather(self, rows: torch.Tensor) -> torch.Tensor:
        """The vectors of some rows, ascending; valid until the same thread loads others."""
        span = self._run(rows)
        if span is not None:
            return self.load(span)
        block = self._scratch.matrix("block", len(rows), self.points.dim, self._empty)
        self._fill(block, rows)
        return block if self.shift is None else block.sub_(self.shift)

    def gather_wide(self, rows: torch.Tensor) -> torch.Tensor:
        """The vectors of some rows, ascending, in float64, where the shift costs no digits."""
        block = self.stored(rows).double()
        return block if self.shift is None else block.sub_(self.shift)

    def stored(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows, ascending, as they were stored, in float32 [n x D]."""
        block = torch.empty((len(rows), self.points.dim), device=self.device)
        self._fill(block, rows)
        return block

    def _run(self, rows: torch.Tensor) -> Span | None:
        """Rows that follow each other within one segment, as a span."""
        first, last = int(rows[0]), int(rows[-1])
        segment = int(np.searchsorted(self.points.starts, first, side="right")) - 1
        offset = int(self.points.starts[segment])
        if last - first != len(rows) - 1 or last >= self.points.starts[segment + 1]:
            return None
        return Span(segment, first - offset, last + 1 - offset, offset)

    def _fill(self, block: torch.Tensor, rows: torch.Tensor) -> None:
        """Writes rows, ascending, to `block`, whatever segments they lie in."""
        bounds = torch.searchsorted(rows, self._starts).tolist()
        for s, (low, high) in enumerate(itertools.pairwise(bounds)):
            # A row of a mapped file brings its neighbours' pages along: a few rows at a time, and all are let go again.
            step = _MAPPED_ROWS if self.points.mapped[s] else max(high - low, 1)
            for start in range(low, high, step):
                part = slice(start, min(start + step, high))
                _copy_rows(self._segments[s], rows[part] - self._starts[s], block[part])
                if self.points.mapped[s]:
                    self.points.release(slice(int(rows[part.start]), int(rows[part.stop - 1]) + 1))


def _copy_rows(segment: torch.Tensor, rows: torch.Tensor, out: torch.Tensor) -> None:
    rows = rows.to(segment.device)
    if segment.dtype == out.dtype and segment.device == out.device:
        torch.index_select(segment, 0, rows, out=out)
    else:
        out.copy_(segment[rows])


def needed_shift(points: VectorBlocks) -> torch.Tensor | None:
    """Mean float32 [D] of a sample of the points where it is far from the origin compared with their spread."""
    sample = _sample(points)
    mean = sample.mean(0)
    spread = (sample - mean).square().sum(1).mean()
    if not torch.isfinite(mean).all() or mean.square().sum() <= _FAR * spread:
        return None
    return mean.float()


def sample_mean(points: VectorBlocks) -> torch.Tensor:
    """Mean float32 [D] of a sample of the points."""
    return _sample(points).mean(0).float()


def _sample(points: VectorBlocks) -> torch.Tensor:
    rows = np.linspace(0, len(points) - 1, min(_SAMPLE, len(points))).astype(np.int64)
    return torch.from_numpy(points.take(rows)).double()


class _Memory:
    """An array's memory under an interface of its own; keeps the array alive."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array
        address = array.__array_interface__["data"][0]
        self.__array_interface__ = {**array.__array_interface__, "data": (address, False)}


def as_tensor(array: np.ndarray) -> torch.Tensor:
    """A tensor on the array's own memory, which nothing here writes to.

    torch warns of read-only arrays, and silencing a warning is not safe among threads: so it is not told.
    """
    if min(array.strides, default=0) < 0:
        array = array.copy()
    return torch.from_numpy(array if array.flags.writeable else np.asarray(_Memory(array)))
