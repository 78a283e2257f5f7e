"""A fitted memory-bank detector as one graph: from prepared images to scores and anomaly maps."""

import torch
from torch import Tensor, nn

from exdd_ray.errors import ConfigError
from exdd_ray.export.embed import Embed
from exdd_ray.export.parts import Draw, Nearest, Smooth
from exdd_ray.export.portable import Portable
from exdd_ray.features.prepare import geometry_of
from exdd_ray.methods.patch_bank.detector import FittedPatchBank
from exdd_ray.methods.patch_bank.graph_scores import Bonus, Ratio, Single, WithEvidence


class PatchBankGraph(nn.Module):
    """Scores [B] and anomaly maps [B x H x W] of prepared images [B x 3 x H x W], as the detector gives them.

    Raises ConfigError for what a graph cannot do: an approximate index, a foreground, 8-bit maps.
    """

    score: nn.Module

    def __init__(self, fitted: FittedPatchBank) -> None:
        super().__init__()
        config = fitted.config
        if config.search.index != "exact":
            raise ConfigError(f"search.index={config.search.index} cannot be exported: a graph searches exactly")
        self.embed = Embed(config.features)
        banks = (fitted.negative, *fitted.deeper)
        self.widths = [bank.vectors.shape[1] for bank in banks]
        self.banks = [Nearest(bank.vectors) for bank in banks]
        self.negative = nn.ModuleList(self.banks)
        self.score = _scores(fitted, Smooth(fitted.normal.embedding.grid, config.scoring.smoothing))
        self.draw = Draw(fitted.map_maker(fitted.normal.embedding))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and maps."""
        vectors = self.embed(images)
        parts = zip(self.banks, vectors.split(self.widths, dim=2), strict=True)
        found = [bank.of_images(part) for bank, part in parts]
        distances = torch.stack([one.distances for one in found]).mean(dim=0)
        scores, patch_maps = self.score(vectors, found[0]._replace(distances=distances))
        return scores, self.draw(patch_maps)


def _scores(fitted: FittedPatchBank, smooth: Smooth) -> nn.Module:
    """What makes scores and patch maps of distances, by the configured fusion."""
    config, calibration, positive = fitted.config.scoring, fitted.calibration, fitted.positive
    if config.fusion == "single":
        return Single(fitted.negative, config, smooth)
    if config.fusion == "evidence":
        assert calibration is not None
        return WithEvidence(smooth, calibration.negative, fitted.evidence)
    assert positive is not None
    if config.fusion == "ratio":
        return Ratio(fitted.negative, positive, config, smooth)
    assert calibration is not None
    assert calibration.contrast is not None
    return Bonus(positive, config, smooth, calibration.negative, calibration.contrast)


def portable(fitted: FittedPatchBank) -> Portable:
    """A fitted detector for the line. Raises ConfigError as PatchBankGraph."""
    features = fitted.config.features
    return Portable(PatchBankGraph(fitted), geometry_of(features), features.input_size)
