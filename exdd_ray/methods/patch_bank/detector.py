"""PatchCore and ExDD: one bank of normal patches, or a second one of defects, and scores from the distances."""

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa

from exdd_ray.banks.memory_bank import MemoryBank
from exdd_ray.banks.scoring.distances import BankDistances, mean_distances
from exdd_ray.banks.scoring.fuse import Calibration, Evidence, Scores, critical_patches, score
from exdd_ray.banks.scoring.maps import MapMaker, map_maker
from exdd_ray.errors import DataError
from exdd_ray.features.embed import Embedding
from exdd_ray.features.embedder import Embedder, Samples
from exdd_ray.methods.patch_bank.config import PatchBankConfig
from exdd_ray.methods.patch_bank.evidence import DefectEvidence
from exdd_ray.methods.patch_bank.nearest import nearest, neighbour_distances
from exdd_ray.methods.patch_bank.normal import others
from exdd_ray.methods.predictions import Predictions
from exdd_ray.store.artifact import Store


@dataclass(frozen=True)
class FittedPatchBank:
    """A fitted memory-bank detector.

    Attributes:
        normal: the images that the negative bank was built from.
        negative: bank of normal vectors; of the first layer's, where layers are kept apart.
        positive: bank of defect vectors, for a dual bank.
        calibration: for the fusions that standardise distances.
        evidence: of defects, for the fusion that adds it.
        remarks: what a reader of the scores must know.
        deeper: banks of the other layers' normal vectors, where layers are kept apart.
    """

    config: PatchBankConfig
    embedder: Embedder
    normal: Samples
    negative: MemoryBank
    positive: MemoryBank | None
    calibration: Calibration | None = None
    evidence: DefectEvidence | None = None
    remarks: tuple[str, ...] = ()
    deeper: tuple[MemoryBank, ...] = ()

    @property
    def normal_vectors(self) -> int:
        """How many there are in all banks of them."""
        return sum(len(bank.vectors) for bank in (self.negative, *self.deeper))

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
            draw=self.map_maker(parts[0].embedding),
        )

    def map_maker(self, embedding: Embedding) -> MapMaker:
        """What draws the anomaly maps of embedded images."""
        return map_maker(self.config.scoring, embedding.grid, self.config.features.input_size, embedding.covered)

    def _score(self, samples: Samples) -> Scores:
        scoring, grid = self.config.scoring, samples.embedding.grid
        banks = zip(samples.parts, (self.negative, *self.deeper), strict=True)
        negative = mean_distances([self.nearest(part, bank, "test images, normal bank") for part, bank in banks])
        positive = None
        if self.positive is not None and self.evidence is None:
            positive = self.nearest(samples, self.positive, "test images, defect bank")
        at_n, at_p = critical_patches(scoring, grid, negative.nearest, positive.nearest if positive else None)
        evidence = Evidence(
            negative=negative,
            positive=positive,
            negative_neighbours=self._neighbours(samples, at_n, negative, self.negative),
            positive_neighbours=self._neighbours(samples, at_p, positive, self.positive),
            grid=grid,
            dim=samples.embedding.dim,
            calibration=self.calibration,
            added=self._added(samples),
        )
        return score(scoring, evidence)

    def _added(self, samples: Samples) -> np.ndarray | None:
        """What evidence adds to the scores of patches [2 x n x P]: nothing where no defect was there to learn of."""
        if self.config.scoring.fusion != "evidence":
            return None
        if self.evidence is None:
            return np.zeros((2, len(samples.at), samples.embedding.patches))
        return self.evidence.added(samples, self.embedder.store)

    def nearest(self, samples: Samples, bank: MemoryBank, label: str) -> BankDistances:
        """Distances of the samples' patches to a bank.

        All images beside the ones that the negative bank was built from are searched together, so that selections of
        them that differ from trial to trial are served by one search.
        """
        embedding = samples.embedding
        same = embedding.key in {part.key for part in self.normal.embedding.parts}
        pool = others(self.normal) if same else np.flatnonzero(embedding.readable)
        if not np.isin(samples.at, pool).all():
            pool = np.unique(samples.at)
        embedder, search = self.embedder, self.config.search
        found = nearest(embedding, pool, bank, search, embedder.store, embedder.progress, label, remote=embedder.search)
        keep = np.searchsorted(pool, samples.at)
        distances = found.nearest[keep]
        if embedder.features.foreground:
            distances = np.where(embedding.foreground(samples.at), distances, 0)
        return BankDistances(distances, found.indices[keep])

    def _neighbours(
        self, samples: Samples, at: np.ndarray | None, found: BankDistances | None, bank: MemoryBank | None
    ) -> np.ndarray | None:
        if at is None or found is None or bank is None or not self.config.scoring.neighbours:
            return None
        return neighbour_distances(samples, at, found, bank, self.config.scoring.neighbours, self.embedder.store)


def predict_from_files(fitted: FittedPatchBank, images: pa.Table) -> Predictions:
    """A catalog's scores and patch maps with nothing read from the store: every image is embedded anew."""
    with TemporaryDirectory() as folder:
        embedder = Embedder(Store(Path(folder)), fitted.config.features)
        return replace(fitted, embedder=embedder).predict(images)
