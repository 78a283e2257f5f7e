"""From a folder to advice."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from exdd_ray.advice.candidates import MIN_DEFECTS, AdviceConfig, Candidate, as_sweep, candidates, facts_of
from exdd_ray.advice.compare import Compared, advised, compare
from exdd_ray.advice.within import run_within
from exdd_ray.advice.words import sentences, without_measuring
from exdd_ray.data.datasets import load_dataset
from exdd_ray.experiment.plan import Plan
from exdd_ray.experiment.run_plan import Outcome
from exdd_ray.experiment.scores import scored_trials
from exdd_ray.experiment.session import Session
from exdd_ray.experiment.sweep_results import SweepResults, results_of
from exdd_ray.experiment.tables import predictions_table, trials_table


@dataclass(frozen=True)
class Advice:
    """An answer.

    Attributes:
        answer: sentences.
        chosen: the candidate that is advised; None where nothing could be measured, as all below.
        compared: the candidates.
        results: all trials, as those of a sweep.
    """

    answer: tuple[str, ...]
    chosen: Candidate | None = None
    compared: Compared | None = None
    results: SweepResults | None = None


def advise(
    root: Path,
    config: AdviceConfig,
    seconds: float,
    seeds: int,
    session: Session,
    told: Callable[[Outcome], None] = lambda _: None,
) -> Advice:
    """Which detector a folder of images should have, how many labels pay, and whether synthetic defects do.

    Args:
        root: a folder in a layout of the dataset `folder`.
        config: what is compared.
        seconds: in which trials are begun that are expected to end.
        seeds: with which each candidate is run at most.
        told: of each trial, as it ends.

    Raises:
        DataError: the folder has none of the layouts, or too few good images.
        UserError: the time is too short for the first trial, or that failed.
    """
    facts = facts_of(load_dataset("folder", root))
    if facts.defects < MIN_DEFECTS:
        return Advice(tuple(without_measuring(facts)))
    given = candidates(config, facts)
    loaded = as_sweep(root, facts, given, seeds)
    ran = run_within(loaded, seconds, session, told)
    scored = scored_trials(one.artifact for one in ran.outcomes if one.artifact)
    trials = trials_table(ran.outcomes)
    compared = compare(given, trials, loaded.sweep, lambda key: scored.get(key, {}))
    results = results_of(
        loaded,
        Plan(ran.trials, ()),
        trials,
        given[0].name,
        ran.seconds,
        lambda key: scored.get(key, {}),
        predictions_table(ran.outcomes),
    )
    return Advice(tuple(sentences(facts, compared, ran)), advised(compared), compared, results)
