"""The synthesis of a run alone: what its experiments would train on, without training."""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import pyarrow as pa

from exdd_ray.config.load import Trial
from exdd_ray.data.catalog import select_rows
from exdd_ray.data.split import split_catalog
from exdd_ray.errors import ConfigError
from exdd_ray.experiment.dataset import by_category, load_catalog
from exdd_ray.experiment.trial import Workshop, mask_leak
from exdd_ray.synthesis.synthesize import Synthesis, synthesize


@dataclass(frozen=True)
class SynthesisResult:
    """What one experiment's synthesizer made for one category.

    Attributes:
        defects: all real defects of the category, to compare with.
        seconds: that it took.
    """

    trial: Trial
    category: str
    synthesis: Synthesis
    defects: pa.Table
    seconds: float

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a reader must know."""
        return mask_leak(self.trial.config) + self.synthesis.remark


def run_syntheses(trials: Sequence[Trial], workshop: Workshop) -> list[SynthesisResult]:
    """The synthesis of every trial on every category; equal ones are made once.

    Raises ConfigError where no trial has a synthesizer.
    """
    wanted = {
        trial.config.model_copy(update={"detector": None, "evaluation": None}).model_dump_json(): trial
        for trial in reversed(trials)
        if trial.config.synthesizer is not None
    }
    if not wanted:
        raise ConfigError("nothing to synthesize: the config has no synthesizer")
    results = []
    for trial in reversed(wanted.values()):
        catalog = load_catalog(trial.config.dataset, workshop.store, workshop.progress)
        results += [_run(trial, name, universe, workshop) for name, universe in by_category(catalog).items()]
    return results


def _run(trial: Trial, category: str, universe: pa.Table, workshop: Workshop) -> SynthesisResult:
    config = trial.config
    assert config.synthesizer is not None
    split = config.dataset.split
    catalog = split_catalog(universe, train_fraction=split.train_fraction, defects=split.defects, seed=config.seed)
    normal, positives = (select_rows(catalog, split="train", label=label) for label in (0, 1))
    started = perf_counter()
    synthesis = synthesize(
        config.synthesizer,
        normal,
        positives,
        config.seed,
        workshop.store,
        run=workshop.paint,
        progress=workshop.progress,
    )
    return SynthesisResult(trial, category, synthesis, select_rows(universe, label=1), perf_counter() - started)
