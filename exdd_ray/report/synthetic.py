"""The synthetic defects that a run's trials train on, as its report shows them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from exdd_ray.experiment.stored_result import StoredResult
from exdd_ray.report.numbers import Group, first_seed, is_leakage
from exdd_ray.report.strips import Room, Strip, by_prompt, make_strips
from exdd_ray.synthesizers.config import SynthesizerConfig
from exdd_ray.synthesizers.leaves import leaves

ROOM = Room(each=3, total=24, characters=1_000_000)


@dataclass(frozen=True)
class PartCount:
    """Samples of a part of a mixture: how many were asked for, kept and dropped."""

    part: str
    asked: int
    kept: int
    dropped: int

    @property
    def lacking(self) -> int:
        """Samples for which no good one was found."""
        return self.asked - self.kept


@dataclass(frozen=True)
class SyntheticSet:
    """What one trial's synthesizer made of one category.

    Attributes:
        title: trial, category and seed.
        config: of the synthesizer.
        dropped: samples that failed or were filtered out.
        leaks: a remark tells of leakage.
        parts: of a mixture.
    """

    title: str
    config: SynthesizerConfig
    strips: tuple[Strip, ...]
    dropped: int
    leaks: bool
    parts: tuple[PartCount, ...]


def synthetic_sets(groups: Sequence[Group]) -> tuple[SyntheticSet, ...]:
    """The sets of the first seed's trials; of trials that share their first samples, the one with the most.

    Raises:
        ImageError: a sample or its background cannot be read any more.
        ArtifactError: a sample without a mask.
    """
    results = [result for group in groups for result in _distinct(first_seed(group.results))]
    strips = make_strips([by_prompt(result.samples, _config(result)) for result in results], ROOM)
    return tuple(
        SyntheticSet(
            title=f"{result.trial.name} · {result.category} · seed {result.trial.config.seed}",
            config=_config(result),
            strips=tuple(shown),
            dropped=result.dropped,
            leaks=any(map(is_leakage, result.remarks)),
            parts=tuple(_parts(result)),
        )
        for result, shown in zip(results, strips, strict=True)
    )


def _distinct(results: Sequence[StoredResult]) -> list[StoredResult]:
    """Of the trials with synthetic samples those that are to be shown: fewer samples are a prefix of more."""
    chosen: dict[tuple[str, ...], StoredResult] = {}
    for result in results:
        if result.samples:
            groups = by_prompt(result.samples, _config(result))
            key = tuple(samples[0].row.image for _, samples in groups if samples)
            if key not in chosen or len(chosen[key].samples) < len(result.samples):
                chosen[key] = result
    return list(chosen.values())


def _parts(result: StoredResult) -> Iterator[PartCount]:
    kept = Counter(made.part for made in result.samples)
    for leaf in leaves(_config(result)):
        if leaf.part:
            yield PartCount(leaf.part, leaf.config.count, kept[leaf.part], result.dropped_of_parts[leaf.part])


def _config(result: StoredResult) -> SynthesizerConfig:
    config = result.trial.config.synthesizer
    assert config is not None  # or it would have no synthetic samples
    return config
