"""A method: one value that says all that experiments need to know of a detector.

A method's folder exports it as `METHOD` in its `method.py`; `exdd_ray.methods.table` lists them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from exdd_ray.features.config import FeaturesConfig
from exdd_ray.methods.config import DetectorConfig
from exdd_ray.training.config import TrainConfig

if TYPE_CHECKING:
    from exdd_ray.export.portable import Portable
    from exdd_ray.features.embedder import Embedder
    from exdd_ray.methods.predictions import Predictions
    from exdd_ray.progress import Progress
    from exdd_ray.store.artifact import Store

C = TypeVar("C", bound=DetectorConfig)
Sources = Mapping[str, tuple[str, ...]]  # id of a synthetic image -> files of what it was made from

EMBEDDING, ORDERS, BANKS, SEARCHES, GAUSSIANS, NETWORKS = (
    "embedding",
    "coreset orders",
    "defect banks",
    "searches",
    "Gaussians",
    "trained networks",
)


class Resources(Protocol):
    """What an experiment has opened, as a fit uses it."""

    store: "Store"
    progress: "Progress"

    def embedder(self, features: FeaturesConfig, universe: pa.Table) -> "Embedder":
        """The embedder of a dataset's category; it embeds all of it once."""

    def slices(self, features: FeaturesConfig, universe: pa.Table, *, degrees: float = 0) -> list[str]:
        """Keys of the embedding slices of a category, turned or not; nothing is computed, images are hashed."""

    def faults(self, universe: pa.Table) -> Mapping[str, str]:
        """Why images of a category cannot be decoded, by id."""

    def remote_training(self, train: Callable[[], object], config: TrainConfig) -> Callable[[], None] | None:
        """Has other processes put what `train` trains into the store; None where this process trains it."""


@dataclass(frozen=True)
class LearnsFrom:
    """What a detector learns from beside normal images.

    Attributes:
        defects: defective images, real or synthetic.
        masks: of the defects, which are left out without.
        name: of such a detector, in messages.
        alone: it also learns from normal images alone, where there is no defect.
    """

    defects: bool
    masks: bool
    name: str
    alone: bool = False


@dataclass(frozen=True)
class TrainingImages:
    """The images of a fit.

    Attributes:
        universe: all real ones of its category.
        train: those to train on, synthetic ones too.
        test: those to test; for published choices of a checkpoint that are leaks.
        sources: id of a synthetic one -> files of the images and masks that it was made from.
    """

    universe: pa.Table
    train: pa.Table
    test: pa.Table
    sources: Sources = field(default_factory=dict)


@dataclass(frozen=True)
class PlannedFit:
    """A fit before anything is made: who trains in it.

    Attributes:
        universe: all real images of its category.
        train: real ones to train on.
        synthetic: keys of the chunks of synthetic ones that join them.
    """

    universe: pa.Table
    train: pa.Table
    synthetic: tuple[str, ...]
    seed: int


@dataclass(frozen=True)
class Need:
    """Artifacts that a fit asks for, for the plan.

    Attributes:
        stage: that makes them.
        what: they are.
        keys: tell them from others.
        in_store: the store has them by these keys; keys of what depends on things not made yet only tell them apart.
    """

    stage: str
    what: str
    keys: tuple[str, ...]
    in_store: bool = False


@dataclass(frozen=True)
class Fitted:
    """A fitted detector.

    Attributes:
        predict: scores and maps of a catalog's images.
        predict_from_files: the same, with nothing read from the store: to be timed.
        train: normal, real defective and synthetic images trained on.
        bank_sizes: vectors in the negative and in the positive bank; 0 without one.
        threshold: of the image score, chosen on held-out training images; None where none were held out.
        remarks: what a reader of the scores must know.
        portable: the same as one module, for the line; None where a method has none yet. Raises ConfigError for options
            that cannot leave the lab.
    """

    predict: "Callable[[pa.Table], Predictions]"
    predict_from_files: "Callable[[pa.Table], Predictions]"
    train: tuple[int, int, int]
    bank_sizes: tuple[int, int] = (0, 0)
    threshold: float | None = None
    remarks: tuple[str, ...] = ()
    portable: "Callable[[], Portable] | None" = None


def _nothing(*_: Any) -> None:
    return None


def _unreadable(_: Any, universe: pa.Table, resources: Resources) -> Mapping[str, str]:
    return resources.faults(universe)


@dataclass(frozen=True, kw_only=True)
class Method(Generic[C]):
    """One way to detect defects.

    Attributes:
        config: class of its config, whose `kind` names the method.
        learns_from: what a detector of a config learns from.
        fit: fits one to images, with a seed, or takes what the store has of it.
        needs: what a fit asks of the store, for the plan; nothing is computed.
        inputs: content hashes of what it starts from beside its config: pretrained weights, textures.
        training: how it trains networks; None where it trains none.
        repeats: whether a config's scores are the same each time.
        unfitted: keys of its config that the fit does not depend on: how scores are made of what was fitted.
        faults: why images of a category cannot be used, by id.
        prepare: puts what it needs of a category's real images into the store.
        prepare_synthetic: the same of synthetic images, which are given last.
        share: puts what several fits need alike into the store.
        remarks: what a reader must know of a config: stand-ins for published parts.
        reads_maps: its maps are read from the store and computed from nothing else.
    """

    config: type[C]
    learns_from: Callable[[C], LearnsFrom]
    fit: Callable[[C, TrainingImages, Resources, int], Fitted]
    needs: Callable[[C, PlannedFit, Resources], Iterable[Need]]
    inputs: Callable[[C], tuple[str, ...]] = lambda _: ()
    training: Callable[[C], TrainConfig | None] = lambda _: None
    repeats: Callable[[C], bool] = lambda _: True
    unfitted: tuple[str, ...] = ()
    faults: Callable[[C, pa.Table, Resources], Mapping[str, str]] = _unreadable
    prepare: Callable[[C, pa.Table, Resources], None] = _nothing
    prepare_synthetic: Callable[[C, pa.Table, Resources, pa.Table], None] = _nothing
    share: Callable[[Sequence[tuple[C, PlannedFit]], Resources], None] = _nothing
    remarks: Callable[[C], tuple[str, ...]] = lambda _: ()
    reads_maps: bool = False

    @property
    def kind(self) -> str:
        """Names the method."""
        return str(self.config.model_fields["kind"].default)

    @property
    def home(self) -> str:
        """The package or module that it is in, whose code makes its scores."""
        return self.config.__module__.rpartition(".")[0] or self.config.__module__


def counts(train: pa.Table) -> tuple[int, int, int]:
    """Normal, real defective and synthetic images of a training catalog."""
    from exdd_ray.data.catalog import REAL, select_rows

    defects = select_rows(train, label=1)
    real = pc.sum(pc.equal(defects["origin"], REAL)).as_py() or 0
    return train.num_rows - defects.num_rows, real, defects.num_rows - real
