"""A histogram of float32 scores whose bins adapt to the data: one pass, bounded memory, independent of the order."""

from dataclasses import dataclass

import numpy as np

MAX_BINS = 1 << 20
_BATCH = 1 << 21
_SIGN = np.uint32(1 << 31)


@dataclass(frozen=True)
class ScoreCounts:
    """Non-empty bins in ascending order of score, each array [B].

    Attributes:
        scores: a score inside the bin (the lowest that falls into it).
        negatives: number of normal pixels.
        positives: number of defective pixels.
        overlap: sum over defective pixels of 1 / (pixels of their connected region).
        recall: sum over defective pixels of 1 / (defective pixels of their image).
        alarms: sum over pixels of normal images of 1 / (pixels of their image).
    """

    scores: np.ndarray
    negatives: np.ndarray
    positives: np.ndarray
    overlap: np.ndarray
    recall: np.ndarray
    alarms: np.ndarray


class ScoreHistogram:
    """Counts of normal and defective pixels by score.

    A bin is a run of consecutive float32 numbers, 2**shift long; the shift is the smallest that keeps the range seen
    within MAX_BINS, so that scores are told apart exactly where they are few or close, and to about 2**-11 relative
    where they span every magnitude. The result depends on the multiset of scores only.
    """

    def __init__(self) -> None:
        self._shift = 0
        self._first = 0
        self._bins = np.zeros((5, 0))
        self._waiting: list[tuple[np.ndarray, np.ndarray, np.ndarray, bool]] = []

    def add(self, scores: np.ndarray, defective: np.ndarray, overlap: np.ndarray, *, normal: bool) -> None:
        """Count the pixels of an image.

        Args:
            scores: float32 [N], finite.
            defective: bool [N].
            overlap: float [number of defective pixels], 1 / size of each one's region.
            normal: whether it is a normal image.
        """
        if scores.size:
            self._waiting.append((_ordered_keys(scores), defective, overlap, normal))
        if sum(len(keys) for keys, *_ in self._waiting) >= _BATCH:
            self._count_waiting()

    def _count_waiting(self) -> None:
        if not self._waiting:
            return
        recall = np.concatenate([_shares(int(defective.sum())) for _, defective, _, _ in self._waiting])
        of_normal = [(keys, _shares(len(keys))) for keys, _, _, normal in self._waiting if normal]
        keys, defective, overlap = (np.concatenate([one[i] for one in self._waiting]) for i in range(3))
        self._waiting.clear()
        self._cover(int(keys.min()), int(keys.max()))
        index = self._index(keys)
        width = self._bins.shape[1]
        hit = index[defective]
        positives = np.bincount(hit, minlength=width)
        self._bins[0] += np.bincount(index, minlength=width) - positives
        self._bins[1] += positives
        self._bins[2] += np.bincount(hit, weights=overlap, minlength=width)
        self._bins[3] += np.bincount(hit, weights=recall, minlength=width)
        for keys, shares in of_normal:
            np.add.at(self._bins[4], self._index(keys), shares)

    def _index(self, keys: np.ndarray) -> np.ndarray:
        """Bins of keys within the range that is covered."""
        return ((keys >> np.uint32(self._shift)) - np.uint32(self._first)).astype(np.int64)

    def counts(self) -> ScoreCounts:
        """The non-empty bins."""
        self._count_waiting()
        filled = np.flatnonzero(self._bins[0] + self._bins[1])
        keys = ((filled + self._first).astype(np.uint64) << np.uint64(self._shift)).astype(np.uint32)
        return ScoreCounts(_scores_of(keys), *(self._bins[:, filled]))

    def _cover(self, low: int, high: int) -> None:
        """Widen the range to the keys from low to high, halving the resolution until it fits."""
        have = self._bins.shape[1]
        if have:
            low = min(low, self._first << self._shift)
            high = max(high, ((self._first + have) << self._shift) - 1)
        while (high >> self._shift) - (low >> self._shift) >= MAX_BINS:
            self._coarsen()
        first, last = low >> self._shift, high >> self._shift
        if first == self._first and last - first + 1 == self._bins.shape[1]:
            return
        bins = np.zeros((5, last - first + 1))
        offset = self._first - first
        bins[:, offset : offset + self._bins.shape[1]] = self._bins
        self._first, self._bins = first, bins

    def _coarsen(self) -> None:
        """Merge bins in pairs, aligned to even numbers."""
        lead = self._first & 1
        tail = (self._bins.shape[1] + lead) & 1
        padded = np.pad(self._bins, ((0, 0), (lead, tail)))
        self._bins = padded[:, 0::2] + padded[:, 1::2]
        self._first >>= 1
        self._shift += 1


def _shares(count: int) -> np.ndarray:
    """What each of so many pixels is of all of them."""
    return np.full(count, 1 / max(count, 1))


def _ordered_keys(scores: np.ndarray) -> np.ndarray:
    """Integers in the order of the float32 scores: IEEE 754 bits with the sign folded."""
    bits = (np.ascontiguousarray(scores, dtype=np.float32) + np.float32(0)).view(np.uint32)  # -0 becomes 0
    return np.where(bits & _SIGN, ~bits, bits | _SIGN)


def _scores_of(keys: np.ndarray) -> np.ndarray:
    bits = np.where(keys & _SIGN, keys & ~_SIGN, ~keys).astype(np.uint32)
    return bits.view(np.float32)
