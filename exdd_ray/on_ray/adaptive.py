"""Searches that choose as they go: Optuna's TPE over one objective or several, and successive halving (ASHA)."""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from exdd_ray.errors import ConfigError
from exdd_ray.experiment.objectives import objective_means
from exdd_ray.experiment.session import Session
from exdd_ray.experiment.space import LoadedSweep, Point, baseline, points_ahead, rounded
from exdd_ray.experiment.sweep_config import RangeConfig
from exdd_ray.metrics.table import METRICS
from exdd_ray.on_ray.tune import Place, fit, place_of, tune_storage
from exdd_ray.progress import Advance
from exdd_ray.store.hashes import digest

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

STUDY = "optuna.log"
_FACTOR = 3  # of ASHA: of three trials one goes on to the next rung
_EFFORT = "effort"
_WORST = 1e12
_log = logging.getLogger(__name__)


def search_tpe(loaded: LoadedSweep, session: Session, folder: Path, advance: Advance) -> list[Point]:
    """Points that the tree-structured Parzen estimator chose, in their order; their trials are in the store.

    Goes on with the study in `folder`, if there is one. A choice that is no valid experiment is told of and left out.

    Raises ConfigError where that study is of another sweep.
    """
    import optuna

    tuner, modes = loaded.sweep.tuner, [_mode(metric) for metric in loaded.sweep.objectives]
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage, study = _storage(loaded, folder)
    several, done = len(modes) > 1, len(_chosen(loaded, storage, study))
    algorithm = OptunaSearch(
        space=_distributions(loaded),
        metric=list(loaded.sweep.objectives) if several else loaded.sweep.objectives[0],
        mode=modes if several else modes[0],
        sampler=optuna.samplers.TPESampler(seed=tuner.seed + done, constant_liar=True),
        study_name=study,
        storage=storage,
    )
    assert tuner.points is not None
    left = tuner.points - 1 - done  # the baseline is a point too, and was run before
    if left > 0:
        work = tune.with_parameters(_run_settings, loaded=loaded, place=place_of(session))
        config = tune.TuneConfig(search_alg=algorithm, num_samples=left)
        with tune_storage(session.store) as place:
            fit(work, {}, config, place, tuner.at_once, lambda _: advance(1), device=session.backend.device)
    points = []
    for number, settings in enumerate(_chosen(loaded, storage, study), start=1):
        try:
            points.append(loaded.point(number, settings))
        except ConfigError as error:
            _log.warning("left out, as it is no valid experiment: %s", error)
    return points


def _storage(loaded: LoadedSweep, folder: Path) -> tuple["BaseStorage", str]:
    """The study's storage, and its name, which tells what was searched for what.

    Raises ConfigError where a study of another sweep is there.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalStorage

    storage = JournalStorage(JournalFileBackend(str(folder / STUDY)))
    unsaid = ("name", "output", "store", "tracking", "tuner")
    what = {key: value for key, value in loaded.raw.items() if key not in unsaid}
    study = f"{loaded.sweep.tuner.kind}-{digest(json.loads(json.dumps(what, default=str)))}"
    if (known := optuna.get_all_study_names(storage)) and study not in known:
        raise ConfigError(
            f"{folder / STUDY}: is a search of another space, experiment or objective; without --resume one begins anew"
        )
    return storage, study


def _mode(metric: str) -> str:
    return "min" if METRICS[metric].less else "max"


def _distributions(loaded: LoadedSweep) -> dict[str, Any]:
    """Lists are searched by position, in order where they are numbers; ranges by value."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    found: dict[str, Any] = {}
    for short, values in loaded.axes.items():
        if isinstance(values, RangeConfig):
            whole = isinstance(values.low, int) and isinstance(values.high, int)
            kind = IntDistribution if whole else FloatDistribution
            found[short] = kind(values.low, values.high, log=values.log)
        elif all(isinstance(value, int | float) for value in values) and list(values) == sorted(values):
            found[short] = IntDistribution(0, len(values) - 1)
        else:
            found[short] = CategoricalDistribution(range(len(values)))
    return found


def _settings(loaded: LoadedSweep, params: Mapping[str, Any]) -> dict[str, Any]:
    return {
        short: rounded(params[short], values) if isinstance(values, RangeConfig) else values[params[short]]
        for short, values in loaded.axes.items()
    }


def _chosen(loaded: LoadedSweep, storage: "BaseStorage", study_name: str) -> list[dict[str, Any]]:
    """Settings of the study's trials, in their order; those that did not end with a number have failed."""
    import optuna

    if study_name not in optuna.get_all_study_names(storage):
        return []
    study = optuna.load_study(study_name=study_name, storage=storage)
    for trial in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    return [_settings(loaded, trial.params) for trial in study.get_trials()]


def _run_settings(config: Mapping[str, Any], loaded: LoadedSweep, place: Place) -> None:
    try:
        point = loaded.point(0, _settings(loaded, config))
    except ConfigError:
        found = dict.fromkeys(map(str, loaded.sweep.objectives), math.nan)
    else:
        found = objective_means(loaded, point, place.session(int(config["threads"])))
    tune.report(found)


def search_asha(loaded: LoadedSweep, session: Session, advance: Advance) -> list[Point]:
    """Points at the rung that each has reached; their trials are in the store."""
    tuner, metric = loaded.sweep.tuner, loaded.sweep.objectives[0]
    assert tuner.fidelity is not None
    rungs, first = tuner.fidelity.rungs, baseline(loaded)
    points = [point for point in points_ahead(loaded) if dict(point.settings) != first]
    work = tune.with_parameters(_climb, loaded=loaded, points=points, place=place_of(session))
    # one unit of effort a rung would leave some without a decision: Tune decides at powers of the factor
    scheduler = ASHAScheduler(
        time_attr=_EFFORT, max_t=_FACTOR ** (len(rungs) - 1), grace_period=1, reduction_factor=_FACTOR
    )
    config = tune.TuneConfig(metric=metric, mode=_mode(metric), scheduler=scheduler)
    space = {"job": tune.grid_search(list(range(len(points))))}
    device = session.backend.device
    with tune_storage(session.store) as place:
        ended = fit(work, space, config, place, tuner.at_once, lambda _: advance(1), device=device)
    rung_of = {one.config["job"]: round(math.log(one.metrics.get(_EFFORT, 1), _FACTOR)) for one in ended}
    reached = [at_rung(loaded, points[job], rungs[rung]) for job, rung in rung_of.items()]
    return sorted(reached, key=lambda point: point.number)


def at_rung(loaded: LoadedSweep, point: Point, rung: int | float) -> Point:
    """A point with the tuner's fidelity set."""
    short = list(loaded.keys.values())[-1]
    return loaded.point(point.number, {**point.settings, short: rung})


def _climb(config: Mapping[str, Any], loaded: LoadedSweep, points: Sequence[Point], place: Place) -> None:
    session, fidelity = place.session(int(config["threads"])), loaded.sweep.tuner.fidelity
    metric = str(loaded.sweep.objectives[0])
    assert fidelity is not None
    for number, rung in enumerate(fidelity.rungs):
        found = objective_means(loaded, at_rung(loaded, points[config["job"]], rung), session)[metric]
        failed = math.isnan(found)
        worst = _WORST if _mode(metric) == "min" else -_WORST
        tune.report({metric: worst if failed else found, _EFFORT: _FACTOR**number})
        if failed:
            return  # at a higher rung it would fail again
