"""A trial's anomaly maps again, from what the store holds of it: nothing is computed that takes longer than reading."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from exdd_ray.errors import ArtifactError, DataError
from exdd_ray.experiment.config import ExperimentConfig
from exdd_ray.experiment.dataset import by_category, load_catalog
from exdd_ray.experiment.load import Trial
from exdd_ray.experiment.result import TrialResult
from exdd_ray.experiment.session import Session
from exdd_ray.experiment.trial import run_trial
from exdd_ray.methods.table import method_of
from exdd_ray.progress import silent
from exdd_ray.store.artifact import Artifact, Recipe, Store


class ReadOnlyStore(Store):
    """A store that is only read from."""

    def make(self, recipe: Recipe, build: Callable[[Path], Mapping[str, Any] | None]) -> Artifact:
        """The artifact of a recipe. Raises ArtifactError where the store has none."""
        del build
        if (found := self.find(recipe.key)) is None:
            raise ArtifactError(f"{self.root}: what the trial was made from is not all there ({recipe.stage})")
        return found


def stored_result(name: str, config: ExperimentConfig, category: str, store: Store) -> TrialResult:
    """A memory bank's trial on one category, read from a store.

    Raises:
        DataError: another detector, whose maps only its networks can give.
        ArtifactError: something of it is not in the store.
        UserError: the dataset is not there any more.
    """
    if not method_of(config.detector).reads_maps:
        raise DataError(f"the maps of a {config.detector.kind} are not kept in the store")
    readable = ReadOnlyStore(store.root, store.mirror)
    universes = by_category(load_catalog(config.dataset, readable, silent))
    if category not in universes:
        raise DataError(f"{config.dataset.name} has no category {category!r} any more")
    return run_trial(Trial(name, config), universes[category], Session(readable, run=_refuse, paint=_refuse))


def _refuse(store: Store, jobs: Sequence[object], advance: object) -> NoReturn:
    del jobs, advance
    raise ArtifactError(f"{store.root}: what the trial was made from is not all there")
