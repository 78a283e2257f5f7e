"""A synthesizer: one value that says all that experiments need to know of it.

A synthesizer's folder exports it as `SYNTHESIZER` in its `synthesizer.py`; `exdd_ray.synthesizers.table` lists them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from exdd_ray.config.base import Size
from exdd_ray.synthesizers.config import DeviceConfig, SynthesizerConfig

if TYPE_CHECKING:
    from exdd_ray.progress import Progress
    from exdd_ray.store.artifact import Recipe, Store
    from exdd_ray.synthesizers.job import ChunkJob, ChunkRunner, Painted
    from exdd_ray.synthesizers.part import PartConfig
    from exdd_ray.training.config import TrainConfig

C = TypeVar("C", bound=SynthesizerConfig)


@dataclass(frozen=True)
class NeededDefects:
    """Training defects that samples are made of.

    Attributes:
        asked_by: in messages, what asks for them.
        pixels: they are taken from the defects too, not their masks alone.
        masks: defects without one are left out.
    """

    asked_by: str
    pixels: bool
    masks: bool = True


@dataclass(frozen=True)
class Model:
    """A pretrained model that paints.

    Attributes:
        name: as the config gives it.
        revision: commit of a hub's repository, or hash of a folder's files.
        digest: names its weights in keys.
    """

    name: str
    revision: str
    digest: str


@dataclass(frozen=True)
class Resources:
    """What a training is prepared with.

    Attributes:
        store: that keeps what is made.
        paint: makes chunks of samples.
    """

    store: "Store"
    progress: "Progress"
    paint: "ChunkRunner"


def _nothing(*_: object) -> None:
    return


@dataclass(frozen=True, kw_only=True)
class Training(Generic[C]):
    """What a synthesizer trains before it makes samples: the same for all chunks of a prompt.

    Attributes:
        recipe: names what is trained for a chunk in the store; None where a config trains nothing. Nothing is computed.
        config: how it is trained.
        train: puts it there, in this process; it is the chunk's `training`.
        prepare: puts there what it needs first, and what is best made at full width.
        remarks: what a reader of results must know of it, given a chunk with what was trained.
    """

    recipe: "Callable[[ChunkJob[C]], Recipe | None]"
    config: "Callable[[C], TrainConfig]"
    train: "Callable[[ChunkJob[C], Store, Progress], None]"
    prepare: "Callable[[ChunkJob[C], Resources], None]" = _nothing
    remarks: "Callable[[ChunkJob[C]], tuple[str, ...]]" = lambda _: ()


@dataclass(frozen=True, kw_only=True)
class Synthesizer(Generic[C]):
    """One way to make defective images, with exact masks as a rule, from normal ones.

    Attributes:
        config: class of its config, whose `kind` names the synthesizer.
        version: part of its samples' keys; to be raised when the same config and seed give other pixels.
        make: the samples of chunks, chunk by chunk, each with how many were painted at once; None where parts do.
        parts: the synthesizers that make its samples, which are the config's own key `parts`; none where it does.
        prompts: what is asked of it, in turns; the empty one alone where it takes none.
        defects: those that it takes of the training images; None where normal images are enough.
        files: images of a folder that samples draw from, as textures, listed as they are now.
        model: that paints; None without one. Raises UserError where it cannot be had.
        run: how that model is run, which is the config's own key `run`; None without a model.
        pinned: the config with the commit that a hub's revision names now. Raises UserError as `model`.
        training: what it trains before; None where it trains nothing.
        masks: whether its samples have masks.
        remarks: what a reader of results must know, given the working size (height, width) of the detector.
    """

    config: type[C]
    version: int
    make: "Callable[[Sequence[ChunkJob[C]]], Iterator[Painted]] | None" = None
    parts: "Callable[[C], Sequence[PartConfig]]" = lambda _: ()
    prompts: Callable[[C], tuple[str, ...]] = lambda _: ("",)
    defects: Callable[[C], NeededDefects | None] = lambda _: None
    files: Callable[[C], tuple[str, ...]] = lambda _: ()
    model: Callable[[C], Model | None] = lambda _: None
    run: Callable[[C], DeviceConfig | None] = lambda _: None
    pinned: Callable[[C], C] = lambda config: config
    training: Training[C] | None = None
    masks: Callable[[C], bool] = lambda _: True
    remarks: Callable[[C, Size | None], tuple[str, ...]] = lambda *_: ()

    @property
    def kind(self) -> str:
        """Names the synthesizer."""
        return str(self.config.model_fields["kind"].default)
