"""The synthetic defects of an experiment: their chunks as planned, what is fine-tuned for them, and the samples."""

from collections.abc import Sequence

import pyarrow as pa

from exdd_ray.data.catalog import select_rows
from exdd_ray.experiment.assign import learns_from, mask_donors
from exdd_ray.experiment.config import ExperimentConfig
from exdd_ray.experiment.session import Session
from exdd_ray.synthesizers.device import on_device
from exdd_ray.synthesizers.fits import Fit, lacking_fits, train_all, train_here
from exdd_ray.synthesizers.job import AnyJob
from exdd_ray.synthesizers.leaves import Leaf
from exdd_ray.synthesizers.plan import plan_parts
from exdd_ray.synthesizers.synthesize import Synthesis, run_on_threads, synthesize
from exdd_ray.synthesizers.synthesizer import Resources


def synthesis_keys(config: ExperimentConfig, universe: pa.Table, train: pa.Table, session: Session) -> list[str]:
    """Keys of the chunks of synthetic samples that an experiment trains on; none is made."""
    return [job.recipe.key for job in synthesis_jobs(config, universe, train, session)]


def synthesis_jobs(config: ExperimentConfig, universe: pa.Table, train: pa.Table, session: Session) -> list[AnyJob]:
    """The chunks of synthetic samples that an experiment trains on; none is made."""
    if config.synthesizer is None or not learns_from(config.detector).defects:
        return []
    return [job for _, jobs in _parts(config, universe, train, session) for job in jobs]


def missing_fits(
    config: ExperimentConfig, universe: pa.Table, train: pa.Table, session: Session, name: str
) -> list[Fit]:
    """What is to be fine-tuned for an experiment that has a synthesizer, and is not in the store.

    Args:
        name: of the experiment, in messages.
    """
    return lacking_fits(_parts(config, universe, train, session), session.store, name)


def fine_tune(fits: Sequence[Fit], session: Session) -> None:
    """Put the distinct ones of several experiments' fits into the store, side by side where the session's backend does.

    Raises the error of one that failed, by its name, when all others are done.
    """
    distinct = {fit.recipe.key: fit for fit in reversed(fits)}
    resources = Resources(session.store, session.progress, session.backend.paint or run_on_threads)
    train_all(list(reversed(distinct.values())), resources, session.backend.fine_tune or train_here)


def run_synthesis(config: ExperimentConfig, universe: pa.Table, train: pa.Table, session: Session) -> Synthesis:
    """The synthetic defects of an experiment that has a synthesizer, made where the store lacks them.

    Raises UserError as synthesize.
    """
    assert config.synthesizer is not None
    return synthesize(
        on_device(config.synthesizer, session.backend.device),
        select_rows(train, label=0),
        select_rows(train, label=1),
        config.seed,
        session.store,
        masks=mask_donors(config, universe, train),
        run=session.backend.paint,
        progress=session.progress,
        train=session.backend.fine_tune or train_here,
    )


def _parts(
    config: ExperimentConfig, universe: pa.Table, train: pa.Table, session: Session
) -> list[tuple[Leaf, list[AnyJob]]]:
    assert config.synthesizer is not None
    normal, defects = select_rows(train, label=0), select_rows(train, label=1)
    masks = mask_donors(config, universe, train)
    return plan_parts(on_device(config.synthesizer, session.backend.device), normal, defects, config.seed, masks)
