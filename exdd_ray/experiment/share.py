"""What several trials need alike, made before them and once: banks of all sizes from one order, and one search."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from exdd_ray.data.catalog import catalog_digest, select_rows
from exdd_ray.experiment.load import Trial
from exdd_ray.experiment.session import Session
from exdd_ray.experiment.trial import Assignment
from exdd_ray.methods.patch_bank.config import PatchBankConfig
from exdd_ray.methods.patch_bank.nested import prepare_patch_banks
from exdd_ray.store.hashes import digest


@dataclass(frozen=True)
class AssignedTrial:
    """A trial on one category, and who trains and is tested in it."""

    trial: Trial
    universe: pa.Table
    assignment: Assignment


@dataclass
class _Group:
    """Detectors with the same features that train on the same normal images with the same seed."""

    first: AssignedTrial
    detectors: list[PatchBankConfig] = field(default_factory=list)


def share(trials: Sequence[AssignedTrial], session: Session) -> None:
    """Puts into the store what trials of patch banks that differ in sizes will ask for; others are left as they are.

    Raises DataError as the fit of the trials would.
    """
    groups: dict[str, _Group] = {}
    for one in trials:
        config = one.trial.config
        if isinstance(config.detector, PatchBankConfig):
            normal = select_rows(one.assignment.train, label=0)["image"].to_pylist()
            features = config.detector.features.model_dump_json()
            key = digest([catalog_digest(one.universe), features, config.seed, normal])
            groups.setdefault(key, _Group(one)).detectors.append(config.detector)
    for group in groups.values():
        if len({detector.bank.negative for detector in group.detectors}) > 1:
            embedder = session.embedder(group.detectors[0].features, group.first.universe)
            seed = group.first.trial.config.seed
            prepare_patch_banks(group.detectors, group.first.assignment.train, embedder, seed)
