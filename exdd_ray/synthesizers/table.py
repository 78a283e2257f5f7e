"""The table of synthesizers: those in this package, and those that installed packages add by an entry point.

An entry point of the group `exdd_ray.synthesizers` names a `Synthesizer`, as `mine = "my_package.mine:SYNTHESIZER"`.
"""

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from exdd_ray.errors import ConfigError, one_line
from exdd_ray.synthesizers.config import DeviceConfig, SynthesizerConfig
from exdd_ray.synthesizers.synthesizer import Synthesizer

GROUP = "exdd_ray.synthesizers"
BUILT_IN = ("per_region", "cutpaste", "inpaint", "pasted")


@cache
def synthesizers() -> Mapping[str, Synthesizer[Any]]:
    """Every synthesizer by its kind.

    Raises ConfigError for an entry point that is no synthesizer, cannot be loaded, or takes the name of another.
    """
    table = {name: _built_in(name) for name in BUILT_IN}
    for entry in entry_points(group=GROUP):
        synthesizer = _loaded(entry)
        if synthesizer.kind in table:
            raise ConfigError(f"the entry point {entry.name} ({entry.value}) is a second {synthesizer.kind!r}")
        table[synthesizer.kind] = synthesizer
    return table


def _built_in(name: str) -> Synthesizer[Any]:
    """That of a folder's `synthesizer`, or of a module alone."""
    module = import_module(f"exdd_ray.synthesizers.{name}")
    home = import_module(f"{module.__name__}.synthesizer") if hasattr(module, "__path__") else module
    synthesizer: Synthesizer[Any] = home.SYNTHESIZER
    return synthesizer


def _loaded(entry: EntryPoint) -> Synthesizer[Any]:
    try:
        found = entry.load()
    except Exception as error:  # of another package's code
        raise ConfigError(
            f"the entry point {entry.name} ({entry.value}) cannot be loaded: {one_line(error)}"
        ) from error
    if not isinstance(found, Synthesizer):
        raise ConfigError(f"the entry point {entry.name} ({entry.value}) of {GROUP} is not a Synthesizer")
    return found


def synthesizer_of(config: SynthesizerConfig) -> Synthesizer[Any]:
    """The synthesizer that a config is of."""
    return synthesizers()[config.kind]


def run_of(config: SynthesizerConfig) -> DeviceConfig | None:
    """How the model of a config's synthesizer is run; None without a model."""
    return synthesizer_of(config).run(config)


def samples_of_prompts(config: SynthesizerConfig) -> dict[str, int]:
    """How many of `count` samples each prompt has; one empty prompt has all where a synthesizer takes none.

    Sample i takes prompt i mod n, so that fewer samples are a beginning of more.
    """
    prompts = synthesizer_of(config).prompts(config)
    return {prompt: len(range(first, config.count, len(prompts))) for first, prompt in enumerate(prompts)}
