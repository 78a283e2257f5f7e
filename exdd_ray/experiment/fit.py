"""The kinds of detectors, as a trial sees them: what each learns from, and how it is fitted."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.compute as pc

from exdd_ray.data.catalog import REAL, select_rows
from exdd_ray.errors import ConfigError
from exdd_ray.experiment.config import DetectorConfig
from exdd_ray.experiment.session import Session
from exdd_ray.features.embedder import Embedder
from exdd_ray.methods.classifier.classifier import fit_classifier
from exdd_ray.methods.classifier.config import ClassifierConfig
from exdd_ray.methods.diffusionad.config import DiffusionADConfig
from exdd_ray.methods.diffusionad.detector import fit_diffusionad
from exdd_ray.methods.patch_bank.config import PatchBankConfig
from exdd_ray.methods.patch_bank.detector import FittedPatchBank, fit_patch_bank
from exdd_ray.methods.predictions import Predictions
from exdd_ray.store.artifact import Store
from exdd_ray.training.config import TrainConfig
from exdd_ray.training.holdout import Sources


@dataclass(frozen=True)
class Wants:
    """What a detector learns from beside normal images.

    Attributes:
        defects: defective images, real or synthetic.
        masks: of the defects, which are left out without.
        name: of such a detector, in messages.
    """

    defects: bool
    masks: bool
    name: str


@dataclass(frozen=True)
class TrialImages:
    """Images of a trial.

    Attributes:
        universe: all real ones of its category.
        train: those to train on, synthetic ones too.
        test: those to test.
        sources: id of a synthetic one -> files of the images and masks that it was made from.
    """

    universe: pa.Table
    train: pa.Table
    test: pa.Table
    sources: Sources = field(default_factory=dict)


@dataclass(frozen=True)
class Fitted:
    """A fitted detector.

    Attributes:
        predict: scores and maps of a catalog's images.
        afresh: the same, computed from the image files with nothing read from the store: to be timed.
        train: normal, real defective and synthetic images trained on.
        bank_sizes: vectors in the negative and in the positive bank; 0 without one.
        threshold: of the image score, chosen on held-out training images; None where none were held out.
        remarks: what a reader of the scores must know.
    """

    predict: Callable[[pa.Table], Predictions]
    afresh: Callable[[pa.Table], Predictions]
    train: tuple[int, int, int]
    bank_sizes: tuple[int, int] = (0, 0)
    threshold: float | None = None
    remarks: tuple[str, ...] = ()


def wants(config: DetectorConfig) -> Wants:
    """What a detector learns from."""
    match config:
        case PatchBankConfig():
            return Wants(defects=config.bank.positive is not None, masks=True, name="a dual bank")
        case ClassifierConfig():
            return Wants(defects=True, masks=False, name="a classifier")
        case DiffusionADConfig():
            return Wants(defects=False, masks=False, name="DiffusionAD")


def trains_alone(config: DetectorConfig) -> bool:
    """Whether a detector trains networks, in one process."""
    return not isinstance(config, PatchBankConfig) and config.training.workers == 1


def faults(config: DetectorConfig, universe: pa.Table, session: Session) -> Mapping[str, str]:
    """Why images of a category cannot be used, by id; banks learn that as they embed them."""
    if not isinstance(config, PatchBankConfig):
        return session.faults(universe)
    embedding = session.embedder(config.features, universe).embedding(universe)
    return {universe["id"][int(row)].as_py(): reason for row, reason in embedding.reasons.items()}


def fit(config: DetectorConfig, images: TrialImages, session: Session, seed: int) -> Fitted:
    """Fit a detector, or take what the store has of it.

    Raises UserError as the detector's own `fit_...`.
    """
    match config:
        case PatchBankConfig():
            return _fit_bank(config, images, session, seed)
        case ClassifierConfig():
            return _fit_classifier(config, images, session, seed)
        case DiffusionADConfig():
            return _fit_diffusionad(config, images, session, seed)


def _fit_bank(config: PatchBankConfig, images: TrialImages, session: Session, seed: int) -> Fitted:
    fitted = fit_patch_bank(config, images.train, session.embedder(config.features, images.universe), seed)
    positive = 0 if fitted.positive is None else len(fitted.positive.vectors)
    return Fitted(
        predict=fitted.predict,
        afresh=partial(_predict_afresh, fitted),
        train=_counts(images.train),
        bank_sizes=(len(fitted.negative.vectors), positive),
    )


def _predict_afresh(fitted: FittedPatchBank, images: pa.Table) -> Predictions:
    with TemporaryDirectory() as folder:
        return replace(fitted, embedder=Embedder(Store(Path(folder)), fitted.config.features)).predict(images)


def _fit_classifier(config: ClassifierConfig, images: TrialImages, session: Session, seed: int) -> Fitted:
    train = partial(fit_classifier, config, images.train, session.store, seed, sources=images.sources)
    fitted = train(progress=session.progress, elsewhere=_elsewhere(train, config.training, session))
    return Fitted(fitted.predict, fitted.predict, fitted.train, threshold=fitted.threshold, remarks=fitted.remarks)


def _fit_diffusionad(config: DiffusionADConfig, images: TrialImages, session: Session, seed: int) -> Fitted:
    train = partial(fit_diffusionad, config, images.train, session.store, seed, test=images.test)
    fitted = train(progress=session.progress, elsewhere=_elsewhere(train, config.training, session))
    # a threshold that was chosen on the test images is none to report beside the test's own
    threshold = fitted.threshold if config.checkpoint == "validation" else None
    return Fitted(fitted.predict, fitted.predict, (fitted.train[0], 0, 0), threshold=threshold, remarks=fitted.remarks)


def _elsewhere(train: Callable[[], object], config: TrainConfig, session: Session) -> Callable[[], None] | None:
    """Has the session's cluster put the trained artifact into the store; None where there is no cluster.

    Raises ConfigError where the config needs one.
    """
    trainer = session.train
    if trainer is not None and (config.workers > 1 or session.ahead is None):
        return lambda: trainer(train, config, session.store)
    if config.workers > 1:
        raise ConfigError(f"training.workers={config.workers} needs a Ray cluster: --ray")
    return None


def _counts(train: pa.Table) -> tuple[int, int, int]:
    defects = select_rows(train, label=1)
    real = pc.sum(pc.equal(defects["origin"], REAL)).as_py() or 0
    return train.num_rows - defects.num_rows, real, defects.num_rows - real
