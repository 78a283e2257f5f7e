"""The picks made so far, ready for matrix products; grows without copying them at every step."""

import torch


class Picks:
    """Picked vectors [M x D], as given (`raw`) and minus the shift of the points (`moved`), with |c|^2 of the latter.

    Args:
        dim: length D of a vector.
        device: where the products are computed.
        shift: float32 [D] that the points are moved by, or None.
    """

    def __init__(self, dim: int, device: torch.device, shift: torch.Tensor | None) -> None:
        self.shift = None if shift is None else shift.to(device)
        self.largest = 0.0
        self._count = 0
        self._raw = torch.empty((64, dim), device=device)
        self._moved = self._raw if shift is None else torch.empty_like(self._raw)
        self._squares = torch.empty(64, device=device)

    def __len__(self) -> int:
        return self._count

    @property
    def raw(self) -> torch.Tensor:
        """float32 [M x D]."""
        return self._raw[: self._count]

    def append(self, vectors: torch.Tensor) -> None:
        """Adds vectors float32 [m x D]."""
        start, self._count = self._count, self._count + len(vectors)
        self._grow()
        new = slice(start, self._count)
        self._raw[new] = vectors
        if self.shift is not None:
            self._moved[new] = vectors - self.shift
        squares = self._moved[new].double().square().sum(1)
        self._squares[new] = squares.float()
        self.largest = max(self.largest, float(squares.max().sqrt()))

    def products(self, block: torch.Tensor, columns: slice, out: torch.Tensor) -> torch.Tensor:
        """|c|^2 - 2xc for a block of moved points [n x D] and some picks, in the block's type.

        Args:
            out: where it is written, [n x len(columns)].
        """
        moved, squares = self._moved[columns], self._squares[columns]
        if block.dtype == torch.float64:
            moved = self._raw[columns].double()
            moved = moved if self.shift is None else moved.sub_(self.shift)
            squares = moved.square().sum(1)
        return torch.addmm(squares, block, moved.T, alpha=-2, out=out)

    def _grow(self) -> None:
        room = len(self._squares)
        if self._count > room:
            more = self._raw.new_empty((max(self._count - room, room), self._raw.shape[1]))
            self._raw = torch.cat([self._raw, more])
            self._moved = self._raw if self.shift is None else torch.cat([self._moved, more])
            self._squares = torch.cat([self._squares, more[:, 0]])
