"""Every detector with every number of real defects and every source of synthetic ones, as variants of a sweep."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from exdd_ray.config.base import Frozen
from exdd_ray.config.bundled import GRIDS, find_config
from exdd_ray.errors import ConfigError
from exdd_ray.experiment.config import ExperimentConfig
from exdd_ray.experiment.load import read_raw, validate
from exdd_ray.methods.table import method_of
from exdd_ray.synthesizers.leaves import leaves
from exdd_ray.synthesizers.table import synthesizer_of

Count = int | Literal["all"]


class GridConfig(Frozen):
    """What is crossed, by the names that it has in tables.

    Attributes:
        detectors: configs of detectors.
        synthesizers: configs of synthesizers, without their `count`.
        counts: real defects to learn; `all` are those that the dataset's own split trains on.
        synthetic: defects that each synthesizer makes.
        published: by name, a figure of a detector or a synthesizer on its authors' own data, as text.
    """

    detectors: dict[str, dict[str, Any]] = Field(min_length=1)
    synthesizers: dict[str, dict[str, Any]] = Field(default_factory=dict)
    counts: tuple[Count, ...] = Field((0, 1, 5, 20, "all"), min_length=1)
    synthetic: int = Field(50, ge=1)
    published: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _as_many_of_each(self) -> "GridConfig":
        for name, given in self.synthesizers.items():
            if "count" in given:
                raise ValueError(f"synthesizers.{name}.count: `synthetic` says how many each makes: unset it")
        return self


@dataclass(frozen=True)
class Combination:
    """A detector, with so many real defects, and a source of synthetic ones.

    Attributes:
        detector: by name.
        defects: real ones that it learns.
        synthesizer: by name; empty for none.
        changes: that make an experiment of it, by dotted key.
    """

    detector: str
    defects: Count
    synthesizer: str
    changes: Mapping[str, Any] = field(hash=False)

    @property
    def name(self) -> str:
        """Tells it from the others."""
        return ", ".join([self.detector, f"{self.defects} real", *([self.synthesizer] if self.synthesizer else [])])


def read_grid(given: str = "default") -> GridConfig:
    """What a file crosses, or the bundled one of a name. Raises ConfigError for a file that is none."""
    path = find_config(given, [GRIDS])
    return validate(GridConfig, read_raw(path), path)


def chosen(
    config: GridConfig,
    detectors: Sequence[str] | None = None,
    synthesizers: Sequence[str] | None = None,
    counts: Sequence[Count] | None = None,
) -> GridConfig:
    """A part of a grid by names; None takes all. Raises ConfigError for a name that it does not have."""
    return config.model_copy(
        update={
            "detectors": _named("detector", config.detectors, detectors),
            "synthesizers": _named("synthesizer", config.synthesizers, synthesizers),
            "counts": config.counts if counts is None else tuple(dict.fromkeys(counts)),
        }
    )


def _named(what: str, known: Mapping[str, Any], names: Sequence[str] | None) -> dict[str, Any]:
    if unknown := [name for name in names or () if name not in known]:
        raise ConfigError(f"the grid has no {what} {unknown[0]!r}: {', '.join(known)}")
    return {name: known[name] for name in (known if names is None else names)}


def combinations(config: GridConfig) -> tuple[Combination, ...]:
    """All that make sense, each detector's without synthetic defects first.

    A detector that learns normal images alone is there once. What is made of real defects is left out where there is
    none, as is a detector that needs defects where it would have none.

    Raises ConfigError for a config of a detector or a synthesizer that is none, and where no combination makes sense.
    """
    found = tuple(one for detector in config.detectors for one in _of_detector(config, detector))
    if not found:
        raise ConfigError(f"{', '.join(config.detectors)}: no defect to learn, neither a real one nor a synthetic one")
    return found


def _of_detector(config: GridConfig, name: str) -> Iterator[Combination]:
    given = config.detectors[name]
    detector = _experiment({"detector": given}, f"detectors.{name}").detector
    learns = method_of(detector).learns_from(detector)
    if not learns.defects:
        yield Combination(name, 0, "", {"detector": given, "dataset.split.defects": 0, "synthesizer": None})
        return
    for count in config.counts:
        split = {"dataset.split.defects": None if count == "all" else count}
        if count or learns.alone:
            yield Combination(name, count, "", {"detector": given, **split, "synthesizer": None})
        for synthesizer, made in config.synthesizers.items():
            counted = {**made, "count": config.synthetic}
            if count or not _made_of_defects(counted, synthesizer):
                yield Combination(name, count, synthesizer, {"detector": given, **split, "synthesizer": counted})


def _made_of_defects(given: Mapping[str, Any], name: str) -> bool:
    config = _experiment({"synthesizer": given}, f"synthesizers.{name}").synthesizer
    assert config is not None
    return any(synthesizer_of(leaf.config).defects(leaf.config) is not None for leaf in leaves(config))


def _experiment(raw: dict[str, Any], where: str) -> ExperimentConfig:
    return validate(ExperimentConfig, raw, Path(where))
