"""What is to be made, and what is: a chunk of samples as a job, a sample as it is drawn.

Sample i of a prompt depends on the seed, the prompt and i alone, so that fewer are a prefix of more, and any number of
workers makes the same ones. Several prompts take turns: the i of each is its own. Of several parts of a mixture that
take the same prompt each has a draw of its own, of which the first is that of the part alone.
"""

import hashlib
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np

from exdd_ray.data.catalog import CatalogRow
from exdd_ray.store.artifact import Artifact, Recipe, Store
from exdd_ray.synthesizers.config import SynthesizerConfig
from exdd_ray.synthesizers.filters import Change
from exdd_ray.synthesizers.synthesizer import Model

CHUNK = 10

C = TypeVar("C", bound=SynthesizerConfig)


@dataclass(frozen=True)
class ChunkJob(Generic[C]):
    """CHUNK samples of one prompt (empty for a synthesizer without prompts), and the recipe that names them.

    Attributes:
        defects: those that samples are made of; empty where normal images are enough.
        files: textures or masks of a folder that samples draw from, as they were listed for the recipe.
        model: that paints; None without one.
        training: names what the synthesizer trains before; None where it trains nothing.
        trained: what it trained; None until it is there.
        draw: of those that take the prompt in a mixture, which one this is.
    """

    config: C
    prompt: str
    start: int
    seed: int
    backgrounds: tuple[CatalogRow, ...]
    defects: tuple[CatalogRow, ...]
    recipe: Recipe
    files: tuple[str, ...] = ()
    model: Model | None = None
    training: Recipe | None = None
    trained: Artifact | None = None
    draw: int = 0

    @property
    def numbers(self) -> range:
        """The samples' i."""
        return range(self.start, self.start + CHUNK)

    def beginning_at(self, start: int) -> "ChunkJob[C]":
        """Another chunk of the same prompt."""
        recipe = replace(self.recipe, config={**self.recipe.config, "start": start})
        return replace(self, start=start, recipe=recipe)

    def rng(self, number: int) -> np.random.Generator:
        """The stream of a sample."""
        name = [zlib.crc32(self.prompt.encode())] if self.prompt else []
        return np.random.default_rng([self.seed, *name, number, *self._draw])

    def sample_seed(self, number: int) -> int:
        """The seed of a sample's own noise."""
        name = "\n".join(map(str, (self.seed, number, self.prompt, *self._draw)))
        return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=7).digest())

    @property
    def _draw(self) -> tuple[int, ...]:
        return (self.draw,) if self.draw else ()


AnyJob = ChunkJob[SynthesizerConfig]


@dataclass(frozen=True)
class Sample:
    """A sample as it is made.

    Attributes:
        number: i.
        background: the image that it was made from.
        mask_source: the shape or file that its mask is from.
        image: uint8 [H x W x 3]; None where it failed.
        mask: bool [H x W]; None where it failed, and of a whole image that shows a defect somewhere.
        change: what the painting changed within the mask; None without one.
        fault: why it failed; empty where it did not.
        skipped: why backgrounds that were drawn before this one could not be used.
    """

    number: int
    background: str
    mask_source: str = ""
    image: np.ndarray | None = None
    mask: np.ndarray | None = None
    change: Change | None = None
    fault: str = ""
    skipped: tuple[str, ...] = ()


Painted = tuple[Sequence[Sample], int]  # the samples of a chunk, and how many were painted at once
Advance = Callable[[int], None]
ChunkRunner = Callable[[Store, Sequence[AnyJob], Advance], None]
