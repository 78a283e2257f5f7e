"""What the trials of a sweep have in common, made once and at full width before the first of them starts."""

import time
from collections.abc import Sequence
from contextlib import suppress

import pyarrow.compute as pc

from exdd_ray.data.catalog import catalog_digest
from exdd_ray.errors import UserError
from exdd_ray.experiment.assign import learns_from
from exdd_ray.experiment.plan import FINE_TUNING, SYNTHESIS, Plan
from exdd_ray.experiment.session import Session
from exdd_ray.experiment.share import AssignedTrial, share
from exdd_ray.experiment.synthesis import fine_tune, missing_fits
from exdd_ray.experiment.trial import prepare_trial, readable_ids
from exdd_ray.methods.method import EMBEDDING, ORDERS
from exdd_ray.methods.table import method_of
from exdd_ray.store.hashes import digest
from exdd_ray.synthesizers.fits import Fit

_LEFT_TO_TRIALS = (UserError, RuntimeError)  # of the latter, torch's when memory runs out


def make_shared(plan: Plan, session: Session) -> dict[str, float]:
    """Puts embeddings, fine-tunings, synthetic defects, orders and searches of trials without a result into the store.

    What cannot be made is left to the trials, each of which then fails with the reason.

    Returns:
        Seconds that an artifact of each stage took, of the stages that lacked some.
    """
    store = session.store
    trials = [one.assigned for one in plan.trials if one.assigned is not None and store.peek(one.key) is None]
    seconds = {}
    for stage, work in (
        (EMBEDDING, _embed),
        (FINE_TUNING, _fine_tune),
        (SYNTHESIS, _synthesize),
        (ORDERS, _order),
    ):
        started = time.perf_counter()
        work(trials, session)
        if missing := plan.missing(stage):
            seconds[stage] = (time.perf_counter() - started) / missing
    return seconds


def _embed(trials: Sequence[AssignedTrial], session: Session) -> None:
    for one in trials:
        detector = one.trial.config.detector
        with suppress(*_LEFT_TO_TRIALS):
            method_of(detector).prepare(detector, one.universe, session)


def _fine_tune(trials: Sequence[AssignedTrial], session: Session) -> None:
    """All of them at once, as none waits for another's images."""
    fits: list[Fit] = []
    for one in _with_a_synthesizer(trials):
        with suppress(*_LEFT_TO_TRIALS):
            fits += _missing_fits(one, session)
    with suppress(*_LEFT_TO_TRIALS):
        fine_tune(fits, session)


def _missing_fits(one: AssignedTrial, session: Session) -> list[Fit]:
    config, universe = one.trial.config, one.universe
    found = method_of(config.detector).faults(config.detector, universe, session)
    readable, _ = readable_ids(universe, found, config.dataset.max_unreadable)
    whole, train = (part.filter(pc.is_in(part["id"], readable)) for part in (universe, one.assignment.train))
    name = f"{one.trial.name}, {universe['category'][0]}, seed {config.seed}"
    return missing_fits(config, whole, train, session, name)


def _synthesize(trials: Sequence[AssignedTrial], session: Session) -> None:
    """The largest counts first: smaller ones are beginnings of them."""
    for one in sorted(_with_a_synthesizer(trials), key=_count, reverse=True):
        with suppress(*_LEFT_TO_TRIALS):
            if not _missing_fits(one, session):  # what failed once is left to the trial
                _synthesize_for(one, session)


def _with_a_synthesizer(trials: Sequence[AssignedTrial]) -> list[AssignedTrial]:
    """Of those that want the same synthetic defects the first."""
    distinct: dict[str, AssignedTrial] = {}
    for one in trials:
        config, images = one.trial.config, [one.assignment.train[name].to_pylist() for name in ("image", "mask")]
        if config.synthesizer is not None and learns_from(config.detector).defects:
            features = config.detector.geometry.model_dump(mode="json")
            how = [config.detector.kind, config.synthesizer.model_dump(mode="json")]
            distinct.setdefault(digest([how, features, images, config.seed]), one)
    return list(distinct.values())


def _count(one: AssignedTrial) -> int:
    return 0 if one.trial.config.synthesizer is None else one.trial.config.synthesizer.count


def _synthesize_for(one: AssignedTrial, session: Session) -> None:
    """Synthetic defects, and what the detector needs of them."""
    config = one.trial.config
    made = prepare_trial(config, one.universe, session).synthesis
    if made.samples:
        method_of(config.detector).prepare_synthetic(config.detector, one.universe, session, made.catalog)


def _order(trials: Sequence[AssignedTrial], session: Session) -> None:
    groups: dict[str, list[AssignedTrial]] = {}
    for one in trials:  # group by group, so that one that fails is alone in that
        groups.setdefault(f"{catalog_digest(one.universe)} {one.trial.config.seed}", []).append(one)
    for group in groups.values():
        with suppress(*_LEFT_TO_TRIALS):
            share(group, session)
