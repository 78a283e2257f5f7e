"""Config of a mixture of synthesizers."""

from typing import Any, Literal

from pydantic import field_validator, model_validator

from exdd_ray.synthesizers.config import SynthesizerConfig
from exdd_ray.synthesizers.part import PartConfig


class MixtureConfig(SynthesizerConfig):
    """A mixture: samples of other synthesizers, each of which has its share.

    Attributes:
        kind: of the synthesizer: others have shares of the samples.
        preset: there is one.
        filters: none of its own; each part's synthesizer has some.
        parts: the synthesizers, mixtures among them, and their shares.
    """

    kind: Literal["mixture"] = "mixture"
    preset: Literal["best"] = "best"
    filters: None = None
    parts: tuple[PartConfig, ...]

    @field_validator("filters", mode="before")
    @classmethod
    def _no_filters(cls, given: Any) -> Any:
        if given is not None:
            raise ValueError("a mixture's samples are filtered by its parts: set filters in each part's synthesizer")
        return given

    @model_validator(mode="after")
    def _has_parts(self) -> "MixtureConfig":
        if not self.parts:
            raise ValueError("parts: a mixture has one at least")
        return self
