"""What methods that start from patch vectors have in common."""

from collections.abc import Mapping
from typing import Protocol

import pyarrow as pa

from exdd_ray.features.config import FeaturesConfig
from exdd_ray.methods.method import EMBEDDING, Need, PlannedFit, Resources


class Embeds(Protocol):
    """A config that says how images become patch vectors."""

    @property
    def features(self) -> FeaturesConfig:
        """How."""


def embedding_need(config: Embeds, fit: PlannedFit, resources: Resources) -> Need:
    """The slices of vectors that a fit asks for."""
    return Need(EMBEDDING, "slices of images", tuple(resources.slices(config.features, fit.universe)), in_store=True)


def embed_universe(config: Embeds, universe: pa.Table, resources: Resources) -> None:
    """Puts the vectors of a category's real images into the store."""
    resources.embedder(config.features, universe).embedding(universe)


def unembedded(config: Embeds, universe: pa.Table, resources: Resources) -> Mapping[str, str]:
    """Why images of a category have no vectors, by id: what cannot be read is learnt while it is embedded."""
    embedding = resources.embedder(config.features, universe).embedding(universe)
    return {universe["id"][int(row)].as_py(): reason for row, reason in embedding.reasons.items()}


def backbone_inputs(config: Embeds) -> tuple[str, ...]:
    """The content hash of the backbone's weights, and how its images are normalised."""
    from exdd_ray.features.backbone import normalisation, weights_digest

    return weights_digest(config.features), f"{normalisation(config.features.backbone)}"
