"""PatchCore and ExDD: one bank of normal patches, or a second one of defects, and scores from the distances."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pyarrow as pa

from exdd_ray.banks.vectors import VectorBlocks
from exdd_ray.config.detector import PatchBankConfig, ScoringConfig
from exdd_ray.data.catalog import CatalogRow, select_rows
from exdd_ray.detectors.bank import MemoryBank, Points, make_bank
from exdd_ray.detectors.nearest import nearest, neighbour_distances
from exdd_ray.detectors.positives import Positives, crop_vectors, gather, masked_patches, purified
from exdd_ray.detectors.samples import Embedder, Samples
from exdd_ray.errors import DataError
from exdd_ray.scoring.distances import BankDistances
from exdd_ray.scoring.fuse import Calibration, Evidence, Scores, calibrate, critical_patches, score
from exdd_ray.scoring.maps import MapMaker, map_maker


@dataclass(frozen=True)
class Predictions:
    """Scores of n images.

    Attributes:
        rows: the images.
        scores: [n] image scores, higher is more anomalous.
        patch_maps: [n x P].
        draw: turns a patch map into an anomaly map.
    """

    rows: tuple[CatalogRow, ...]
    scores: np.ndarray
    patch_maps: np.ndarray
    draw: MapMaker


@dataclass(frozen=True)
class FittedPatchBank:
    """A fitted memory-bank detector.

    Attributes:
        normal: the images that the negative bank was built from.
        negative: bank of normal vectors.
        positive: bank of defect vectors, for a dual bank.
        calibration: for the bonus fusion.
    """

    config: PatchBankConfig
    embedder: Embedder
    normal: Samples
    negative: MemoryBank
    positive: MemoryBank | None
    calibration: Calibration | None

    def predict(self, catalog: pa.Table) -> Predictions:
        """Scores and patch maps of the readable images of a catalog. Raises DataError where none is."""
        parts = [part for part in self.embedder.samples(catalog) if len(part.at)]
        if not parts:
            raise DataError("nothing to predict: no image of the catalog is readable")
        scored = [self._score(part) for part in parts]
        return Predictions(
            rows=tuple(row for part in parts for row in part.rows),
            scores=np.concatenate([part.images for part in scored]),
            patch_maps=np.concatenate([part.maps for part in scored]),
            draw=map_maker(self.config.scoring, parts[0].embedding.grid, self.config.features.input_size),
        )

    def _score(self, samples: Samples) -> Scores:
        scoring, grid = self.config.scoring, samples.embedding.grid
        negative = self.nearest(samples, self.negative, "test images, normal bank")
        positive = None if self.positive is None else self.nearest(samples, self.positive, "test images, defect bank")
        at_n, at_p = critical_patches(scoring, grid, negative.nearest, positive.nearest if positive else None)
        evidence = Evidence(
            negative=negative,
            positive=positive,
            negative_neighbours=self._neighbours(samples, at_n, negative, self.negative),
            positive_neighbours=self._neighbours(samples, at_p, positive, self.positive),
            grid=grid,
            dim=samples.embedding.dim,
            calibration=self.calibration,
        )
        return score(scoring, evidence)

    def nearest(self, samples: Samples, bank: MemoryBank, label: str) -> BankDistances:
        """Distances of the samples' patches to a bank.

        All images beside the ones that the negative bank was built from are searched together, so that selections of
        them that differ from trial to trial are served by one search.
        """
        embedding, readable = samples.embedding, np.flatnonzero(samples.embedding.readable)
        pool = np.setdiff1d(readable, self.normal.at) if embedding.key == self.normal.embedding.key else readable
        if not np.isin(samples.at, pool).all():
            pool = np.unique(samples.at)
        found = nearest(embedding, pool, bank, self.embedder.store, self.embedder.progress, label)
        keep = np.searchsorted(pool, samples.at)
        return BankDistances(found.nearest[keep], found.indices[keep])

    def _neighbours(
        self, samples: Samples, at: np.ndarray | None, found: BankDistances | None, bank: MemoryBank | None
    ) -> np.ndarray | None:
        if at is None or found is None or bank is None or not self.config.scoring.neighbours:
            return None
        return neighbour_distances(samples, at, found, bank, self.config.scoring.neighbours, self.embedder.store)


def fit_patch_bank(config: PatchBankConfig, train: pa.Table, embedder: Embedder, seed: int) -> FittedPatchBank:
    """Build the bank or banks of a training catalog.

    Args:
        train: normal images, and for a dual bank defective ones with masks, real or synthetic.
        seed: of the coresets' first picks.

    Raises:
        DataError: no normal image, no defect for a dual bank, a defect without a mask.
    """
    normal = select_rows(train, label=0)
    if normal.num_rows == 0:
        raise DataError("no normal image to train on")
    (samples,) = embedder.samples(normal)
    if len(samples.at) == 0:
        raise DataError("no normal image to train on is readable")
    store, progress = embedder.store, embedder.progress
    space = samples.embedding.space
    points = Points(
        read=partial(samples.embedding.vectors, samples.at),
        count=len(samples.at) * samples.embedding.patches,
        inputs=(samples.key,),
        space=space,
        batch="normal",
    )
    negative = make_bank(points, config.bank.negative, seed, store, progress)
    single = FittedPatchBank(config, embedder, samples, negative, None, None)
    if config.bank.positive is None:
        return single
    held_out = _held_out(config.scoring, samples)
    own = samples.at[negative.points // samples.embedding.patches]
    where = (samples.embedding, held_out)
    away = nearest(*where, negative, store, progress, "held-out normal images", own_images=own).nearest
    found = _positives(select_rows(train, label=1), single, away)
    points = Points(partial(VectorBlocks, [found.vectors]), len(found.vectors), (found.key,), space, "defect")
    positive = make_bank(points, config.bank.positive, seed, store, progress)
    near = nearest(*where, positive, store, progress, "held-out normal images").nearest
    calibration = calibrate(config.scoring, away, near, samples.embedding.grid)
    return replace(single, positive=positive, calibration=calibration)


def _held_out(config: ScoringConfig, normal: Samples) -> np.ndarray:
    """Positions of the normal images on which scores are calibrated: spread evenly over all."""
    count = min(config.calibration, len(normal.at))
    return normal.at[np.unique(np.linspace(0, len(normal.at) - 1, count).round().astype(np.int64))]


def _positives(defective: pa.Table, fitted: FittedPatchBank, normal: np.ndarray) -> Positives:
    config, embedder = fitted.config.positives, fitted.embedder
    if defective.num_rows == 0:
        raise DataError("a dual bank needs defects to train on: set dataset.split.defects or a synthesizer")
    if config.source == "crop":
        return crop_vectors(defective, config, embedder)
    samples = [part for part in embedder.samples(defective) if len(part.at)]
    chosen = [masked_patches(part, embedder) for part in samples]
    if config.purify is not None:
        limit = float(np.quantile(normal, config.purify))
        distances = [fitted.nearest(part, fitted.negative, "training defects").nearest for part in samples]
        chosen = [purified(masks, far, limit) for masks, far in zip(chosen, distances, strict=True)]
    return gather(samples, chosen)
