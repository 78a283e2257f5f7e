"""Strips: of each prompt the first synthetic samples, as many as a page has room for."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from exdd_ray.report.samples import Row, encode_sample
from exdd_ray.synthesizers.config import SynthesizerConfig
from exdd_ray.synthesizers.synthesize import SyntheticSample
from exdd_ray.synthesizers.table import samples_of_prompts

Group = Sequence[tuple[str, Sequence[SyntheticSample]]]  # prompts, each with its samples


@dataclass(frozen=True)
class Room:
    """What a page has room for.

    Attributes:
        each: samples of a prompt.
        total: samples of all prompts.
        characters: of all pictures and outlines.
    """

    each: int
    total: int
    characters: int


@dataclass(frozen=True)
class Strip:
    """The rows of a prompt that are shown: the first ones of all that are kept."""

    prompt: str
    rows: tuple[Row, ...]
    kept: int


def by_prompt(samples: Iterable[SyntheticSample], config: SynthesizerConfig) -> Group:
    """A synthesizer's prompts, each with its samples."""
    samples = list(samples)
    return [(prompt, [made for made in samples if made.prompt == prompt]) for prompt in samples_of_prompts(config)]


def first_samples(groups: Sequence[Group], room: Room) -> list[Group]:
    """The groups with the first samples of each prompt only, equally many where there are enough."""
    sizes = [len(samples) for group in groups for _, samples in group]
    fitting = (each for each in range(room.each, 0, -1) if sum(min(each, size) for size in sizes) <= room.total)
    most, left = next(fitting, 1), room.total
    chosen: list[Group] = []
    for group in groups:
        shown = []
        for prompt, samples in group:
            shown.append((prompt, samples[: min(most, left)]))
            left -= len(shown[-1][1])
        chosen.append(shown)
    return chosen


def make_strips(groups: Sequence[Group], room: Room) -> list[list[Strip]]:
    """The strips of each group.

    Raises:
        ImageError: a sample or its background cannot be read any more.
        ArtifactError: a sample without a mask.
    """
    shown = first_samples(groups, room)
    share = room.characters // max(1, sum(len(samples) for group in shown for _, samples in group))
    return [
        [
            Strip(prompt, tuple(encode_sample(made, share) for made in samples), len(everything))
            for (prompt, samples), (_, everything) in zip(first, group, strict=True)
        ]
        for first, group in zip(shown, groups, strict=True)
    ]
