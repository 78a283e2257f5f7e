"""From a folder to advice."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from exdd_ray.advice.candidates import MIN_DEFECTS, AdviceConfig, Candidate, as_sweep, candidates, facts_of
from exdd_ray.advice.compare import Compared, advised, compare, left_behind
from exdd_ray.advice.cost import Cost, command, cost_of
from exdd_ray.advice.images import require_usable, told_of_files
from exdd_ray.advice.within import run_within
from exdd_ray.advice.words import WITHOUT_DEFECTS, sentences, without_measuring
from exdd_ray.data.check import check_dataset
from exdd_ray.data.datasets import load_dataset
from exdd_ray.experiment.plan import Plan
from exdd_ray.experiment.run_plan import Outcome
from exdd_ray.experiment.scores import scored_trials
from exdd_ray.experiment.session import Session
from exdd_ray.experiment.sweep_config import SweepConfig
from exdd_ray.experiment.sweep_results import SweepResults, results_of
from exdd_ray.experiment.tables import predictions_table, trials_table


@dataclass(frozen=True)
class Advice:
    """An answer.

    Attributes:
        answer: sentences.
        command: that goes on with what is advised.
        chosen: the candidate that is advised; None where nothing could be measured, as all below.
        compared: the candidates.
        cost: of the chosen.
        results: all trials, as those of a sweep.
    """

    answer: tuple[str, ...]
    command: str
    chosen: Candidate | None = None
    compared: Compared | None = None
    cost: Cost | None = None
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
        DataError: the folder has none of the layouts, too few good images, or files that cannot be read.
        UserError: the time is too short for the first trial, or the first detector failed with every seed.
    """
    started = time.perf_counter()
    catalog = load_dataset("folder", root)
    facts = facts_of(catalog)
    report = check_dataset(catalog, session.progress)
    require_usable(report)
    if facts.defects < MIN_DEFECTS:
        return Advice(tuple(without_measuring(facts)), command(root, WITHOUT_DEFECTS))
    given = candidates(config, facts)
    loaded = as_sweep(root, facts, given, seeds)

    def race(outcomes: Sequence[Outcome]) -> set[str]:
        behind = left_behind(_compared(given, loaded.sweep, outcomes))
        return {one.name for one in given[1:] if one.learner in behind}

    ran = run_within(loaded, seconds, session, race, told, spent=time.perf_counter() - started)
    compared = _compared(given, loaded.sweep, ran.outcomes)
    chosen = advised(compared)
    cost = cost_of(chosen, ran, loaded.sweep, session)
    answer = (*sentences(facts, compared, chosen, ran, cost), *told_of_files(report))
    results = results_of(
        loaded,
        Plan(ran.trials, ()),
        trials_table(ran.outcomes),
        given[0].name,
        ran.seconds,
        compared.scored,
        predictions_table(ran.outcomes),
    )
    return Advice(answer, command(root, chosen), chosen, compared, cost, results)


def _compared(given: Sequence[Candidate], sweep: SweepConfig, outcomes: Sequence[Outcome]) -> Compared:
    scored = scored_trials(one.artifact for one in outcomes if one.artifact)
    return compare(given, trials_table(outcomes), sweep, lambda key: scored.get(key, {}))
