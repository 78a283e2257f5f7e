"""Trials in batches for workers: those that need the same things one after another, the costly ones alone."""

from collections.abc import Sequence

from exdd_ray.config.base import without
from exdd_ray.experiment.plan import PlannedTrial
from exdd_ray.methods.table import method_of
from exdd_ray.store.hashes import digest

_BATCHES_EACH = 3  # for every worker, so that none waits long for another at the end
_MOST = 16


def in_batches(trials: Sequence[PlannedTrial], workers: int) -> list[list[PlannedTrial]]:
    """All trials, a batch for each task of a worker.

    A trial that trains no network reads what was made before it, and takes less time than a worker's task takes to
    start: many share one. Those that differ only in how they score share all that is fitted, and mostly their maps, so
    they are not given to workers that would wait for each other. A trial that trains networks is a batch.
    """
    alike: dict[str, list[PlannedTrial]] = {}
    for one in trials:
        alike.setdefault(_needs(one), []).append(one)
    most = max(1, min(_MOST, -(-len(trials) // (_BATCHES_EACH * workers))))
    batches: list[list[PlannedTrial]] = []
    room = 0
    for group in alike.values():
        if _trains(group[0]):
            batches += [[one] for one in group]
            room = 0
            continue
        for start in range(0, len(group), most):
            part = group[start : start + most]
            if len(part) > room:
                batches.append([])
                room = most
            batches[-1] += part
            room -= len(part)
    return batches


def _trains(one: PlannedTrial) -> bool:
    detector = one.trial.config.detector
    return method_of(detector).training(detector) is not None


def _needs(one: PlannedTrial) -> str:
    """Names all that decides a trial but its scoring."""
    config = one.trial.config.model_dump(mode="json")
    config["detector"] = without(config["detector"], *method_of(one.trial.config.detector).unfitted)
    return digest([config, one.dataset, one.category])
