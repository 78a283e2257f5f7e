"""What several trials need alike, made before them and once."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from exdd_ray.data.catalog import catalog_digest
from exdd_ray.experiment.assign import Assignment
from exdd_ray.experiment.load import Trial
from exdd_ray.experiment.session import Session
from exdd_ray.methods.config import DetectorConfig
from exdd_ray.methods.method import PlannedFit
from exdd_ray.methods.table import methods


@dataclass(frozen=True)
class AssignedTrial:
    """A trial on one category, and who trains and is tested in it."""

    trial: Trial
    universe: pa.Table
    assignment: Assignment

    def planned(self, synthetic: Sequence[str] = ()) -> PlannedFit:
        """Its fit before anything is made, with the keys of the chunks of synthetic images that join it."""
        return PlannedFit(self.universe, self.assignment.train, tuple(synthetic), self.trial.config.seed)


def share(trials: Sequence[AssignedTrial], session: Session) -> None:
    """Puts into the store what fits of one method on one category will ask for alike.

    Raises DataError as the fit of the trials would.
    """
    groups: dict[tuple[str, str], list[tuple[DetectorConfig, PlannedFit]]] = {}
    for one in trials:
        detector = one.trial.config.detector
        groups.setdefault((detector.kind, catalog_digest(one.universe)), []).append((detector, one.planned()))
    for (kind, _), fits in groups.items():
        methods()[kind].share(fits, session)
