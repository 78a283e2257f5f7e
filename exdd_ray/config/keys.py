"""Dotted keys of a config: listing them from the schema, resolving shortened ones, setting them in a raw config.

Where a model may be one of several kinds, the keys of all of them are known. What is in a list of models is known by
its place in it, counted from 0, as `synthesizer.parts.0.share`.
"""

import builtins
import difflib
import inspect
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from exdd_ray.errors import ConfigError


@dataclass(frozen=True)
class Key:
    """One settable value, or a group of them.

    Attributes:
        path: dotted.
        type: as text, with the values of a choice; of a group nothing.
        default: as text.
        kind: of the model that has it, where there are several.
        meaning: one line, of the model's docstring.
        items: of a list of models, what they may be.
    """

    path: str
    type: str
    default: str
    kind: str = ""
    meaning: str = ""
    items: "tuple[builtins.type[BaseModel], ...]" = ()


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        of_all_kinds = "kind" in annotation.model_fields and annotation.model_fields["kind"].is_required()
        return (
            [model for one in annotation.__subclasses__() for model in _models(one)] if of_all_kinds else [annotation]
        )
    if get_origin(annotation) in (Union, types.UnionType):
        return [model for part in get_args(annotation) for model in _models(part)]
    if get_origin(annotation) is Annotated:
        return _models(get_args(annotation)[0])
    return []


def _items(annotation: Any) -> list[type[BaseModel]]:
    """What the items of a list may be."""
    return _models(get_args(annotation)[0]) if get_origin(annotation) is tuple else []


