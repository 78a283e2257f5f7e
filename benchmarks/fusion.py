"""Does a dual bank ever lose to the single one, and what does it gain? Magnetic tiles, ResNet-18, 224 pixels.

Every seed draws 80 % of the normal tiles to train on and K defects of all kinds; the other tiles are tested. With a
kind left out, 20 defects of the other kinds are learnt, and those of that kind alone are tested. Image AUROC and pixel
AP (at 224 pixels) of `best`, which adds learnt evidence to the single bank's distances, are compared with the single
bank's on the same images, seed by seed; intervals are Student's t over seeds. `--fusions bonus evidence` adds the
calibrated bonus. Times are of 20 defects, from image files.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
from common import CACHE, report, resnet18, tiles

from exdd_ray.cli.progress import terminal_progress
from exdd_ray.data.catalog import CatalogRow, build_catalog, catalog_rows
from exdd_ray.experiment.session import Session
from exdd_ray.features.embedder import Embedder
from exdd_ray.methods.patch_bank.config import PatchBankConfig
from exdd_ray.methods.patch_bank.detector import FittedPatchBank, fit_patch_bank
from exdd_ray.methods.predictions import Predictions
from exdd_ray.metrics.config import STANDARD
from exdd_ray.metrics.curves import detection
from exdd_ray.metrics.evaluate import pixel_metrics
from exdd_ray.metrics.seeds import Mean, mean_of
from exdd_ray.store.artifact import Store

TRAINED = 0.8
LEFT_OUT = 20


@dataclass(frozen=True)
class Case:
    """So many defects to learn, of all kinds, or of all but one, which then is what is tested."""

    count: int
    left_out: str = ""

    @property
    def name(self) -> str:
        """As in the table."""
        return f"K = {self.count}" + (f" without {self.left_out}" if self.left_out else "")


KINDS = ("blowhole", "break", "crack", "fray", "uneven")
CASES = (*(Case(count) for count in (1, 5, 20, 78)), *(Case(LEFT_OUT, kind) for kind in KINDS))
SINGLE: dict[str, Any] = {"system": "patchcore", "features": resnet18()}
DUAL: dict[str, Any] = {"system": "exdd", "features": resnet18()}


def split(case: Case, seed: int) -> tuple[list[CatalogRow], list[CatalogRow], list[CatalogRow]]:
    """Normal tiles to train on, defects to train on, and tiles to test."""
    rows, rng = catalog_rows(tiles()), np.random.default_rng(seed)
    normal = [row for row in rows if row.label == 0]
    order = rng.permutation(len(normal))
    trained, tested = np.split(order, [int(TRAINED * len(normal))])
    pool = [row for row in rows if row.label == 1 and row.defect != case.left_out]
    learnt = [pool[at] for at in rng.permutation(len(pool))[: case.count]]
    rest = [row for row in rows if row.label == 1 and row not in learnt]
    judged = [row for row in rest if row.defect == case.left_out] if case.left_out else rest
    return [normal[at] for at in trained], learnt, [*(normal[at] for at in tested), *judged]


def fitted(config: PatchBankConfig, train: Sequence[CatalogRow], session: Session, seed: int) -> FittedPatchBank:
    """The detector of so many images."""
    embedder = Embedder(session.store, config.features, tiles(), progress=session.progress)
    return fit_patch_bank(config, build_catalog(train), embedder, seed)


def compared(case: Case, fusions: Sequence[str], session: Session, seed: int) -> dict[str, tuple[float, float]]:
    """Image AUROC and pixel AP of the single bank and of each fusion."""
    normal, learnt, tested = split(case, seed)
    images, found = build_catalog(tested), {}
    for name in ("single", *fusions):
        config = PatchBankConfig.model_validate(SINGLE if name == "single" else {**DUAL, "scoring": {"fusion": name}})
        detector = fitted(config, [*normal, *learnt], session, seed)
        found[name] = judged(detector.predict(images), config, session)
        if detector.evidence is not None:
            print(f"maps raised by {detector.evidence.learnt.rises[1]}", file=sys.stderr, flush=True)
    return found


def judged(found: Predictions, config: PatchBankConfig, session: Session) -> tuple[float, float]:
    """Image AUROC and pixel AP."""
    labels = np.array([row.label for row in found.rows])
    masks = (None if row.mask is None else session.mask(row, config.geometry, STANDARD) for row in found.rows)
    maps = map(found.draw, found.patch_maps)
    pixels = pixel_metrics(zip(maps, masks, strict=True))
    return detection(labels, found.scores).auroc, pixels.detection.ap


def timed(repeats: int) -> dict[str, float]:
    """Seconds of fitting and of predicting with `best` over those of the single bank: medians, all from files.

    200 normal tiles and 20 defects are learnt, 150 tiles are tested.
    """
    normal, learnt, tested = split(Case(LEFT_OUT), 0)
    images, seconds = build_catalog(tested[:150]), {}
    for name, given in (("single", SINGLE), ("dual", DUAL)):
        train = build_catalog([*normal[:200], *(learnt if name == "dual" else ())])
        each = [_seconds(PatchBankConfig.model_validate(given), train, images) for _ in range(repeats)]
        seconds[name] = np.median(each, axis=0)
        print(f"{name}: fit, predict {seconds[name].round(2)} s", file=sys.stderr, flush=True)
    fit, predict = seconds["dual"] / seconds["single"]
    return {"fit_ratio": round(float(fit), 3), "predict_ratio": round(float(predict), 3)}


def _seconds(config: PatchBankConfig, train: pa.Table, images: pa.Table) -> tuple[float, float]:
    with TemporaryDirectory() as folder:
        started = time.perf_counter()
        detector = fit_patch_bank(config, train, Embedder(Store(Path(folder)), config.features), 0)
        between = time.perf_counter()
        detector.predict(images)
        return between - started, time.perf_counter() - between


def keys_of(found: Mapping[Case, np.ndarray], at: int) -> dict[str, Any]:
    """Differences of image AUROC and ratios of pixel AP to the single bank's, means over seeds.

    Args:
        found: by case image AUROC and pixel AP [seeds x fusions x 2], the single bank's first.
        at: which fusion.
    """
    gained = {case: values[:, at, 0] - values[:, 0, 0] for case, values in found.items()}
    times = {case: values[:, at, 1] / values[:, 0, 1] for case, values in found.items()}
    keys = {f"k{case.count}": round(float(gained[case].mean()), 4) for case in found if not case.left_out}
    keys |= {f"pixel_k{case.count}": round(float(times[case].mean()), 3) for case in found if not case.left_out}
    left_out = [case for case in found if case.left_out]
    if left_out:
        keys["left_out_image"] = round(min(float(gained[case].mean()) for case in left_out), 4)
        keys["left_out_pixel"] = round(min(float(times[case].mean()) for case in left_out), 3)
    return keys


def rows_of(found: Mapping[Case, np.ndarray], fusions: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Rows of the table: the single bank, and each fusion less it, over it."""
    for case, values in found.items():
        single = f"{values[:, 0, 0].mean():.4f} / {values[:, 0, 1].mean():.3f}"
        for at, name in enumerate(fusions, start=1):
            gain = mean_of(values[:, at, 0] - values[:, 0, 0])
            times = mean_of(values[:, at, 1] / values[:, 0, 1])
            yield case.name, single, name, _shown(gain, "+.4f"), _shown(times, ".3f")


def _shown(mean: Mean, how: str) -> str:
    return f"{mean.value:{how}}" + ("" if mean.half is None else f" ± {mean.half:{how.lstrip('+')}}")


def draw(found: Mapping[Case, np.ndarray], fusions: Sequence[str], file: Path) -> None:
    """A picture of every case: a point a seed, and the mean."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    names = [case.name for case in found]
    for at, fusion in enumerate(fusions, start=1):
        heights = np.arange(len(names)) + 0.25 * (at - (len(fusions) + 1) / 2)
        gains = np.array([values[:, at, 0] - values[:, 0, 0] for values in found.values()])
        times = np.array([values[:, at, 1] / values[:, 0, 1] for values in found.values()])
        for panel, each in zip(panels, (gains, times), strict=True):
            (drawn,) = panel.plot(each.mean(axis=1), heights, "D", label=fusion)
            panel.plot(each, np.broadcast_to(heights[:, None], each.shape), ".", color=drawn.get_color(), alpha=0.4)
    for panel, title, none in zip(
        panels, ("image AUROC less the single bank's", "pixel AP over it"), (0, 1), strict=True
    ):
        panel.axvline(none, color="grey", linewidth=1)
        panel.set_title(title)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].invert_yaxis()
    panels[1].legend()
    figure.savefig(file, dpi=120)


def main() -> int:
    """Every case with every seed, then the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--fusions", nargs="+", choices=["bonus", "evidence"], default=["evidence"])
    parser.add_argument("--repeats", type=int, default=3, help="of the timed runs; 0 leaves them out")
    parser.add_argument("--figure", type=Path, help="picture to write")
    options = parser.parse_args()
    session = Session(Store(CACHE / "store"), terminal_progress)
    by_case: dict[Case, list[list[tuple[float, float]]]] = {case: [] for case in CASES}
    for seed in options.seeds:
        for case in CASES:
            values = compared(case, options.fusions, session, seed)
            by_case[case].append(list(values.values()))
            print(seed, case.name, values, file=sys.stderr, flush=True)
    found = {case: np.array(values) for case, values in by_case.items()}
    if options.figure is not None:
        draw(found, options.fusions, options.figure)
    keys: dict[str, Any] = {}
    if "evidence" in options.fusions:
        keys |= keys_of(found, options.fusions.index("evidence") + 1)
    if options.repeats:
        keys |= timed(options.repeats)
    header = ("defects learnt", "single: image AUROC / pixel AP", "fusion", "image AUROC less it", "pixel AP over it")
    rows, given = list(rows_of(found, options.fusions)), {**vars(options), "figure": str(options.figure)}
    report("The dual bank against the single one", header, rows, {**given, **keys})
    return 0


if __name__ == "__main__":
    sys.exit(main())
