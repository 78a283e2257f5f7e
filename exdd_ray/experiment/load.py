"""YAML files, their bases and overrides, merged and validated."""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from exdd_ray.config.base import Frozen, merge
from exdd_ray.config.bundled import find_config
from exdd_ray.config.keys import key_at, resolve_key, set_key, value_at
from exdd_ray.errors import ConfigError
from exdd_ray.experiment.config import ExperimentConfig, RunConfig
from exdd_ray.experiment.sweep_config import SweepConfig

_BEYOND = frozenset(SweepConfig.model_fields)  # keys of runs and sweeps, those of their experiments among them
_NAME = re.compile(r"~|0[0-9]+")  # a home folder and a name such as 01, which are null and 1 in YAML
_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")

Raw = dict[str, Any]
Config = TypeVar("Config", bound=Frozen)


@dataclass(frozen=True)
class Trial:
    """An experiment, under the name of the point that it is of."""

    name: str
    config: ExperimentConfig


def read_raw(path: Path, above: tuple[Path, ...] = ()) -> Raw:
    """A YAML file with its `base:` files merged under it, variables expanded; bases are names, or paths from it.

    Raises ConfigError for a missing or malformed file, an unset variable and a circle of bases.
    """
    path = path.resolve()
    if path in above:
        raise ConfigError(f"{path}: base files form a circle")
    raw = _parse(path)
    bases = raw.pop("base", [])
    merged: Raw = {}
    for base in [bases] if isinstance(bases, str) else bases:
        merged = merge(merged, read_raw(find_config(base, beside=path.parent), (*above, path)))
    return merge(merged, raw)


def _parse(path: Path) -> Raw:
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected keys and values, found {type(raw).__name__}")
    return {key: _expand(value, path) for key, value in raw.items()}


def _expand(value: Any, path: Path) -> Any:
    if isinstance(value, dict):
        return {key: _expand(inner, path) for key, inner in value.items()}
    if isinstance(value, list):
        return [_expand(inner, path) for inner in value]
    return _VARIABLE.sub(lambda match: _variable(match, path), value) if isinstance(value, str) else value


def _variable(match: re.Match[str], path: Path) -> str:
    name, default = match.groups()
    value = os.environ.get(name, default)
    if value is None:
        raise ConfigError(f"{path}: the environment variable {name} is not set")
    return value


def parse_overrides(arguments: Iterable[str], model: type[RunConfig] = RunConfig) -> Raw:
    """`key=value` arguments as full dotted key of the model -> value, which is YAML: `[1, 2]` and `null` work."""
    overrides: Raw = {}
    for argument in arguments:
        key, separator, text = argument.partition("=")
        if not separator:
            raise ConfigError(f"{argument!r} is not key=value")
        try:
            overrides[resolve_key(key, model)] = text if _NAME.fullmatch(text) else yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"{argument!r}: the value is not valid YAML") from error
    return overrides


def experiment_part(raw: Raw) -> Raw:
    """Of a raw run or sweep what its experiments have in common: without the keys that are not an experiment's."""
    return {key: value for key, value in raw.items() if key in ExperimentConfig.model_fields or key not in _BEYOND}


def _full(key: str) -> str:
    return resolve_key(key, ExperimentConfig)


def full_keys(patch: Mapping[str, Any]) -> Raw:
    """A mapping by shortened keys of an experiment as one by full keys. Raises ConfigError as resolve_key."""
    return {_full(key): value for key, value in patch.items()}


def apply_changes(raw: Raw, changes: Mapping[str, Any]) -> Raw:
    """A raw config with values at dotted paths replaced."""
    for path, value in changes.items():
        raw = set_key(raw, path, value)
    return raw


def apply_patch(raw: Raw, patch: Mapping[str, Any]) -> Raw:
    """A raw config with a variant's or a dataset's values by shortened keys: one replaced, a group merged key by key.

    A group of another `kind` replaces the one that is there, whose keys are not its own. Raises ConfigError as
    resolve_key.
    """
    for path, value in full_keys(patch).items():
        below = value_at(raw, path)
        if isinstance(below, Mapping) and isinstance(value, Mapping) and value.get("kind") in {None, below.get("kind")}:
            value = merge(below, value)
        raw = set_key(raw, path, value)
    return raw


def validate(model: type[Config], raw: Raw, path: Path) -> Config:
    """The config of a raw one; the first fault as a ConfigError that names file, key and reason."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_first_fault(error, model)}") from error


def _first_fault(error: ValidationError, model: type[Frozen]) -> str:
    fault, *others = error.errors()
    more = f" (and {len(others)} more)" if others else ""
    return f"{_fault(fault, key_at(model, fault['loc']), model)}{more}"


def _fault(fault: ErrorDetails, where: str, model: type[Frozen]) -> str:
    if fault["type"] == "extra_forbidden":
        try:
            resolve_key(where, model)
        except ConfigError as unknown:
            return str(unknown)
        return f"{where}: not a key of {'.'.join(map(str, fault['loc'][:-1]))}"
    if fault["type"] == "union_tag_invalid":
        context = fault["ctx"]
        return f"{where}.kind: one of {context['expected_tags']}, not {context['tag']!r}"
    if fault["type"] == "union_tag_not_found":
        return f"{where}: say which kind"
    if fault["type"] in {"model_type", "model_attributes_type"}:
        return f"{where}: a group of keys (`--help {where}` lists them), not {fault['input']!r}"
    if fault["type"] in {"tuple_type", "list_type"}:
        return f"{where}: expected a list, as [{fault['input']}], not {fault['input']!r}"
    reason = fault["msg"].removeprefix("Value error, ")
    given = "" if isinstance(fault["input"], dict) else f", not {fault['input']!r}"
    return f"{where}: {reason}{given}" if where else reason
