"""Mixtures resolved: the synthesizers that make the samples themselves, and which sample is of which."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

from exdd_ray.synthesizers.config import SynthesizerConfig
from exdd_ray.synthesizers.table import synthesizer_of


@dataclass(frozen=True)
class Leaf:
    """A synthesizer that makes samples itself.

    Attributes:
        part: tells it from the others of a mixture; empty where it is no part of one.
        config: of the synthesizer, with its count of the mixture's samples.
        path: dotted key of the config.
        draw: of those that take one of its prompts, which one this is; each makes samples of its own.
    """

    part: str
    config: SynthesizerConfig
    path: str = "synthesizer"
    draw: int = 0

    @property
    def name(self) -> str:
        """Of the part, or of the synthesizer's kind."""
        return self.part or self.config.kind


def leaves(config: SynthesizerConfig) -> tuple[Leaf, ...]:
    """The synthesizers that make the samples of a config: those in a mixture, or the one that it is.

    Parts are named by their kinds; several of a kind are counted from 1.
    """
    if not synthesizer_of(config).parts(config):
        return (Leaf("", config),)
    counts, places = Counter(turns(config)), list(_unmixed(config, "synthesizer"))
    kinds, numbers, drawn = Counter(one.kind for _, one in places), Counter[str](), Counter[str]()
    found = []
    for place, (path, one) in enumerate(places):
        numbers[one.kind] += 1
        part = one.kind if kinds[one.kind] == 1 else f"{one.kind} {numbers[one.kind]}"
        prompts = synthesizer_of(one).prompts(one)
        draw = max(drawn[prompt] for prompt in prompts)
        drawn |= dict.fromkeys(prompts, draw + 1)
        found.append(Leaf(part, one.model_copy(update={"count": counts[place]}), path, draw))
    return tuple(found)


def have_masks(config: SynthesizerConfig) -> bool:
    """Whether all samples of a config have masks."""
    return all(synthesizer_of(leaf.config).masks(leaf.config) for leaf in leaves(config))


def turns(config: SynthesizerConfig) -> tuple[int, ...]:
    """Which of its leaves makes each of `count` samples; of fewer samples it is the beginning."""
    parts = synthesizer_of(config).parts(config)
    if not parts:
        return (0,) * config.count
    taken = apportioned(tuple(part.share for part in parts), config.count)
    each, first = [], 0
    for place, part in enumerate(parts):
        its = turns(part.synthesizer.model_copy(update={"count": taken.count(place)}))
        each.append(iter([first + leaf for leaf in its]))
        first += len(list(_unmixed(part.synthesizer, "")))
    return tuple(next(each[place]) for place in taken)


def each_leaf(config: SynthesizerConfig, change: Callable[[SynthesizerConfig], SynthesizerConfig]) -> SynthesizerConfig:
    """The config with a change made to the synthesizers that make its samples."""
    parts = synthesizer_of(config).parts(config)
    if not parts:
        return change(config)
    changed = tuple(part.model_copy(update={"synthesizer": each_leaf(part.synthesizer, change)}) for part in parts)
    return config.model_copy(update={"parts": changed})


@cache
def apportioned(shares: Sequence[float], count: int) -> tuple[int, ...]:
    """Which part each of `count` samples belongs to, by the quota method of apportionment.

    Of the parts that have less than their share of the samples so far, this one among them, it is the one with the
    largest share for each sample that it would have; of equal ones the first. At any count a part has its share of the
    samples, rounded up or down, and fewer are the beginning of more (Balinski and Young, The quota method of
    apportionment, American Mathematical Monthly 82, 1975).

    Args:
        shares: above zero, of any sum.
    """
    exact = [Fraction(str(share)) for share in shares]
    taken, found = [0] * len(exact), []
    for number in range(1, count + 1):
        behind = [place for place, share in enumerate(exact) if taken[place] * sum(exact) < share * number]
        chosen = max(behind, key=lambda place: exact[place] / (taken[place] + 1))
        taken[chosen] += 1
        found.append(chosen)
    return tuple(found)


def _unmixed(config: SynthesizerConfig, path: str) -> Iterator[tuple[str, SynthesizerConfig]]:
    """The synthesizers that make samples themselves, each with its dotted key."""
    parts = synthesizer_of(config).parts(config)
    if not parts:
        yield path, config
    for place, part in enumerate(parts):
        yield from _unmixed(part.synthesizer, f"{path}.parts.{place}.synthesizer")
