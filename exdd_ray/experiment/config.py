"""An experiment: a dataset, a synthesizer, a detector; and a run of several that share what they have in common."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import BeforeValidator, Field, model_validator

from exdd_ray.config.base import Frozen
from exdd_ray.config.keys import resolve_key
from exdd_ray.data.config import DatasetConfig
from exdd_ray.errors import ConfigError
from exdd_ray.methods.config import DetectorConfig
from exdd_ray.methods.table import BUILT_IN, method_of, methods
from exdd_ray.metrics.config import EvaluationConfig
from exdd_ray.metrics.published import PublishedConfig
from exdd_ray.metrics.quality.config import QualityConfig
from exdd_ray.synthesizers.config import SynthesizerConfig
from exdd_ray.synthesizers.leaves import have_masks
from exdd_ray.synthesizers.table import synthesizers

VARIANT = "variant"


def _with_kind(given: Any) -> Any:
    return {"kind": BUILT_IN[0], **given} if isinstance(given, Mapping) else given


if TYPE_CHECKING:
    AnyDetector = DetectorConfig
    AnySynthesizer = SynthesizerConfig
else:
    _DETECTORS = Union[tuple(method.config for method in methods().values())]  # noqa: UP007 (of a tuple)
    _SYNTHESIZERS = Union[tuple(one.config for one in synthesizers().values())]  # noqa: UP007
    AnyDetector = Annotated[_DETECTORS, Field(discriminator="kind"), BeforeValidator(_with_kind)]
    AnySynthesizer = Annotated[_SYNTHESIZERS, Field(discriminator="kind")]


class ExperimentConfig(Frozen):
    """A dataset x a synthesizer x a detector, with the seed of all that is drawn.

    Attributes:
        detector: of a method's kind; `patch_bank` where none is given.
        seed: of all that is drawn.
    """

    dataset: DatasetConfig = DatasetConfig()
    synthesizer: AnySynthesizer | None = None
    detector: AnyDetector = methods()[BUILT_IN[0]].config()
    evaluation: EvaluationConfig = EvaluationConfig()
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _synthesizer_is_used(self) -> "ExperimentConfig":
        if self.synthesizer is not None and (own := self.detector.makes_anomalies):
            raise ValueError(f"detector.kind={self.detector.kind} makes its own anomalies ({own}): unset synthesizer")
        learns = method_of(self.detector).learns_from(self.detector)
        if self.synthesizer is not None and learns.masks and not have_masks(self.synthesizer):
            raise ValueError(
                f"{learns.name} learns from masks, and synthesizer.kind={self.synthesizer.kind} makes whole images "
                "without any: take a detector that learns from labels"
            )
        return self

    def aside(self) -> Iterator[str]:
        """Synthetic defects where the detector learns from none."""
        if not method_of(self.detector).learns_from(self.detector).defects:
            yield "synthesizer"


class RunConfig(ExperimentConfig):
    """What `exdd run` runs: one experiment, or several side by side.

    Attributes:
        name: of the experiment, and of the folder in runs/ that its results go into.
        seeds: every experiment is run with each; None takes `seed` alone.
        variants: name -> dotted keys and values that distinguish the experiments compared.
        grid: dotted key -> values; the experiments are the product.
        published: figures of others to print beside ours.
        quality: how `exdd synth` measures the synthetic images; None does not, or by default with --quality.
        store: folder of the artifacts, or a URI of a file system that pyarrow knows, as s3://bucket/store.
        output: folder of the results; None is a new one in runs/<name>, named by time and overrides.
    """

    name: str = "experiment"
    seeds: tuple[int, ...] | None = Field(None, min_length=1)
    variants: dict[str, dict[str, Any]] = Field(default_factory=dict)
    grid: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    published: tuple[PublishedConfig, ...] = ()
    quality: QualityConfig | None = None
    store: str = "store"
    output: Path | None = None

    @model_validator(mode="after")
    def _published_of_what_there_is(self) -> "RunConfig":
        for place, figure in enumerate(self.published):
            for key, value in figure.of.items():
                if fault := self._unknown(key, value):
                    raise ValueError(f"published.{place}.of.{key}: {fault}")
        return self

    def _unknown(self, key: str, value: Any) -> str:
        """Why nothing that is run can be meant by a setting; empty where something can."""
        if key == VARIANT:  # all variants may have been unset
            return f"no variant is called {value!r}" if self.variants and value not in self.variants else ""
        try:
            resolve_key(key, ExperimentConfig)
        except ConfigError as error:
            return str(error)
        return ""
