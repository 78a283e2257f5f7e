"""Fitting PatchCore and ExDD: banks, what scores are standardised by, and evidence of defects."""

from dataclasses import replace

import numpy as np
import pyarrow as pa

from exdd_ray.banks.memory_bank import Points, make_bank
from exdd_ray.banks.scoring.distances import smooth
from exdd_ray.banks.scoring.fuse import calibrate, standardised
from exdd_ray.data.catalog import REAL, select_rows
from exdd_ray.errors import DataError
from exdd_ray.features.embedder import Embedder
from exdd_ray.features.prepare import TOUCHED
from exdd_ray.methods.patch_bank.config import PatchBankConfig
from exdd_ray.methods.patch_bank.detector import FittedPatchBank
from exdd_ray.methods.patch_bank.evidence import DefectEvidence, fit_evidence
from exdd_ray.methods.patch_bank.learn import HeldOut
from exdd_ray.methods.patch_bank.nearest import nearest
from exdd_ray.methods.patch_bank.normal import calibration_rows, normal_points, normal_samples, own_images
from exdd_ray.methods.patch_bank.positives import (
    Defects,
    covered_patches,
    crop_points,
    masked_patches,
    masked_points,
    masked_shares,
    purified,
)


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
    points = normal_points(samples, embedder, config.bank.rotations)
    negative, *deeper = (make_bank(one, config.bank.negative, seed, store, progress) for one in points)
    single = FittedPatchBank(config, embedder, samples, negative, None, deeper=tuple(deeper))
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
