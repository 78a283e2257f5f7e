"""The vectors that show defects: patches under a mask, or crops of defects."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa

from exdd_ray.banks.memory_bank import Points
from exdd_ray.banks.vectors import VectorBlocks
from exdd_ray.data.crops import defect_crops
from exdd_ray.data.masks import read_row_mask
from exdd_ray.errors import DataError
from exdd_ray.features.embedder import Embedder, Samples
from exdd_ray.features.prepare import TOUCHED, covered_shares
from exdd_ray.methods.patch_bank.config import PositivesConfig
from exdd_ray.store.contents import content_digests
from exdd_ray.store.hashes import digest

BATCH = "defect"


@dataclass(frozen=True)
class Defects:
    """k defective images with masks, of which evidence is learnt.

    Attributes:
        parts: the images, one entry an origin; k in all.
        z: smoothed distances to the normal bank [k x P], in standard deviations of normal images' maxima.
        striking: bool [k x P] the patches under masks that are far from the normal bank (`purified`).
        covered: bool [k x P] the patches that masks cover.
        synthetic: bool [k].
    """

    parts: tuple[Samples, ...]
    z: np.ndarray
    striking: np.ndarray
    covered: np.ndarray
    synthetic: np.ndarray

    @property
    def key(self) -> str:
        """Names all that is learnt of."""
        chosen = [np.flatnonzero(one).tolist() for one in (*self.targets, self.synthetic)]
        return digest([[part.key for part in self.parts], *map(digest, chosen), digest(self.z.tolist()), self.files])

    @property
    def files(self) -> list[int]:
        """[k] which image file each is of, counted from 0: crops of one are not known apart."""
        found: dict[str, int] = {}
        return [found.setdefault(row.image, len(found)) for part in self.parts for row in part.rows]

    @property
    def targets(self) -> tuple[np.ndarray, np.ndarray]:
        """What is learnt for image scores, and for maps."""
        return self.striking, self.covered

    @property
    def judged(self) -> np.ndarray:
        """bool [k] those that evidence is judged on: real ones, or all where all are synthetic."""
        return np.full_like(self.synthetic, True) if self.synthetic.all() else ~self.synthetic

    def only(self, keep: np.ndarray) -> "Defects":
        """Those at which bool [k] is true."""
        ends = np.cumsum([len(part.at) for part in self.parts])[:-1]
        each = zip(self.parts, np.split(keep, ends), strict=True)
        parts = tuple(part.subset(np.flatnonzero(kept)) for part, kept in each if kept.any())
        return Defects(parts, self.z[keep], self.striking[keep], self.covered[keep], self.synthetic[keep])


def image_vectors(parts: Sequence[Samples]) -> Iterator[np.ndarray]:
    """Patch vectors float32 [P x D] of each image."""
    for part in parts:
        for at in part.at:
            yield np.asarray(part.embedding.image(at), dtype=np.float32)


def masked_shares(samples: Samples, embedder: Embedder) -> np.ndarray:
    """How much of each patch of n defective images their masks cover, 0 to 1: float32 [n x P].

    Raises DataError where a mask is missing.
    """
    grid, whole, covered = samples.embedding.grid, samples.embedding.covered, []
    for row in samples.rows:
        if row.mask is None:
            raise DataError(f"{row.image}: the positive bank needs a mask for every defect, and this one has none")
        key = (content_digests([row.mask])[0], row, grid)
        if key not in embedder.covers:
            mask = read_row_mask(row, embedder.features.working_size)
            embedder.covers[key] = covered_shares(mask, embedder.features, grid, whole).reshape(-1)
        covered.append(embedder.covers[key])
    return np.stack(covered)


def masked_patches(samples: Samples, embedder: Embedder) -> np.ndarray:
    """Which patches of n defective images their masks touch: bool [n x P]. Raises DataError where a mask is missing."""
    return masked_shares(samples, embedder) > TOUCHED


def covered_patches(shares: np.ndarray, least: float) -> np.ndarray:
    """Of n images the patches that a mask covers by a share at least, or the most where it covers none so far.

    From shares [n x P] to bool [n x P].
    """
    most = shares.max(axis=1, keepdims=True)
    return (shares >= np.minimum(least, most)) & (shares > TOUCHED)


def purified(masks: np.ndarray, distances: np.ndarray, limit: float | None) -> np.ndarray:
    """Of the masked patches bool [n x P] those farther than `limit` from the normal bank, and each image's farthest.

    None keeps all.
    """
    if limit is None:
        return masks
    masked = np.where(masks, distances, -np.inf)
    return masks & ((masked > limit) | (masked == masked.max(axis=1, keepdims=True)))


def masked_points(samples: list[Samples], chosen: list[np.ndarray], batch: str = BATCH) -> Points:
    """The chosen patches (bool [n x P] for each of the samples) as points of a bank.

    Raises DataError where nothing is chosen.
    """
    count = sum(int(masks.sum()) for masks in chosen)
    if count == 0:
        raise DataError("no patch for the positive bank: the training defects' masks are empty")

    def read() -> VectorBlocks:
        return VectorBlocks(
            [
                part.embedding.image(row)[mask]
                for part, masks in zip(samples, chosen, strict=True)
                for row, mask in zip(part.at, masks, strict=True)
            ]
        )

    key = digest([[part.key, np.flatnonzero(masks).tolist()] for part, masks in zip(samples, chosen, strict=True)])
    return Points(read, count, (key,), samples[0].embedding.space, batch)


def crop_points(defective: pa.Table, config: PositivesConfig, embedder: Embedder) -> Points:
    """All patches of the defects' crops, each resized to crop_size, as points of a bank (ExDD)."""
    crops = defect_crops(
        defective,
        contours=config.contours,
        padding=config.padding,
        min_area=config.min_area,
        working_size=embedder.features.working_size,
    )
    features = embedder.features.model_copy(
        update={"resize": config.crop_size, "fit": "stretch", "crop": None, "tiles": None}
    )
    embedding = embedder.embed(crops, features)
    if embedding.reasons:
        raise DataError(f"a defect cannot be cropped: {next(iter(embedding.reasons.values()))}")
    rows = np.arange(crops.num_rows)
    return Points(
        read=partial(embedding.vectors, rows),
        count=len(rows) * embedding.patches,
        inputs=(embedding.key,),
        space=embedding.space,
        batch=BATCH,
        order=embedder.orderer(embedding, rows),
    )
