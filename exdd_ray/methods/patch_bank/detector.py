"""PatchCore and ExDD: one bank of normal patches, or a second one of defects, and scores from the distances."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa

from exdd_ray.banks.memory_bank import MemoryBank, Points, make_bank
from exdd_ray.banks.scoring.distances import BankDistances, smooth
from exdd_ray.banks.scoring.fuse import Calibration, Evidence, Scores, calibrate, critical_patches, score, standardised
from exdd_ray.banks.scoring.maps import map_maker
from exdd_ray.data.catalog import REAL, select_rows
from exdd_ray.errors import DataError
from exdd_ray.features.embedder import Embedder, Samples
from exdd_ray.features.prepare import TOUCHED
from exdd_ray.methods.patch_bank.config import PatchBankConfig
from exdd_ray.methods.patch_bank.evidence import DefectEvidence, fit_evidence
from exdd_ray.methods.patch_bank.learn import HeldOut
from exdd_ray.methods.patch_bank.nearest import nearest, neighbour_distances
from exdd_ray.methods.patch_bank.positives import (
    Defects,
    covered_patches,
    crop_points,
    masked_patches,
    masked_points,
    masked_shares,
    purified,
)
from exdd_ray.methods.predictions import Predictions
from exdd_ray.store.artifact import Store

NORMAL = "normal"  # batch of the normal images' patches in a bank


@dataclass(frozen=True)
class FittedPatchBank:
    """A fitted memory-bank detector.

    Attributes:
        normal: the images that the negative bank was built from.
        negative: bank of normal vectors.
        positive: bank of defect vectors, for a dual bank.
        calibration: for the fusions that standardise distances.
        evidence: of defects, for the fusion that adds it.
        remarks: what a reader of the scores must know.
    """

    config: PatchBankConfig
    embedder: Embedder
    normal: Samples
    negative: MemoryBank
    positive: MemoryBank | None
    calibration: Calibration | None = None
    evidence: DefectEvidence | None = None
    remarks: tuple[str, ...] = ()

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
        same = embedding.key == self.normal.embedding.key
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


def fit_patch_bank(config: PatchBankConfig, train: pa.Table, embedder: Embedder, seed: int) -> FittedPatchBank:
    """Build the bank or banks of a training catalog.

    Args:
        train: normal images, and for a dual bank defective ones with masks, real or synthetic.
        seed: of the coresets' first picks.

    Raises:
        DataError: no normal image, no defect for a dual bank, a defect without a mask.
    """
    store, progress = embedder.store, embedder.progress
    samples = normal_samples(train, embedder)
    negative = make_bank(normal_points(samples, embedder), config.bank.negative, seed, store, progress)
    single = FittedPatchBank(config, embedder, samples, negative, None)
    if config.bank.positive is None:
        return single
    away = _held_out(single) if config.calibrates else None
    limit = float(np.quantile(away, config.purify)) if away is not None and config.purify else None
    defective = select_rows(train, label=1)
    if config.scoring.fusion == "evidence":
        assert away is not None
        known = replace(single, calibration=calibrate(config.scoring, away, None, samples.embedding.grid))
        return _with_evidence(known, defective, away, limit, seed) if defective.num_rows else known
    if defective.num_rows == 0:
        raise DataError("a dual bank needs defects to train on: set dataset.split.defects or a synthesizer")
    positive = make_bank(_positives(defective, single, limit), config.bank.positive, seed, store, progress)
    dual = replace(single, positive=positive)
    return _calibrated(dual, away) if away is not None and config.scoring.fusion == "bonus" else dual


def _calibrated(dual: FittedPatchBank, away: np.ndarray) -> FittedPatchBank:
    """With the statistics of held-out normal images' distances [n x P]."""
    config, embedder, samples = dual.config, dual.embedder, dual.normal
    assert dual.positive is not None
    near = nearest(
        samples.embedding,
        calibration_rows(config, samples),
        dual.positive,
        config.search,
        embedder.store,
        embedder.progress,
        "held-out normal images",
        remote=embedder.search,
    )
    return replace(dual, calibration=calibrate(config.scoring, away, near.nearest, samples.embedding.grid))


def _with_evidence(
    single: FittedPatchBank, defective: pa.Table, away: np.ndarray, limit: float | None, seed: int
) -> FittedPatchBank:
    """With a bank of defects, and what is learnt of them beside held-out normal images at distances [n x P]."""
    config, embedder = single.config, single.embedder
    assert config.bank.positive is not None
    given, points = _masked_defects(single, defective, limit)
    positive = make_bank(points, config.bank.positive, seed, embedder.store, embedder.progress)
    defects = given.only(np.count_nonzero(given.covered, axis=1) > 0)
    normal = single.normal.subset(np.searchsorted(single.normal.at, calibration_rows(config, single.normal)))
    held_out = HeldOut(normal, _z(single, away))
    evidence = fit_evidence(config.evidence, defects, held_out, positive, seed, embedder.store, embedder.progress)
    remarks = _evidence_remarks(len(given.z) - len(defects.z), defects, evidence)
    return replace(single, positive=positive, evidence=evidence, remarks=remarks)