def _type_name(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return " | ".join(map(str, get_args(annotation)))
    if get_origin(annotation) in (Union, types.UnionType):
        return " or ".join(map(_type_name, get_args(annotation)))
    if annotation is type(None):
        return "null"
    if isinstance(annotation, type) and not get_args(annotation):
        return "the keys below" if issubclass(annotation, BaseModel) else annotation.__name__
    return re.sub(r"\b(?:[a-z_]+\.)+(?=[A-Z])", "", str(annotation))


def _default(name: str, field: FieldInfo, group: BaseModel | None) -> Any:
    """The value where none is given: that of the group that is there by default, else the field's own."""
    return field.get_default(call_default_factory=True) if group is None else getattr(group, name)


def _text(value: Any) -> str:
    """As it would be given; nothing where it must be, and of a group, as its keys have theirs."""
    if value is PydanticUndefined or isinstance(value, BaseModel):
        return ""
    if isinstance(value, tuple) and value and all(isinstance(one, BaseModel) for one in value):
        items = ("{" + ", ".join(f"{name}: {_text(own)}" for name, own in one) + "}" for one in value)
        return f"[{', '.join(items)}]"
    return {"None": "null", "True": "true", "False": "false"}.get(str(value), str(value))


def _kind(model: type[BaseModel]) -> str:
    return str(model.model_fields["kind"].default) if "kind" in model.model_fields else ""


def _meanings(model: type[BaseModel]) -> dict[str, str]:
    """Field -> what the `Attributes` of the model's docstring, and of its bases', say of it."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        section = inspect.cleandoc(base.__doc__ or "").partition("\nAttributes:\n")[2]
        for names, text in re.findall(r"^    (\w[\w, ]*): (.*(?:\n {8,}.*)*)", section, re.MULTILINE):
            found |= dict.fromkeys(names.split(", "), " ".join(text.split()))
    return found


def list_keys(
    model: type[BaseModel], prefix: str = "", kind: str = "", group: BaseModel | None = None
) -> Iterator[Key]:
    """Every dotted key of a config model, nested models included (and themselves where they may be null).

    Args:
        group: the model as it is by default where it is nested; its values are the defaults.
    """
    meanings = _meanings(model)
    for name, field in model.model_fields.items():
        path, nested, default = f"{prefix}{name}", _models(field.annotation), _default(name, field, group)
        if not nested or len(get_args(field.annotation)) > len(nested):
            meaning, items = meanings.get(name, "") or _summary(nested), tuple(_items(field.annotation))
            yield Key(path, _type_name(field.annotation), _text(default), kind, meaning, items)
        for inner in nested:
            below = default if type(default) is inner else None
            yield from list_keys(inner, f"{path}.", _kind(inner) if len(nested) > 1 else kind, below)


def list_groups(model: type[BaseModel], prefix: str = "", kind: str = "") -> Iterator[Key]:
    """Every nested model of a config model, by the key that it is below."""
    for name, field in model.model_fields.items():
        nested = _models(field.annotation)
        for inner in nested:
            kind_here = _kind(inner) if len(nested) > 1 else kind
            yield Key(f"{prefix}{name}", "", "", kind_here, _summary([inner]))
            yield from list_groups(inner, f"{prefix}{name}.", kind_here)


def _summary(models: Sequence[type[BaseModel]]) -> str:
    """The first lines of the models' docstrings."""
    return " Or: ".join(inspect.cleandoc(model.__doc__ or "").partition("\n\n")[0] for model in models)


def key_at(model: type[BaseModel], location: Sequence[str | int]) -> str:
    """The dotted key of the place that pydantic gives an error, which names the kind of a model as if it were a key."""
    path: list[str] = []
    models = [model]
    for part in location:
        if chosen := [one for one in models if _kind(one) == part]:
            models = chosen
            continue
        path.append(str(part))
        if isinstance(part, int):  # in a list, whose items these models are
            continue
        annotations = [one.model_fields[part].annotation for one in models if part in one.model_fields]
        models = [inner for annotation in annotations for inner in _models(annotation) or _items(annotation)]
    return ".".join(path)


_RENAMED = {"searcher": "tuner"}  # what a key was called before


def resolve_key(key: str, model: type[BaseModel]) -> str:
    """The full path of a key that may be given by its unambiguous ending, as `bank.negative.rate`.

    Of several keys with this ending the outermost is meant.

    Raises ConfigError for an unknown key (the nearest is suggested) and for an ambiguous one (all are named).
    """
    if found := re.fullmatch(r"(.+?)\.(\d+)(?:\.(.+))?", key):
        return _resolve_in_list(found[1], found[2], found[3], model)
    known = _known_paths(model, _descendants(BaseModel))
    if key in known:
        return key
    matches = [path for path in known if path.endswith(f".{key}")]
    outermost = min((path.count(".") for path in matches), default=0)
    matches = [path for path in matches if path.count(".") == outermost]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise ConfigError(f"config key {key!r} is ambiguous: {', '.join(matches)}")
    head, *rest = key.split(".")
    if head in _RENAMED:
        raise ConfigError(f"config key {head!r} is {_RENAMED[head]!r} now: {'.'.join([_RENAMED[head], *rest])}")
    near = [path for path in known if _holds(path.split("."), key.split("."))]
    near = near or difflib.get_close_matches(key, [*known, *(path.split(".", 1)[-1] for path in known)], n=1)
    raise ConfigError(f"unknown config key {key!r}" + (f": did you mean {near[0]!r}?" if near else ""))


@cache
def _known_paths(model: type[BaseModel], _: frozenset[type]) -> tuple[str, ...]:
    """Paths of all keys and groups of a model, given all models that there are: one may be of any of their kinds."""
    paths = list(dict.fromkeys(entry.path for entry in list_keys(model)))
    above = (path.rsplit(".", n)[0] for path in paths for n in range(1, path.count(".") + 1))
    return tuple(dict.fromkeys([*paths, *above]))


def _descendants(model: type) -> frozenset[type]:
    return frozenset({model}).union(*map(_descendants, model.__subclasses__()))


def _resolve_in_list(key: str, place: str, rest: str | None, model: type[BaseModel]) -> str:
    path = resolve_key(key, model)
    items = next((entry.items for entry in list_keys(model) if entry.path == path and entry.items), ())
    if not items:
        raise ConfigError(f"{path} is no list of groups of keys: give it as a whole, not {key}.{place}")
    if rest is None:
        return f"{path}.{place}"
    try:
        return f"{path}.{place}.{resolve_key(rest, items[0])}"
    except ConfigError as error:
        raise ConfigError(f"{path}.{place}: {error}") from error


def _holds(path: Sequence[str], parts: Sequence[str]) -> bool:
    """Whether parts occur in a path in their order, others between them."""
    rest = iter(path)
    return all(part in rest for part in parts)


def value_at(raw: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path of a raw config; None where there is none."""
    found: Any = raw
    for name in path.split("."):
        if isinstance(found, list | tuple):
            found = found[int(name)] if name.isdigit() and int(name) < len(found) else None
        else:
            found = found.get(name) if isinstance(found, Mapping) else None
    return found


def set_key(raw: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of a raw config with the value at a dotted path replaced.

    Raises ConfigError for a place that a list does not have.
    """
    head, _, rest = path.partition(".")
    below = raw.get(head)
    if rest and isinstance(below, list | tuple):
        return {**raw, head: _set_in_list(head, below, rest, value)}
    inner = set_key(below if isinstance(below, Mapping) else {}, rest, value) if rest else value
    return {**raw, head: inner}


def _set_in_list(name: str, items: Sequence[Any], path: str, value: Any) -> list[Any]:
    place, _, rest = path.partition(".")
    if not place.isdigit() or int(place) >= len(items):
        raise ConfigError(f"{name}.{path}: {name} is a list of {len(items)}, counted from 0, and has no {place}")
    at, changed = int(place), list(items)
    inner = changed[at] if isinstance(changed[at], Mapping) else {}
    changed[at] = set_key(inner, rest, value) if rest else value
    return changed
