"""Overrides: what the command line says wins over a file's base, and over its variants, datasets, grid and space."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from exdd_ray.config.base import without
from exdd_ray.config.keys import resolve_key, set_key, value_at
from exdd_ray.errors import ConfigError
from exdd_ray.experiment.config import VARIANT, ExperimentConfig
from exdd_ray.experiment.load import Raw, apply_changes

_PATCHES, _AXES, _BASELINE = ("variants", "datasets"), ("grid", "space"), "baseline"
_BESIDE = (*_PATCHES, *_AXES, _BASELINE)  # the base of all experiments


def override(raw: Raw, wanted: Mapping[str, Any], path: Path) -> Raw:
    """The raw run or sweep in which every experiment has the overridden values.

    Whatever else sets one of them is taken out. In a group that a variant, a dataset or the space gives whole, the
    override replaces the value; a group that is null there stays so, and has no values.

    Args:
        wanted: full dotted key -> value.

    Raises ConfigError for what the rungs of an adaptive search set, and for parts of the file that hold no keys.
    """
    kept = {**raw, **{key: value for key, value in wanted.items() if key in _BESIDE}}
    wanted = without(wanted, *_BESIDE)
    try:
        for name in _PATCHES:
            if kept.get(name):
                kept[name] = {each: _patch(patch or {}, wanted) for each, patch in kept[name].items()}
        for name in _AXES:
            if kept.get(name):
                kept[name] = _axes(kept[name], wanted)
        if kept.get(_BASELINE):
            kept[_BASELINE] = _baseline(kept[_BASELINE], wanted)
    except AttributeError as error:
        raise ConfigError(f"{path}: variants, grid and space hold keys and values") from error
    kept = apply_changes(kept, {key: value for key, value in wanted.items() if not _is_beside_the_base(kept, key)})
    _require_other_than_rungs(kept, wanted, path)
    return kept


def _patch(given: Mapping[str, Any], wanted: Mapping[str, Any]) -> Raw:
    """A variant's or a dataset's values by shortened keys, with the overrides in effect."""
    left = {key: value for key, value in given.items() if not _is_given(wanted, _full(key))}
    return {key: _overridden(value, _below(_full(key), wanted)) for key, value in left.items()}


def _axes(given: Mapping[str, Any], wanted: Mapping[str, Any]) -> Raw:
    """The values of axes, with the overrides in effect in each."""
    left = {key: values for key, values in given.items() if not _is_given(wanted, _full(key))}
    return {key: _each_overridden(values, _below(_full(key), wanted)) for key, values in left.items()}


def _each_overridden(values: Any, below: Mapping[str, Any]) -> Any:
    return [_overridden(value, below) for value in values] if below and isinstance(values, list | tuple) else values


def _baseline(given: Mapping[str, Any], wanted: Mapping[str, Any]) -> Raw:
    """Like a variant's; its keys may be shortened as far as its sweep's space allows, and so further."""
    kept = {key: value for key, value in given.items() if not any(full.endswith(f".{key}") for full in wanted)}
    chosen = {VARIANT: given[VARIANT]} if VARIANT in given else {}
    return {**_patch(without(kept, VARIANT), wanted), **chosen}


def _full(key: str) -> str:
    try:
        return resolve_key(key, ExperimentConfig)
    except ConfigError:  # told where the key is used
        return key


def _is_given(wanted: Mapping[str, Any], key: str) -> bool:
    """Whether overrides say what a key is: by itself, or in a group that is given whole, or null."""
    if key in wanted:
        return True
    above = [(group, key.removeprefix(f"{group}.")) for group in wanted if key.startswith(f"{group}.")]
    return any(not isinstance(wanted[group], Mapping) or _holds(wanted[group], rest) for group, rest in above)


def _holds(group: Mapping[str, Any], path: str) -> bool:
    head, _, rest = path.partition(".")
    if head not in group:
        return False
    return not rest or not isinstance(group[head], Mapping) or _holds(group[head], rest)


def _below(key: str, wanted: Mapping[str, Any]) -> Raw:
    """The overrides of values in a group, by their paths in it."""
    return {full.removeprefix(f"{key}."): value for full, value in wanted.items() if full.startswith(f"{key}.")}


def _overridden(given: Any, below: Mapping[str, Any]) -> Any:
    for path, value in below.items():
        given = _with(given, path, value)
    return given


def _with(given: Any, path: str, value: Any) -> Any:
    """A group with one value replaced; what is null in it stays so."""
    if not isinstance(given, Mapping):
        return given
    head, _, rest = path.partition(".")
    if rest and head in given and not isinstance(given[head], list | tuple):
        return {**given, head: _with(given[head], rest, value)}
    return set_key(given, path, value)


def _is_beside_the_base(raw: Raw, key: str) -> bool:
    """Whether a group above a key is null in the base, while all variants or datasets, or an axis, give it whole."""
    parts = key.split(".")
    groups = [".".join(parts[:count]) for count in range(1, len(parts))]
    return any(value_at(raw, group) is None and _is_given_beside(raw, group) for group in groups)


def _is_given_beside(raw: Raw, group: str) -> bool:
    patches: list[Sequence[Mapping[str, Any]]] = [tuple((raw.get(name) or {}).values()) for name in _PATCHES]
    by_patches = any(each and all(group in map(_full, patch) for patch in each) for each in patches)
    return by_patches or any(group in map(_full, raw.get(name) or {}) for name in _AXES)


def _require_other_than_rungs(raw: Raw, wanted: Mapping[str, Any], path: Path) -> None:
    key = value_at(raw, "tuner.fidelity.key")
    if isinstance(key, str) and _is_given(wanted, _full(key)):
        raise ConfigError(f"{path}: {key} is what the search raises: override tuner.fidelity.rungs instead")
