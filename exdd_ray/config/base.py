"""The base of every config model: immutable, and unknown keys are refused."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

Size = tuple[int, int]  # height, width


class Frozen(BaseModel):
    """A frozen model that refuses unknown keys, and numbers that are none.

    A group that is given in part keeps what the default of its key sets, as `batch` in `training: {gpus: 0.5}`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _start_from_defaults(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        return {
            name: merge(cls._default_group(name), value) if isinstance(value, Mapping) else value
            for name, value in cls.filled(given).items()
        }

    @classmethod
    def filled(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """What is given, and what a preset of the class sets beside it."""
        return given

    @classmethod
    def _default_group(cls, name: str) -> dict[str, Any]:
        """What the default of a key sets; nothing where it may be of several classes."""
        field = cls.model_fields.get(name)
        if field is None or not isinstance(field.default, Frozen) or type(field.default) is not field.annotation:
            return {}
        return field.default.model_dump(exclude_unset=True)

    def aside(self) -> Iterable[str]:
        """Dotted keys that no result depends on, given the other values, or that name what is hashed itself."""
        return ()


def identity(config: Frozen) -> dict[str, Any]:
    """What of a config its results depend on, as JSON values: its part of their keys."""
    kept = config.model_dump(mode="json")
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, Frozen):
            kept[name] = identity(value)
        elif isinstance(value, tuple) and value and all(isinstance(one, Frozen) for one in value):
            kept[name] = [identity(one) for one in value]
    for key in config.aside():
        _drop(kept, key.split("."))
    return kept


def without(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The values but for some."""
    return {name: value for name, value in values.items() if name not in names}


def _drop(values: dict[str, Any], path: Sequence[str]) -> None:
    *above, last = path
    for name in above:
        values = values.get(name) or {}
    values.pop(last, None)


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Nested merge of two raw configs; `over` wins, mappings merge key by key, everything else is replaced."""
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged
