"""Who trains and is tested in a trial, and whether the data allow it."""

from dataclasses import dataclass
from math import ceil

import pyarrow as pa
import pyarrow.compute as pc

from exdd_ray.data.catalog import UNLABELLED, UNSPLIT, VALIDATION, select_rows
from exdd_ray.data.datasets import DATASETS
from exdd_ray.data.split import positives_from_test
from exdd_ray.errors import DataError, told_of
from exdd_ray.experiment.config import ExperimentConfig
from exdd_ray.experiment.dataset import copies, copy_remarks, split_universe
from exdd_ray.experiment.remarks import synthesis_remarks
from exdd_ray.methods.config import DetectorConfig
from exdd_ray.methods.method import LearnsFrom
from exdd_ray.methods.table import method_of, methods
from exdd_ray.synthesizers.config import SynthesizerConfig
from exdd_ray.synthesizers.leaves import leaves
from exdd_ray.synthesizers.table import synthesizer_of

NO_THRESHOLDS = (
    "no recall at a false-alarm rate and no SegF1: no normal image is held out to choose their thresholds on "
    "(dataset.split.validation_fraction)"
)


@dataclass(frozen=True)
class Assignment:
    """Who trains, who is held out and who is tested in a trial, and what a reader must know about it.

    Attributes:
        validation: held out to choose experiments by; of both labels, or none.
        normal: held out to choose thresholds on; all normal.
    """

    train: pa.Table
    validation: pa.Table
    normal: pa.Table
    test: pa.Table
    remarks: tuple[str, ...]

    @property
    def held_out(self) -> pa.Table:
        """All that is held out and used."""
        return self.validation if self.validation.num_rows else self.normal


def assign(config: ExperimentConfig, universe: pa.Table) -> Assignment:
    """Split one category and check that the trial can be run on it; images are hashed, not decoded.

    A test set of one class, or without labels, gets scores and a remark that nothing can be measured.

    Raises DataError for nothing to test, no normal image, or no defect for a detector that needs some.
    """
    catalog = split_universe(config, universe)
    train, validation, test = (select_rows(catalog, split=name) for name in ("train", VALIDATION, "test"))
    if not test.num_rows:
        raise DataError(f"{universe['category'][0].as_py()}: no image to test")
    thresholds_on = select_rows(validation, label=0)
    validation, unused = _usable_validation(config, validation)
    if config.synthesizer is not None:
        _require_models(config.synthesizer)
    normal, defects = select_rows(train, label=0), select_rows(train, label=1)
    learns, method = learns_from(config.detector), method_of(config.detector)
    usable, left_out = _usable(defects, learns)
    synthetic = config.synthesizer is not None and config.synthesizer.count > 0
    without = learns.defects and usable.num_rows == 0 and not synthetic
    if without and (defects.num_rows or not learns.alone):  # defects that are there are not left out without a word
        raise DataError(_no_defects(learns, defects.num_rows))
    trained = pa.concat_tables([normal, usable])
    unmeasured = tuple(f"scores without metrics: the test images {lacking}" for lacking in [_lacking(test)] if lacking)
    painted = synthesis_remarks(config) if synthetic and learns.defects else ()
    held_out = validation if validation.num_rows else thresholds_on
    copied = copy_remarks(config, universe, pa.concat_tables([trained, held_out]), test)
    unchosen = () if unmeasured else _unchosen(thresholds_on.num_rows, config.evaluation.false_alarm_rate)
    of_images = _leakage(config, universe, catalog) + copied + left_out
    none = ("no defect to train on: what is normal decides alone",) * without
    of_config = painted + none + method.remarks(config.detector)
    remarks = unmeasured + unused + of_config + of_images + unchosen
    return Assignment(trained, validation, thresholds_on, test, remarks)


def _require_models(synthesizer: SynthesizerConfig) -> None:
    """Refuse a model that cannot be had, before anything is computed."""
    for leaf in leaves(synthesizer):
        with told_of(leaf.part):
            synthesizer_of(leaf.config).model(leaf.config)


def learns_from(detector: DetectorConfig) -> LearnsFrom:
    """What a detector learns from beside normal images."""
    return method_of(detector).learns_from(detector)


def require_both_labels(images: pa.Table) -> None:
    """Raise DataError where test images allow no metrics, for a sweep has nothing else to compare by."""
    if lacking := _lacking(images):
        raise DataError(f"{images['category'][0].as_py()}: nothing can be compared: the test images {lacking}")


def _usable_validation(config: ExperimentConfig, images: pa.Table) -> tuple[pa.Table, tuple[str, ...]]:
    """The validation images, and the remark on the dataset's own where they are of one class and so allow no choice.

    Raises DataError where the experiment asks for some.
    """
    lacking = _lacking(images) if images.num_rows else ""
    if not lacking:
        return images, ()
    if config.dataset.split.validation_defects:
        raise DataError(f"{images['category'][0].as_py()}: the validation images {lacking}")
    if config.dataset.split.validation_fraction:
        return images.slice(0, 0), ()
    remark = (
        f"the dataset's own validation images ({images.num_rows}) {lacking}, and are neither trained on nor tested: "
        "thresholds are chosen on normal ones; with dataset.split.validation_defects of the test they can be chosen by"
    )
    return images.slice(0, 0), (remark,)


def _unchosen(normal: int, rate: float) -> tuple[str, ...]:
    """The remark on held-out normal images that are too few to choose thresholds on."""
    if normal == 0:
        return (NO_THRESHOLDS,)
    least = ceil(1 / rate - 1 - 1e-9)
    too_few = (
        f"no recall at false alarms of {rate:g}: that takes {least} held-out normal images, and there are {normal}"
    )
    return (too_few,) * (normal < least)


def _lacking(images: pa.Table) -> str:
    """Why AUROC and AP are undefined on images; empty where they are not."""
    if select_rows(images, label=UNLABELLED).num_rows:
        return "have no labels"
    normal = select_rows(images, label=0).num_rows
    return {0: "are all defective", images.num_rows: "are all normal"}.get(normal, "")


def _usable(defects: pa.Table, learns: LearnsFrom) -> tuple[pa.Table, tuple[str, ...]]:
    """The training defects that a detector learns from, and the remark on those that it cannot."""
    if not learns.defects:
        return defects.slice(0, 0), ()
    if not learns.masks:
        return defects, ()
    masked = defects.filter(pc.is_valid(defects["mask"]))
    without = defects.num_rows - masked.num_rows
    return masked, (f"{without} training defects have no mask and are left out",) * (without > 0)


def _no_defects(learns: LearnsFrom, defects: int) -> str:
    if learns.masks and defects:
        others = " or ".join(kind for kind, one in methods().items() if _without_masks(one.learns_from(one.config())))
        return (
            f"{learns.name} needs defects with masks to train on, and none of the {defects} training defects has one: "
            f"add masks, set a synthesizer, or take a detector that needs none (detector.kind={others})"
        )
    return f"{learns.name} needs defects to train on, and there is none: set dataset.split.defects or a synthesizer"


def _without_masks(learns: LearnsFrom) -> bool:
    return learns.defects and not learns.masks


def _leakage(config: ExperimentConfig, universe: pa.Table, catalog: pa.Table) -> tuple[str, ...]:
    remarks: tuple[str, ...] = ()
    spec = DATASETS.get(config.dataset.name)
    if spec is not None and spec.related and pc.any(pc.equal(universe["split"], UNSPLIT)).as_py():
        remarks += (f"leakage: {spec.related}, and the split is random",)
    moved = positives_from_test(universe, catalog)
    if moved and learns_from(config.detector).defects:
        remarks += (
            f"training defects ({moved}) were taken from the dataset's test split and are not tested: figures of the "
            "whole test split are of other images",
        )
    return remarks


def mask_donors(config: ExperimentConfig, universe: pa.Table, train: pa.Table) -> pa.Table:
    """Defects whose masks a synthesizer may take: those trained on.

    Where a trial trains on none (zero-shot), masks are those of the defects that the dataset itself has in train, but
    for the ones held out for validation: DIAG's stand-in for masks that an expert draws. Nothing stands in for pixels.
    """
    defects = select_rows(train, label=1)
    if defects.num_rows:
        return defects
    official, split = select_rows(universe, split="train", label=1), split_universe(config, universe)
    held_out = select_rows(split, split=VALIDATION)["id"].combine_chunks()
    donors = official.filter(pc.invert(pc.is_in(official["id"], held_out)))
    if config.dataset.duplicates == "keep":
        return donors
    tested = pa.concat_tables([donors, select_rows(split, split="test")])
    return donors.filter(pa.array(~copies(tested)[: donors.num_rows]))
