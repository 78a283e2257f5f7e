"""From the file of a run or a sweep to its points: each the settings that distinguish it, and an experiment a seed."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import exp, log
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from exdd_ray.config.base import merge
from exdd_ray.config.keys import resolve_key
from exdd_ray.errors import ConfigError
from exdd_ray.experiment.config import VARIANT, ExperimentConfig, RunConfig
from exdd_ray.experiment.load import (
    Raw,
    Trial,
    apply_changes,
    apply_patch,
    experiment_part,
    parse_overrides,
    read_raw,
    validate,
)
from exdd_ray.experiment.overrides import override
from exdd_ray.experiment.sweep_config import RangeConfig, SweepConfig

Command = Literal["run", "sweep"]
_DRAWS = 1000


@dataclass(frozen=True)
class Point:
    """A point of the space.

    Attributes:
        number: in the order of the search.
        name: tells it from all others.
        settings: short key -> value, of what varies in the sweep.
        trials: (name of a dataset, the experiment on it with a seed), of every dataset and seed.
    """

    number: int
    name: str
    settings: Mapping[str, Any]
    trials: tuple[tuple[str, Trial], ...]


@dataclass(frozen=True)
class LoadedSweep:
    """A sweep as validated, and the raw config from which its points are made, the overrides among it.

    Attributes:
        sweep: its config; of a run, a sweep over the run's variants and grid that chooses no point.
        path: for messages.
        command: that runs its file, `run` or `sweep`.
    """

    sweep: SweepConfig
    raw: Raw
    path: Path
    overrides: tuple[str, ...] = ()
    command: Command = "sweep"

    @property
    def trials(self) -> tuple[Trial, ...]:
        """The experiments of all points that are known before anything runs."""
        return tuple(trial for point in points_ahead(self) for _, trial in point.trials)

    @cached_property
    def keys(self) -> dict[str, str]:
        """Full dotted key -> its shortest ending that no other key of the space shares, in the order of the space."""
        full = [resolve_key(key, ExperimentConfig) for key in self.sweep.space]
        if self.sweep.tuner.fidelity is not None:
            full.append(resolve_key(self.sweep.tuner.fidelity.key, ExperimentConfig))
        if twice := {key for key in full if full.count(key) > 1}:
            raise ConfigError(f"{self.path}: {min(twice)} is in the space twice")
        return {key: _shortest(key, full) for key in full}

    @cached_property
    def axes(self) -> dict[str, RangeConfig | tuple[Any, ...]]:
        """Short key -> values, or the range to draw from; the variants are an axis too."""
        variants = {VARIANT: tuple(self.sweep.variants)} if self.sweep.variants else {}
        space = {resolve_key(key, ExperimentConfig): values for key, values in self.sweep.space.items()}
        return {**variants, **{self.keys[key]: values for key, values in space.items()}}

    def point(self, number: int, settings: Mapping[str, Any]) -> Point:
        """The point of some settings (short key -> value); what is not named stays as the base has it.

        Raises ConfigError for settings that are no valid experiment.
        """
        full = {short: key for key, short in self.keys.items()}
        variant = self.sweep.variants[settings[VARIANT]] if VARIANT in settings else {}
        changes = {full[short]: value for short, value in settings.items() if short != VARIANT}
        name = ", ".join(_named(short, value) for short, value in settings.items()) or self.sweep.name
        return Point(number, name, settings, tuple(self._trials(name, variant, changes)))

    def _trials(self, name: str, variant: Mapping[str, Any], changes: Raw) -> Iterator[tuple[str, Trial]]:
        common = experiment_part(self.raw)
        for dataset, patch in (self.sweep.datasets or {"": {}}).items():
            for seed in self.sweep.seeds or (self.sweep.seed,):
                raw = apply_patch(apply_patch({**common, "seed": seed}, patch or {}), variant)
                config = self._experiment(apply_changes(raw, changes), name, variant)
                yield dataset or config.dataset.name, Trial(name, config)

    def _experiment(self, raw: Raw, name: str, variant: Mapping[str, Any]) -> ExperimentConfig:
        """The valid experiment of a point; what a variant makes invalid is told with its name."""
        try:
            return validate(ExperimentConfig, raw, self.path)
        except ConfigError as error:
            where = f" (in {name!r}, one of its variants)" if variant else ""
            raise ConfigError(f"{error}{where}") from error


def load_run(path: Path, overrides: Sequence[str] = ()) -> LoadedSweep:
    """The validated run of a file, all of its experiments too; an override replaces what the file, its variants and its
    grid say.

    Raises ConfigError for a file or override that is not a valid config, naming file, key and reason.
    """
    wanted = parse_overrides(overrides)
    if "seed" in wanted:
        wanted.setdefault("seeds", None)
    return load_raw_run(override(read_raw(path), wanted, path), path, overrides)


def load_raw_run(raw: Raw, path: Path, overrides: Sequence[str] = ()) -> LoadedSweep:
    """The validated run of a raw config, the overrides among it; `path` is for messages. Raises ConfigError."""
    loaded = LoadedSweep(run_as_sweep(raw, path), raw, path, tuple(overrides), command="run")
    points_ahead(loaded)
    return loaded


def run_as_sweep(raw: Raw, path: Path) -> SweepConfig:
    """The sweep that a run is: over its variants and its grid, and no point of it is chosen.

    Raises ConfigError for what is not a valid run.
    """
    run = validate(RunConfig, raw, path)
    given = {name: getattr(run, name) for name in RunConfig.model_fields if name != "grid"}
    sweep = validate(SweepConfig, {**given, "space": run.grid, "select": "test"}, path)
    return sweep.model_copy(update={"objectives": ()})


def resolved_yaml(trials: Iterable[Trial]) -> str:
    """Every experiment as a YAML document with all values filled in; a single one can be run as it is."""
    documents = ({"name": trial.name, **trial.config.model_dump(mode="json")} for trial in trials)
    return "---\n".join(yaml.safe_dump(values, sort_keys=False) for values in documents)


def load_sweep(path: Path, overrides: Sequence[str] = (), over: Raw | None = None) -> LoadedSweep:
    """The validated sweep of a file; `over` is merged over the file, and the overrides over both.

    Raises ConfigError as `load_raw_sweep`.
    """
    wanted = parse_overrides(overrides, SweepConfig)
    if "seed" in wanted:
        wanted.setdefault("seeds", None)
    return load_raw_sweep(override(merge(read_raw(path), over or {}), wanted, path), path, overrides)


def load_raw_sweep(raw: Raw, path: Path, overrides: Sequence[str] = ()) -> LoadedSweep:
    """The validated sweep of a raw config, the overrides among it.

    Every key of the space, and every value of each (with the first values of the others), is checked.

    Raises ConfigError naming file, key and reason.
    """
    loaded = LoadedSweep(validate(SweepConfig, raw, path), raw, path, tuple(overrides))
    first = {short: _limits(values)[0] for short, values in loaded.axes.items()}
    for short, values in loaded.axes.items():
        for value in _limits(values):
            loaded.point(0, {**first, short: value})
    _require_validation(loaded, loaded.point(0, first))
    baseline(loaded)
    return loaded


def points_ahead(loaded: LoadedSweep) -> list[Point]:
    """The points that are known before anything runs, the baseline first: all but those that `tpe` will choose."""
    tuner = loaded.sweep.tuner
    settings = [baseline(loaded)]
    if tuner.kind == "grid":
        names, values = tuple(loaded.axes), [_values(axis) for axis in loaded.axes.values()]
        settings += [dict(zip(names, chosen, strict=True)) for chosen in product(*values)]
    elif tuner.kind in ("random", "asha"):
        assert tuner.points is not None
        settings = _distinct(settings, _drawn(loaded), tuner.points)
    kept: dict[str, Point] = {}
    for chosen in settings:
        point = loaded.point(len(kept), chosen)
        kept.setdefault(point.trials[0][1].config.model_dump_json(), point)
    return list(kept.values())


def baseline(loaded: LoadedSweep) -> dict[str, Any]:
    """Settings of the trial that the others are compared with: as the sweep names them, or the first of a grid.

    Raises ConfigError for a key that is not in the space.
    """
    axes = loaded.axes
    if loaded.sweep.baseline is None:
        return {short: _limits(values)[0] for short, values in axes.items()}
    given = {}
    for key, value in loaded.sweep.baseline.items():
        short = key if key in axes else loaded.keys.get(resolve_key(key, ExperimentConfig), key)
        if short not in axes:
            raise ConfigError(f"{loaded.path}: baseline.{key} is not in the space: {', '.join(axes)}")
        given[short] = value
    if VARIANT in axes and given.get(VARIANT) not in (None, *loaded.sweep.variants):
        raise ConfigError(f"{loaded.path}: baseline.variant: no variant {given[VARIANT]!r}")
    return {short: given.get(short, _limits(values)[0]) for short, values in axes.items()}


def _require_validation(loaded: LoadedSweep, point: Point) -> None:
    held_out = all(trial.config.dataset.split.validation_defects for _, trial in point.trials)
    if loaded.sweep.select == "validation" and not held_out:
        raise ConfigError(
            f"{loaded.path}: choosing the best trial needs images held out of training: set dataset.split."
            "validation_fraction and dataset.split.validation_defects (or select=test, which the report flags)"
        )


def _drawn(loaded: LoadedSweep) -> Iterator[dict[str, Any]]:
    rng = np.random.default_rng(loaded.sweep.tuner.seed)
    for _ in range(_DRAWS * (loaded.sweep.tuner.points or 1)):
        yield {short: _draw(values, rng) for short, values in loaded.axes.items()}


def _distinct(settings: list[dict[str, Any]], drawn: Iterator[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """The first so many different ones; fewer where the space has no more."""
    kept = list(settings)
    for chosen in drawn:
        if len(kept) == count:
            break
        if chosen not in kept:
            kept.append(chosen)
    return kept


def _draw(values: RangeConfig | tuple[Any, ...], rng: np.random.Generator) -> Any:
    if not isinstance(values, RangeConfig):
        return values[int(rng.integers(len(values)))]
    low, high = values.low, values.high
    if isinstance(low, int) and isinstance(high, int) and not values.log:
        return int(rng.integers(low, high + 1))
    drawn = exp(rng.uniform(log(low), log(high))) if values.log else rng.uniform(low, high)
    return rounded(drawn, values)


def rounded(value: float, values: RangeConfig) -> int | float:
    """A number of a range as settings show it: whole where the limits are, else to four digits."""
    whole = isinstance(values.low, int) and isinstance(values.high, int)
    return round(value) if whole else min(max(float(f"{value:.4g}"), values.low), values.high)


def _limits(values: RangeConfig | tuple[Any, ...]) -> tuple[Any, ...]:
    return (values.low, values.high) if isinstance(values, RangeConfig) else values


def _values(values: RangeConfig | tuple[Any, ...]) -> tuple[Any, ...]:
    assert not isinstance(values, RangeConfig)  # a sweep's config refuses a range in a grid
    return values


def _shortest(key: str, keys: Sequence[str]) -> str:
    parts = key.split(".")
    for length in range(1, len(parts)):
        short = ".".join(parts[-length:])
        if not any(other != key and f".{other}".endswith(f".{short}") for other in keys) and short != VARIANT:
            return short
    return key


def _named(short: str, value: Any) -> str:
    if short == VARIANT:
        return str(value)
    return f"{short}={value if isinstance(value, str) else json.dumps(value)}"
