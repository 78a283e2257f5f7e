"""The synthesis of a run alone: what its experiments would train on, without training."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from exdd_ray.data.catalog import UNSPLIT, build_catalog, catalog_rows, select_rows
from exdd_ray.device import compute_device
from exdd_ray.errors import ConfigError
from exdd_ray.experiment.dataset import by_category, load_catalog, split_universe
from exdd_ray.experiment.load import Trial
from exdd_ray.experiment.remarks import synthesis_remarks
from exdd_ray.experiment.session import Session
from exdd_ray.experiment.synthesis import fine_tune, missing_fits, run_synthesis
from exdd_ray.experiment.trial import readable_ids
from exdd_ray.metrics.quality.config import QualityConfig
from exdd_ray.synthesizers.leaves import each_leaf
from exdd_ray.synthesizers.synthesize import ORIGIN, Synthesis
from exdd_ray.synthesizers.table import synthesizer_of

if TYPE_CHECKING:
    from exdd_ray.metrics.quality.evaluate import QualityReport


@dataclass(frozen=True)
class SynthesisResult:
    """What one experiment's synthesizer made for one category.

    Attributes:
        defects: all real defects of the category, to compare with, each with its split.
        seconds: that it took.
        unreadable: the remark on images that were left out.
    """

    trial: Trial
    category: str
    synthesis: Synthesis
    defects: pa.Table
    seconds: float
    unreadable: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Names the experiment, the category and the seed."""
        return f"{self.trial.name}, {self.category}, seed {self.trial.config.seed}"

    def quality(self, config: QualityConfig, session: Session) -> "QualityReport":
        """The samples against the category's real defects that have a mask.

        Raises DataError where there are fewer than two of either, UserError for weights that cannot be had.
        """
        from exdd_ray.metrics.quality.evaluate import measure_quality
        from exdd_ray.metrics.quality.kinds import measure_kinds

        real = [row for row in catalog_rows(self.defects) if row.mask is not None]
        made, device = [sample.row for sample in self.synthesis.samples], compute_device()
        report = measure_quality(real, made, config, device=device)
        if config.kinds is None:
            return report
        seed, progress = self.trial.config.seed, session.progress
        return report.and_of(
            measure_kinds(real, made, config, session.store, seed=seed, device=device, progress=progress)
        )

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a reader must know."""
        return synthesis_remarks(self.trial.config) + self.unreadable + self.synthesis.remark


def run_syntheses(trials: Sequence[Trial], session: Session) -> list[SynthesisResult]:
    """The synthesis of every trial on every category; equal ones are made once.

    Raises ConfigError where no trial has a synthesizer, UserError where a model cannot be had.
    """
    wanted = {
        trial.config.model_dump_json(exclude={"detector", "evaluation"}): trial
        for trial in map(pinned_trial, reversed(trials))
        if trial.config.synthesizer is not None
    }
    if not wanted:
        raise ConfigError("nothing to synthesize: the config has no synthesizer")
    asked = [one for trial in reversed(wanted.values()) for one in _asked(trial, session)]
    fits = [fit for one in asked for fit in missing_fits(one.trial.config, one.whole, one.train, session, one.title)]
    fine_tune(fits, session)
    return [_run(one, session) for one in asked]


def pinned_trial(trial: Trial) -> Trial:
    """The trial with the commit that the revision of its hub's model names now.

    Raises UserError where the model cannot be had.
    """
    given = trial.config.synthesizer
    if given is None:
        return trial
    synthesizer = each_leaf(given, lambda leaf: synthesizer_of(leaf).pinned(leaf))
    return dataclasses.replace(trial, config=trial.config.model_copy(update={"synthesizer": synthesizer}))


def write_samples(path: Path, results: Sequence[SynthesisResult]) -> None:
    """Write the catalog of all samples as Parquet, with trial, prompt, seed and what they were made from and by."""
    rows = [
        {
            "trial": result.trial.name,
            **dataclasses.asdict(made.row),
            "part": made.part,
            "prompt": made.prompt,
            "sample_seed": str(made.seed),
            **{name: getattr(made, name) for name in ORIGIN},
        }
        for result in results
        for made in result.synthesis.samples
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)


@dataclass(frozen=True)
class _Asked:
    """A trial on one category, with its readable images: all, those trained on, and the defects with their splits."""

    trial: Trial
    category: str
    whole: pa.Table
    train: pa.Table
    defects: pa.Table
    unreadable: tuple[str, ...]

    @property
    def title(self) -> str:
        return f"{self.trial.name}, {self.category}, seed {self.trial.config.seed}"


def _asked(trial: Trial, session: Session) -> Iterator[_Asked]:
    config = trial.config
    catalog = load_catalog(config.dataset, session.store, session.progress)
    for category, universe in by_category(catalog).items():
        readable, unreadable = readable_ids(universe, session.faults(universe), config.dataset.max_unreadable)
        split = split_universe(config, universe)
        train = select_rows(split, split="train")
        whole, train = (part.filter(pc.is_in(part["id"], readable)) for part in (universe, train))
        defects = _placed(select_rows(whole, label=1), split)
        yield _Asked(trial, category, whole, train, defects, unreadable)


def _run(one: _Asked, session: Session) -> SynthesisResult:
    started = perf_counter()
    synthesis = run_synthesis(one.trial.config, one.whole, one.train, session)
    return SynthesisResult(one.trial, one.category, synthesis, one.defects, perf_counter() - started, one.unreadable)


def _placed(images: pa.Table, split: pa.Table) -> pa.Table:
    """Images with the splits that they have in an experiment; those that it leaves out are in none."""
    places = dict(zip(split["id"].to_pylist(), split["split"].to_pylist(), strict=True))
    rows = catalog_rows(images)
    return build_catalog([dataclasses.replace(row, split=places.get(row.id, UNSPLIT)) for row in rows])
