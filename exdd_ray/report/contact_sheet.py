"""The contact sheet: what synthesizers made, counted, measured and shown beside the backgrounds it was made from."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path

import yaml

from exdd_ray.errors import ArtifactError, DataError
from exdd_ray.metrics.quality.evaluate import QualityReport
from exdd_ray.report.environment import page_environment, versions
from exdd_ray.report.numbers import Flag, count_of, is_leakage
from exdd_ray.report.strips import Room, asked_for, by_prompt, make_strips, title_of
from exdd_ray.store.folders import MANIFEST
from exdd_ray.synthesizers.config import SynthesizerConfig
from exdd_ray.synthesizers.leaves import leaves
from exdd_ray.synthesizers.synthesize import Synthesis

ROOM = Room(each=8, total=60, characters=2_700_000)


@dataclass(frozen=True)
class Timing:
    """How long it took to make samples; those that the store held already do not count."""

    samples: int
    seconds: float

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.samples / self.seconds


@dataclass(frozen=True)
class SynthesisSet:
    """What one trial's synthesizer made of one category, and what is known about it.

    Attributes:
        trial, dataset, category, seed: where it is from.
        config: of the synthesizer, resolved.
        synthesis: what it made.
        timing: None where nothing was made anew.
        quality: None where it was not measured.
        remarks: what a reader must know; those that start with `leakage` are shown in red.
    """

    trial: str
    dataset: str
    category: str
    seed: int
    config: SynthesizerConfig
    synthesis: Synthesis
    timing: Timing | None = None
    quality: QualityReport | None = None
    remarks: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Trial, category and seed."""
        return f"{self.trial} · {self.category} · seed {self.seed}"

    @property
    def leaks(self) -> bool:
        """Whether a remark tells of leakage."""
        return any(map(is_leakage, self.remarks))


@dataclass(frozen=True)
class Count:
    """Samples of a part and a prompt, or of either: how many were asked for, and how many are good of those drawn."""

    part: str
    prompt: str
    asked: int
    kept: int
    drawn: int

    @property
    def title(self) -> str:
        """As `title_of`."""
        return title_of(self.part, self.prompt)

    @property
    def dropped(self) -> int:
        """Those that failed or were filtered out."""
        return self.drawn - self.kept


def write_contact_sheet(path: Path, name: str, sets: Sequence[SynthesisSet]) -> None:
    """Write one HTML file that needs no other file and no network.

    Raises:
        DataError: no set; counts that contradict each other.
        ImageError: a sample or its background cannot be read any more.
        ArtifactError: a sample's artifact is damaged.
    """
    path.write_text(render_contact_sheet(name, sets), encoding="utf-8")


def render_contact_sheet(name: str, sets: Sequence[SynthesisSet]) -> str:
    """The HTML of write_contact_sheet."""
    if not sets:
        raise DataError("no synthesis to show")
    environment = page_environment()
    counts = [count_samples(entry) for entry in sets]
    groups = [by_prompt(entry.synthesis.samples, entry.config) for entry in sets]
    return environment.get_template("synthesis.html.jinja").render(
        name=name,
        headline=headline(sets, counts),
        written=datetime.now().astimezone(),
        versions=versions(),
        flags=_flags(sets),
        sets=list(zip(sets, counts, make_strips(groups, ROOM), strict=True)),
        count_rows=count_rows,
        configs=[(entry, _config_yaml(entry.config), makers(entry.synthesis)) for entry in sets],
        room=ROOM,
    )


def count_samples(entry: SynthesisSet) -> tuple[Count, ...]:
    """Counts of each prompt. Raises DataError where they do not add up."""
    samples = entry.synthesis.samples
    kept_of = Counter((made.part, made.prompt) for made in samples)
    counts = tuple(
        Count(
            asked.part,
            asked.prompt,
            asked.count,
            kept_of[asked.part, asked.prompt],
            entry.synthesis.parts.get(asked.part, entry.synthesis).drawn.get(asked.prompt, asked.count),
        )
        for asked in asked_for(entry.config)
    )
    drawn, kept = sum(count.drawn for count in counts), len(samples)
    dropped, strange = sum(entry.synthesis.dropped.values()), kept - sum(count.kept for count in counts)
    if drawn != kept + dropped or strange:
        unknown = f"; {strange} of unknown prompts" if strange else ""
        raise DataError(f"{entry.title}: {drawn} samples drawn, but {kept} are kept and {dropped} dropped{unknown}")
    return counts


def count_rows(counts: Sequence[Count]) -> tuple[Count, ...]:
    """The rows of a table of counts below that of all: of each part one of its own, and one of each of its prompts."""
    rows = []
    for part, its in groupby(counts, key=lambda count: count.part):
        of_prompts = list(its)
        if part:
            asked, kept, drawn = (sum(getattr(one, name) for one in of_prompts) for name in ("asked", "kept", "drawn"))
            rows.append(Count(part, "", asked, kept, drawn))
        rows += [one for one in of_prompts if one.prompt]
    return tuple(rows)


def headline(sets: Sequence[SynthesisSet], counts: Sequence[Sequence[Count]]) -> str:
    """One sentence: how many samples of what, on what."""
    kept = sum(count.kept for group in counts for count in group)
    drawn = sum(count.drawn for group in counts for count in group)
    prompts = {asked.prompt for entry in sets for asked in asked_for(entry.config) if asked.prompt}
    makers_of = [leaf.config.kind for entry in sets for leaf in leaves(entry.config)]
    kinds = ", ".join(dict.fromkeys(kind.replace("_", "-") for kind in makers_of))
    named = f" of {count_of(len(prompts), 'prompt', 'prompts')}" if prompts else ""
    where = ", ".join(dict.fromkeys(f"{entry.dataset} / {entry.category}" for entry in sets))
    lost = f" {drawn - kept} of {drawn} were dropped." if drawn > kept else ""
    return f"{count_of(kept, 'synthetic defect', 'synthetic defects')}{named}, made by {kinds} on {where}.{lost}"


def makers(synthesis: Synthesis) -> tuple[str, ...]:
    """The distinct package versions that made the samples, as their artifacts tell. Raises ArtifactError."""
    folders = dict.fromkeys(Path(made.row.image).parent for made in synthesis.samples)
    return tuple(dict.fromkeys(map(_maker, folders)))


def _maker(folder: Path) -> str:
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["metadata"]["versions"]
        return ", ".join(f"{package} {version}" for package, version in found.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{folder}: damaged artifact ({error})") from error


def _flags(sets: Sequence[SynthesisSet]) -> list[Flag]:
    """Every distinct remark with the sets that it is about, leakage first."""
    found: list[Flag] = []
    for remark in dict.fromkeys(remark for entry in sets for remark in entry.remarks):
        about = [entry.title for entry in sets if remark in entry.remarks]
        found.append(Flag(remark, "" if len(about) == len(sets) else "; ".join(about), is_leakage(remark)))
    return sorted(found, key=lambda flag: not flag.leakage)


def _config_yaml(config: SynthesizerConfig) -> str:
    return str(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True))
