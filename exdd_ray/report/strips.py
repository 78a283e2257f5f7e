"""Strips: of each part and prompt the first synthetic samples, as many as a page has room for."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from exdd_ray.report.samples import Row, encode_sample
from exdd_ray.synthesizers.config import SynthesizerConfig
from exdd_ray.synthesizers.leaves import leaves
from exdd_ray.synthesizers.synthesize import SyntheticSample
from exdd_ray.synthesizers.table import samples_of_prompts

Group = Sequence[tuple[str, Sequence[SyntheticSample]]]  # parts and prompts, each with its samples


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
    """The rows of a part or a prompt that are shown: the first ones of all that are kept."""

    title: str
    rows: tuple[Row, ...]
    kept: int


@dataclass(frozen=True)
class Asked:
    """What is asked for together: samples of a part (empty without a mixture) and a prompt (empty without one)."""

    part: str
    prompt: str
    count: int


def title_of(part: str, prompt: str) -> str:
    """Names both; empty where a synthesizer has neither."""
    return " · ".join(filter(None, (part, prompt)))


def asked_for(config: SynthesizerConfig) -> Iterator[Asked]:
    """What a synthesizer's samples are asked for by: its parts, and their prompts."""
    for leaf in leaves(config):
        for prompt, count in samples_of_prompts(leaf.config).items():
            yield Asked(leaf.part, prompt, count)


def by_prompt(samples: Iterable[SyntheticSample], config: SynthesizerConfig) -> Group:
    """A synthesizer's parts and prompts, each with its samples."""
    found: dict[tuple[str, str], list[SyntheticSample]] = {(one.part, one.prompt): [] for one in asked_for(config)}
    for made in samples:
        found[made.part, made.prompt].append(made)
    return [(title_of(*by), its) for by, its in found.items()]


def first_samples(groups: Sequence[Group], room: Room) -> list[Group]:
    """The groups with the first samples of each prompt only, equally many where there are enough."""
    sizes = [len(samples) for group in groups for _, samples in group]
    fitting = (each for each in range(room.each, 0, -1) if sum(min(each, size) for size in sizes) <= room.total)
    most, left = next(fitting, 1), room.total
    chosen: list[Group] = []
    for group in groups:
        shown = []
        for title, samples in group:
            shown.append((title, samples[: min(most, left)]))
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
            Strip(title, tuple(encode_sample(made, share) for made in samples), len(everything))
            for (title, samples), (_, everything) in zip(first, group, strict=True)
        ]
        for first, group in zip(shown, groups, strict=True)
    ]
