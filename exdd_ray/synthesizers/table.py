"""The table of synthesizers: those in this package, and those that installed packages add by an entry point.

An entry point of the group `exdd_ray.synthesizers` names a `Synthesizer`, as `mine = "my_package.mine:SYNTHESIZER"`.
"""

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Union

from pydantic import Field, TypeAdapter

from exdd_ray.config.systems import load_systems
from exdd_ray.synthesizers.config import DeviceConfig, SynthesizerConfig
from exdd_ray.synthesizers.synthesizer import Synthesizer

BUILT_IN = ("per_region", "cutpaste", "inpaint", "pasted", "lora", "dualanodiff", "mixture")


@cache
def synthesizers() -> Mapping[str, Synthesizer[Any]]:
    """Every synthesizer by its kind. Raises ConfigError as `load_systems`."""
    return load_systems(Synthesizer, "exdd_ray.synthesizers", BUILT_IN)


@cache
def any_synthesizer() -> TypeAdapter[SynthesizerConfig]:
    """Validates the config of a synthesizer of the table, whichever its kind."""
    configs: Any = Union[tuple(one.config for one in synthesizers().values())]  # noqa: UP007 (of a tuple)
    return TypeAdapter(Annotated[configs, Field(discriminator="kind")])


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
