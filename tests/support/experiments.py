"""Experiments run one after another, their whole results in memory."""

from collections.abc import Sequence

from exdd_ray.experiment.assign import assign
from exdd_ray.experiment.load import Trial
from exdd_ray.experiment.plan import Plan, lay_out, make_plan
from exdd_ray.experiment.rates import Rates
from exdd_ray.experiment.result import TrialResult
from exdd_ray.experiment.session import Session
from exdd_ray.experiment.share import AssignedTrial, share
from exdd_ray.experiment.space import Point
from exdd_ray.experiment.trial import run_trial


def run_experiments(trials: Sequence[Trial], session: Session) -> list[TrialResult]:
    """The result of every experiment on every category; what several need alike is made first."""
    pairs = [(one, universe) for one in trials for universe in session.categories(one.config.dataset).values()]
    share([AssignedTrial(one, universe, assign(one.config, universe)) for one, universe in pairs], session)
    return [run_trial(one, universe, session) for one, universe in pairs]


def planned(trials: Sequence[Trial], session: Session) -> Plan:
    """The plan of experiments, each a point of its own."""
    points = [Point(i, one.name, {}, ((one.config.dataset.name, one),)) for i, one in enumerate(trials)]
    return make_plan(lay_out(points, session), session, Rates({}))
