"""How a graph makes scores and patch maps of distances: `exdd_ray.banks.scoring.fuse` as modules, fusion by fusion."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from exdd_ray.banks.memory_bank import MemoryBank
from exdd_ray.banks.scoring.config import ScoringConfig
from exdd_ray.banks.scoring.evidence import Lift
from exdd_ray.banks.scoring.fuse import standardised
from exdd_ray.banks.scoring.reweight import used_neighbours
from exdd_ray.banks.search import search
from exdd_ray.export.parts import Found, Nearest, Smooth
from exdd_ray.methods.patch_bank.evidence import DefectEvidence


def picked(values: Tensor, at: Tensor) -> Tensor:
    """Of values [B x P] those at patches [B]."""
    return values.gather(1, at[:, None])[:, 0]


class Share(nn.Module):
    """The fraction in PatchCore's Eq. 7 [B], at one patch of each image."""

    around: Tensor

    def __init__(self, bank: MemoryBank, config: ScoringConfig) -> None:
        super().__init__()
        count = min(config.neighbours, len(bank.vectors))
        around = search(bank.vectors, bank.vectors, count).indices[0]
        self.register_buffer("around", torch.from_numpy(around))
        self.scale = bank.vectors.shape[1] ** 0.5 if config.scale == "sqrt_dim" else 1.0
        self.count, self.own_term = config.neighbours, config.own_term

    def forward(self, vectors: Tensor, found: Found, at: Tensor) -> Tensor:
        """Of vectors [B x P x D] at patches [B]."""
        distance, place = picked(found.distances, at), picked(found.places, at)
        patch = vectors.gather(1, at[:, None, None].expand(-1, -1, vectors.shape[2]))
        apart = (found.bank[self.around[place]] - patch).square().sum(dim=2).sqrt()
        used = used_neighbours(apart, self.count, self.own_term)
        return 1 / ((used - distance[:, None]) / self.scale).exp().sum(dim=1)


class Single(nn.Module):
    """The distances to the normal bank."""

    def __init__(self, negative: MemoryBank, config: ScoringConfig, smooth: Smooth) -> None:
        super().__init__()
        self.smooth, self.config = smooth, config
        self.share = Share(negative, config) if config.neighbours else None

    def forward(self, vectors: Tensor, found: Found) -> tuple[Tensor, Tensor]:
        """Scores and patch maps."""
        smoothed = self.smooth(found.distances)
        maps = smoothed.square() if self.config.squared else smoothed
        if self.config.top is None:
            scores = maps.amax(dim=1)
        else:
            scores = maps.topk(max(1, int(self.config.top * maps.shape[1])), dim=1).values.mean(dim=1)
        if self.share is not None:
            scores = scores * (1 - self.share(vectors, found, smoothed.argmax(dim=1)))
        return scores, maps


class Ratio(nn.Module):
    """s_N / (s_P + epsilon), weighed by Eq. 7 (ExDD)."""

    def __init__(self, negative: MemoryBank, positive: MemoryBank, config: ScoringConfig, smooth: Smooth) -> None:
        super().__init__()
        self.smooth, self.config, self.positive = smooth, config, Nearest(positive.vectors)
        banks = (negative, positive) if config.neighbours else ()
        self.shares = nn.ModuleList([Share(bank, config) for bank in banks])

    def forward(self, vectors: Tensor, found: Found) -> tuple[Tensor, Tensor]:
        """Scores and patch maps."""
        near = self.positive.of_images(vectors)
        negative, positive = self.smooth(found.distances), self.smooth(near.distances)
        at_n = negative.argmax(dim=1)
        by_pairing = {"independent": positive.argmax(dim=1), "min": positive.argmin(dim=1), "colocated": at_n}
        at_p = by_pairing[self.config.pairing]
        s_n, s_p = picked(negative, at_n), picked(positive, at_p)
        if self.config.neighbours:
            of_n, of_p = self.shares
            s_n, s_p = s_n * (1 - of_n(vectors, found, at_n)), s_p * of_p(vectors, near, at_p)
        return s_n / (s_p + self.config.epsilon), negative / (positive + self.config.epsilon)


class Bonus(nn.Module):
    """z_N + weight * softplus(z_NP), given location and scale of both."""

    def __init__(
        self,
        positive: MemoryBank,
        config: ScoringConfig,
        smooth: Smooth,
        of_negative: tuple[float, float],
        of_contrast: tuple[float, float],
    ) -> None:
        super().__init__()
        self.smooth, self.weight, self.positive = smooth, config.bonus, Nearest(positive.vectors)
        self.of_negative, self.of_contrast = of_negative, of_contrast

    def forward(self, vectors: Tensor, found: Found) -> tuple[Tensor, Tensor]:
        """Scores and patch maps."""
        negative = self.smooth(found.distances)
        contrast = negative - self.smooth(self.positive.of_images(vectors).distances)
        z_np = standardised(contrast, self.of_contrast)
        maps = standardised(negative, self.of_negative) + self.weight * torch.logaddexp(torch.zeros_like(z_np), z_np)
        return maps.amax(dim=1), maps


class WithEvidence(nn.Module):
    """z_N, raised by evidence of defects where there is some."""

    def __init__(self, smooth: Smooth, of_negative: tuple[float, float], evidence: DefectEvidence | None) -> None:
        super().__init__()
        self.smooth, self.of_negative = smooth, of_negative
        self.added = None if evidence is None else Added(evidence)

    def forward(self, vectors: Tensor, found: Found) -> tuple[Tensor, Tensor]:
        """Scores and patch maps."""
        z_n = standardised(self.smooth(found.distances), self.of_negative)
        of_images, of_maps = (z_n, z_n) if self.added is None else (z_n + one for one in self.added(vectors))
        return of_images.amax(dim=1), of_maps


class Added(nn.Module):
    """What evidence adds to the standardised distances, for image scores and for maps: each [B x P]."""

    landmarks: Tensor
    weights: Tensor

    def __init__(self, evidence: DefectEvidence) -> None:
        super().__init__()
        kernel = evidence.learnt.kernel
        self.register_buffer("landmarks", torch.from_numpy(np.array(kernel.landmarks, dtype=np.float32)))
        self.register_buffer("weights", torch.from_numpy(np.array(evidence.learnt.weights, dtype=np.float32)))
        self.width, self.lifts = kernel.width, evidence.learnt.lifts

    def forward(self, vectors: Tensor) -> list[Tensor]:
        """Of vectors [B x P x D]."""
        flat = vectors.flatten(0, 1)
        squares = self.landmarks.square().sum(dim=1) + flat.square().sum(dim=1, keepdim=True)
        apart = (squares - 2 * flat @ self.landmarks.T).clamp(min=0)
        values = (apart * (-0.5 / self.width**2)).exp() @ self.weights
        each = zip(values.unflatten(0, vectors.shape[:2]).unbind(dim=2), self.lifts, strict=True)
        return [torch.zeros_like(one) if lift is None else _lifted(one, lift) for one, lift in each]


def _lifted(evidence: Tensor, lift: Lift) -> Tensor:
    above = F.relu(evidence - lift.level) / lift.scale
    return lift.ceiling * torch.tanh(lift.slope * above / lift.ceiling)