def _masked_defects(single: FittedPatchBank, defective: pa.Table, limit: float | None) -> tuple[Defects, Points]:
    """Defects with what is to be learnt of them, and all of that as points of the positive bank."""
    parts = [part for part in single.embedder.samples(defective) if len(part.at)]
    shares = [masked_shares(part, single.embedder) for part in parts]
    distances = [single.nearest(part, single.negative, "training defects").nearest for part in parts]
    striking = [purified(one > TOUCHED, far, limit) for one, far in zip(shares, distances, strict=True)]
    covered = [covered_patches(one, single.config.evidence.covered) for one in shares]
    points = masked_points(parts, [one | other for one, other in zip(striking, covered, strict=True)])
    defects = Defects(
        parts=tuple(parts),
        z=_z(single, np.concatenate(distances)),
        striking=np.concatenate(striking),
        covered=np.concatenate(covered),
        synthetic=np.concatenate([np.repeat(part.rows[0].origin != REAL, len(part.at)) for part in parts]),
    )
    return defects, points


def _z(single: FittedPatchBank, distances: np.ndarray) -> np.ndarray:
    """Distances [n x P] to the normal bank, smoothed, in standard deviations of held-out normal images' maxima."""
    assert single.calibration is not None
    smoothed = smooth(distances, single.normal.embedding.grid, single.config.scoring.smoothing)
    return standardised(smoothed, single.calibration.negative)


def _evidence_remarks(empty: int, defects: Defects, evidence: DefectEvidence) -> tuple[str, ...]:
    """On defects that nothing is learnt of."""
    masks = f"{empty} training defects are left out: their masks cover no patch of the image"
    synthetic = f"{int(defects.synthetic.sum())} synthetic defects are not learnt: real ones that are left out are not "
    synthetic += "found better with them, or are too few to tell"
    unused = defects.synthetic.any() and evidence.learnt.synthetic == 0
    return (masks,) * (empty > 0) + (synthetic,) * bool(unused)


def predict_from_files(fitted: FittedPatchBank, images: pa.Table) -> Predictions:
    """A catalog's scores and patch maps with nothing read from the store: every image is embedded anew."""
    with TemporaryDirectory() as folder:
        embedder = Embedder(Store(Path(folder)), fitted.config.features)
        return replace(fitted, embedder=embedder).predict(images)


def normal_samples(train: pa.Table, embedder: Embedder) -> Samples:
    """The normal images of a training catalog. Raises DataError where none is readable."""
    normal = select_rows(train, label=0)
    if normal.num_rows == 0:
        raise DataError("no normal image to train on")
    (samples,) = embedder.samples(normal)
    if len(samples.at) == 0:
        raise DataError("no normal image to train on is readable")
    return samples


def normal_points(samples: Samples, embedder: Embedder) -> Points:
    """All patches of normal images, but for background: what the negative bank is chosen from."""
    if embedder.features.foreground:
        return masked_points([samples], [samples.embedding.foreground(samples.at)], NORMAL)
    return Points(
        read=partial(samples.embedding.vectors, samples.at),
        count=len(samples.at) * samples.embedding.patches,
        inputs=(samples.key,),
        space=samples.embedding.space,
        batch=NORMAL,
        order=embedder.orderer(samples.embedding, samples.at),
    )


def others(samples: Samples) -> np.ndarray:
    """Positions of all readable images beside these: the pool that is searched together."""
    return np.setdiff1d(np.flatnonzero(samples.embedding.readable), samples.at)


def calibration_rows(config: PatchBankConfig, normal: Samples) -> np.ndarray:
    """Positions of the normal images on which scores are calibrated: spread evenly over all."""
    at = normal.at
    if len(at) < 2:
        raise DataError(
            "scoring.fusion=bonus or evidence and positives.purify need at least two normal images to calibrate on"
        )
    count = min(config.scoring.calibration, len(at))
    return at[np.unique(np.linspace(0, len(at) - 1, count).round().astype(np.int64))]


def _held_out(fitted: FittedPatchBank) -> np.ndarray:
    """Distances [n x P] of normal images to the negative bank without their own vectors."""
    embedding, embedder = fitted.normal.embedding, fitted.embedder
    own, label = own_images(fitted.negative, fitted.normal), "held-out normal images"
    if len(np.unique(own)) < 2:
        raise DataError(
            f"all {len(own)} vectors of the normal bank are of one image, which cannot be held out: are the normal "
            "images copies of each other, or bank.negative.rate too small?"
        )
    rows = calibration_rows(fitted.config, fitted.normal)
    search, store = fitted.config.search, embedder.store
    found = nearest(
        embedding,
        rows,
        fitted.negative,
        search,
        store,
        embedder.progress,
        label,
        own_images=own,
        remote=embedder.search,
    )
    return found.nearest


def own_images(bank: MemoryBank, normal: Samples) -> np.ndarray:
    """[M] for each vector of a bank of normal images the position of the image that it came from."""
    return normal.at[bank.points // normal.embedding.patches]


def _positives(defective: pa.Table, fitted: FittedPatchBank, limit: float | None) -> Points:
    """Points of the positive bank; of masked ones, those farther than the limit from the negative bank."""
    config, embedder = fitted.config.positives, fitted.embedder
    if config.source == "crop":
        return crop_points(defective, config, embedder)
    samples = [part for part in embedder.samples(defective) if len(part.at)]
    chosen = [masked_patches(part, embedder) for part in samples]
    if limit is not None:
        distances = [fitted.nearest(part, fitted.negative, "training defects").nearest for part in samples]
        chosen = [purified(masks, far, limit) for masks, far in zip(chosen, distances, strict=True)]
    return masked_points(samples, chosen)
