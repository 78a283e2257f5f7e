"""What the graphs of several methods are made of: exact nearest neighbours in bounded memory, and anomaly maps."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from exdd_ray.banks.scoring.maps import MapMaker
from exdd_ray.config.base import Size
from exdd_ray.errors import ConfigError

_CHUNK = 2048  # bank vectors compared with at a time: never all products at once


class Found(NamedTuple):
    """The nearest vectors in a bank.

    Attributes:
        distances: to them [B x P].
        places: where in the bank they are [B x P].
        bank: float32 [M x D].
    """

    distances: Tensor
    places: Tensor
    bank: Tensor


class Nearest(nn.Module):
    """The nearest vector of a bank, and the distance to it.

    Candidates are told apart by products with the centred bank, chunk by chunk; the distance to the one that is chosen
    is then computed from its difference, as products of vectors that are nearly alike lose their digits.

    Attributes:
        bank: float32 [M x D].
    """

    bank: Tensor
    centre: Tensor
    halves: Tensor

    def __init__(self, bank: np.ndarray) -> None:
        super().__init__()
        given = torch.from_numpy(np.array(bank, dtype=np.float32))
        centre = given.mean(dim=0)
        self.register_buffer("bank", given)
        self.register_buffer("centre", centre)
        self.register_buffer("halves", ((given - centre) ** 2).sum(dim=1) / 2)

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Distances [Q] of vectors [Q x D], and the positions [Q] of the nearest in the bank."""
        centred = vectors - self.centre
        values, places = [], []
        for start in range(0, len(self.bank), _CHUNK):
            part = self.bank[start : start + _CHUNK] - self.centre
            apart = self.halves[start : start + _CHUNK] - centred @ part.T
            value, place = apart.min(dim=1)
            values.append(value)
            places.append(place + start)
        chunk = torch.stack(values).argmin(dim=0, keepdim=True)
        place = torch.stack(places).gather(0, chunk)[0]
        return (vectors - self.bank[place]).square().sum(dim=1).sqrt(), place

    def of_images(self, vectors: Tensor) -> Found:
        """What is nearest to images' vectors [B x P x D]."""
        distances, places = (one.unflatten(0, vectors.shape[:2]) for one in self(vectors.flatten(0, 1)))
        return Found(distances, places, self.bank)


class Smooth(nn.Module):
    """Mean over side x side neighbouring patches, edges repeated: [B x P] -> [B x P], as `banks.scoring.distances`."""

    def __init__(self, grid: Size, side: int) -> None:
        super().__init__()
        self.grid, self.side = grid, side

    def forward(self, values: Tensor) -> Tensor:
        """The smoothed values."""
        if self.side == 1:
            return values
        around = self.side // 2
        maps = F.pad(values.unflatten(1, self.grid)[:, None], (around,) * 4, mode="replicate")
        return F.avg_pool2d(maps, self.side, stride=1).flatten(1)


class Draw(nn.Module):
    """Anomaly maps [B x H x W] of patch maps [B x P]: upsampled and blurred, one matrix a side.

    Raises ConfigError for a blur of 8-bit images, which is no product of matrices.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, maker: MapMaker) -> None:
        super().__init__()
        if maker.blur == "pillow8" and maker.radius:
            raise ConfigError("scoring.blur=pillow8 cannot be exported: its maps are rounded to 8 bits; use gaussian")
        self.grid = maker.grid
        rows, columns = maker.operators(maker.input_size)
        self.register_buffer("rows", torch.from_numpy(rows.copy()))
        self.register_buffer("columns", torch.from_numpy(columns.copy()))

    def forward(self, patch_maps: Tensor) -> Tensor:
        """The anomaly maps."""
        across = patch_maps.unflatten(1, self.grid) @ self.columns.T
        return (across.transpose(1, 2) @ self.rows.T).transpose(1, 2)
