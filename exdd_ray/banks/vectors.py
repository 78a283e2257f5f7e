"""Vectors [N x D] as an ordered sequence of arrays that may be memory-mapped: read in blocks, never copied whole."""

import bisect
import ctypes
import functools
import mmap
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from exdd_ray.errors import DataError

FLOAT_TYPES = (np.dtype(np.float16), np.dtype(np.float32))
_MADV_DONTNEED = 4
# Pages of smaller files stay: to fault them in again at every pass costs more than they do.
_KEEP = 1 << 26


@dataclass(frozen=True)
class Span:
    """Rows start to stop of one segment, whose own first row is number `offset` of the whole."""

    segment: int
    start: int
    stop: int
    offset: int

    @property
    def rows(self) -> slice:
        """The rows' numbers in the whole matrix."""
        return slice(self.offset + self.start, self.offset + self.stop)


class VectorBlocks:
    """A matrix [N x D] made of row segments, each a 2-D float16 or float32 array (a view of a file or of memory).

    Args:
        segments: arrays [N_i x D], in order; rows are numbered through all of them.

    Raises:
        DataError: a segment has another dimension, another type or is not 2-D, or there is no vector at all.
    """

    def __init__(self, segments: Sequence[np.ndarray]) -> None:
        kept = [np.asarray(segment) for segment in segments]
        for segment in kept:
            _check_segment(segment, kept[0])
        kept = [segment for segment in kept if len(segment)]
        if not kept:
            raise DataError("a set of vectors is empty: nothing to select from or to search in")
        self.segments = kept
        self.starts = np.concatenate([[0], np.cumsum([len(segment) for segment in kept])])
        self.mapped = _in_read_only_files(kept) if self.nbytes > _KEEP else [False] * len(kept)

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def dim(self) -> int:
        """Length D of a vector."""
        return int(self.segments[0].shape[1])

    @property
    def nbytes(self) -> int:
        """Bytes of all vectors as stored."""
        return sum(segment.nbytes for segment in self.segments)

    def spans(self, rows: int) -> list[Span]:
        """Pieces of at most `rows` rows, none across two segments, in order."""
        return [
            Span(s, start, min(start + rows, len(segment)), int(self.starts[s]))
            for s, segment in enumerate(self.segments)
            for start in range(0, len(segment), rows)
        ]

    def view(self, span: Span) -> np.ndarray:
        """The rows of a span, without a copy."""
        return self.segments[span.segment][span.start : span.stop]

    def blocks(self, rows: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yields (number of the first row, view [n <= rows x D]) in order; pages of a mapped file are let go after."""
        for span in self.spans(rows):
            yield span.rows.start, self.view(span)
            self.release(span.rows)

    def release(self, rows: slice) -> None:
        """Lets the pages of memory-mapped rows go, so that a pass over a file does not fill the process with it."""
        first, last = np.searchsorted(self.starts, [rows.start, rows.stop - 1], side="right") - 1
        for s in range(first, last + 1):
            if self.mapped[s]:
                _drop_pages(self.segments[s][max(rows.start - self.starts[s], 0) : rows.stop - self.starts[s]])

    def take(self, indices: np.ndarray) -> np.ndarray:
        """Rows by number -> float32 [n x D], in the order asked for."""
        wanted = np.asarray(indices, dtype=np.int64)
        rows = np.empty((len(wanted), self.dim), dtype=np.float32)
        owner = np.searchsorted(self.starts, wanted, side="right") - 1
        for s in np.unique(owner):
            at = owner == s
            rows[at] = self.segments[s][wanted[at] - self.starts[s]]
            self.release(slice(int(self.starts[s]), int(self.starts[s + 1])))
        return rows

    def select(self, ranges: Iterable[tuple[int, int]]) -> "VectorBlocks":
        """Row ranges (first, last + 1) as vectors of their own, without a copy; ranges that touch are joined."""
        joined: list[list[int]] = []
        for first, last in ranges:
            if not 0 <= first <= last <= len(self):
                raise DataError(f"rows {first} to {last} do not exist in a set of {len(self)} vectors")
            if joined and joined[-1][1] == first:
                joined[-1][1] = last
            else:
                joined.append([first, last])
        return VectorBlocks([piece for first, last in joined for piece in self._pieces(first, last)])

    def _pieces(self, first: int, last: int) -> Iterator[np.ndarray]:
        for segment, start in zip(self.segments, self.starts, strict=False):
            low, high = max(first - start, 0), min(last - start, len(segment))
            if low < high:
                yield segment[low:high]


def as_blocks(points: "VectorBlocks | np.ndarray") -> VectorBlocks:
    """Vectors as VectorBlocks; an array [N x D] becomes one segment."""
    return points if isinstance(points, VectorBlocks) else VectorBlocks([points])


def _check_segment(segment: np.ndarray, first: np.ndarray) -> None:
    if segment.ndim != 2:
        raise DataError(f"vectors must be a matrix [N x D], got {segment.ndim} dimensions")
    if segment.dtype not in FLOAT_TYPES:
        raise DataError(f"vectors must be float16 or float32, got {segment.dtype}")
    if segment.dtype != first.dtype or segment.shape[1] != first.shape[1]:
        raise DataError(
            f"vectors of {segment.shape[1]} x {segment.dtype} cannot follow vectors of {first.shape[1]} x {first.dtype}"
        )
    if segment.shape[1] == 0:
        raise DataError("vectors have no components (D = 0)")


def _in_read_only_files(arrays: Sequence[np.ndarray]) -> list[bool]:
    """For each array whether it lies in a mapping of a file that this process cannot write.

    Only there is it safe to drop pages: they come back from the file. Anonymous pages would come back as zeros.
    """
    if not sys.platform.startswith("linux") or any(array.flags.writeable for array in arrays):
        return [False] * len(arrays)
    ranges = _read_only_file_ranges()
    return [_lies_in(array, ranges) for array in arrays]


def _read_only_file_ranges() -> list[tuple[int, int]]:
    ranges = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        bounds, permissions, _, _, inode = line.split()[:5]
        if permissions[1] == "-" and inode != "0":
            low, high = bounds.split("-")
            ranges.append((int(low, 16), int(high, 16)))
    return ranges


def _lies_in(array: np.ndarray, ranges: Sequence[tuple[int, int]]) -> bool:
    low, high = np.lib.array_utils.byte_bounds(array)
    before = bisect.bisect_right(ranges, (low, sys.maxsize)) - 1
    return before >= 0 and high <= ranges[before][1]


def _drop_pages(array: np.ndarray) -> None:
    page = mmap.PAGESIZE
    low, high = np.lib.array_utils.byte_bounds(array)  # of columns also what lies between them
    start, stop = -(-low // page) * page, high // page * page
    if start < stop:
        _libc().madvise(ctypes.c_void_p(start), ctypes.c_size_t(stop - start), _MADV_DONTNEED)


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
