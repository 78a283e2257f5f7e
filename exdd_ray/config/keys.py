"""Dotted keys of a config: listing them from the schema, resolving shortened ones, setting them in a raw config.

Where a model may be one of several kinds, the keys of all of them are known.
"""

import difflib
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from exdd_ray.errors import ConfigError


@dataclass(frozen=True)
class Key:
    """One settable value: its dotted path, its type and default as text, and the kind of model that has it, if any."""

    path: str
    type: str
    default: str
    kind: str = ""


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, types.UnionType):
        return [model for part in get_args(annotation) for model in _models(part)]
    if get_origin(annotation) is Annotated:
        return _models(get_args(annotation)[0])
    return []


def _type_name(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")


def _kind(model: type[BaseModel]) -> str:
    return str(model.model_fields["kind"].default) if "kind" in model.model_fields else ""


def list_keys(model: type[BaseModel], prefix: str = "", kind: str = "") -> Iterator[Key]:
    """Every dotted key of a config model, nested models included (and themselves where they may be null)."""
    for name, field in model.model_fields.items():
        path, nested = f"{prefix}{name}", _models(field.annotation)
        if not nested or len(get_args(field.annotation)) > len(nested):
            yield Key(path, _type_name(field.annotation), str(field.get_default(call_default_factory=True)), kind)
        for inner in nested:
            yield from list_keys(inner, f"{path}.", _kind(inner) if len(nested) > 1 else kind)


def key_at(model: type[BaseModel], location: Sequence[str | int]) -> str:
    """The dotted key of the place that pydantic gives an error, which names the kind of a model as if it were a key."""
    path: list[str] = []
    models = [model]
    for part in location:
        if chosen := [one for one in models if _kind(one) == part]:
            models = chosen
            continue
        path.append(str(part))
        fields = [one.model_fields[str(part)] for one in models if part in one.model_fields]
        models = [inner for field in fields for inner in _models(field.annotation)]
    return ".".join(path)


def resolve_key(key: str, model: type[BaseModel]) -> str:
    """The full path of a key that may be given by its unambiguous ending, as `bank.negative.rate`.

    Raises ConfigError for an unknown key (the nearest is suggested) and for an ambiguous one (all are named).
    """
    paths = list(dict.fromkeys(entry.path for entry in list_keys(model)))
    known = dict.fromkeys([*paths, *(path.rsplit(".", n)[0] for path in paths for n in range(1, path.count(".") + 1))])
    if key in known:
        return key
    matches = [path for path in known if path.endswith(f".{key}")]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise ConfigError(f"config key {key!r} is ambiguous: {', '.join(matches)}")
    near = difflib.get_close_matches(key, [*known, *(path.split(".", 1)[-1] for path in known)], n=1)
    raise ConfigError(f"unknown config key {key!r}" + (f": did you mean {near[0]!r}?" if near else ""))


def set_key(raw: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of a raw config with the value at a dotted path replaced."""
    head, _, rest = path.partition(".")
    below = raw.get(head)
    inner = set_key(below if isinstance(below, Mapping) else {}, rest, value) if rest else value
    return {**raw, head: inner}
