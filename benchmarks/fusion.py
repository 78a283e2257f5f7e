"""Does a dual bank ever lose to the single one, and what does it gain? Magnetic tiles, ResNet-18, 224 pixels.

Every seed draws 80 % of the normal tiles to train on and K defects of all kinds; the other tiles are tested. With a
kind left out, 20 defects of the other kinds are learnt, and those of that kind alone are tested. Image AUROC and pixel
AP (at 224 pixels) of `best`, which adds learnt evidence to the single bank's distances, are compared with the single
bank's on the same images, seed by seed; intervals are Student's t over seeds. `--fusions bonus evidence` adds the
calibrated bonus. Times are of 20 defects, from image files. `--peers` adds SuperSimpleNet at K = 0, 20 and 78, on the
same features, and anomalib's at K = 0, on the same images and weights; `--fusions` without a name leaves fusions out.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
from common import CACHE, report, resnet18, tiles
from fusion_peers import PEERS

from exdd_ray.cli.progress import terminal_progress
from exdd_ray.data.catalog import CatalogRow, build_catalog, catalog_rows
from exdd_ray.experiment.session import Session
from exdd_ray.features.embedder import Embedder
from exdd_ray.methods.patch_bank.config import PatchBankConfig
from exdd_ray.methods.patch_bank.detector import FittedPatchBank
from exdd_ray.methods.patch_bank.fit import fit_patch_bank
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
CASES = (*(Case(count) for count in (0, 1, 5, 20, 78)), *(Case(LEFT_OUT, kind) for kind in KINDS))
SINGLE: dict[str, Any] = {"system": "patchcore", "features": resnet18()}
DUAL: dict[str, Any] = {"system": "exdd", "features": resnet18()}

Figures = Mapping[str, np.ndarray]  # by name image AUROC and pixel AP [seeds x 2]; some are of the first seeds alone


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


def everything(
    fusions: Sequence[str], peers: Sequence[str], session: Session, seeds: Sequence[int]
) -> dict[Case, Figures]:
    """Every case with every seed, where there is something to compare with the single bank."""
    values: dict[Case, dict[str, list[tuple[float, float]]]] = {}
    for place, seed in enumerate(seeds):
        for case in CASES:
            names = [*fusions, *(peer for peer in peers if is_peer(peer, case, place))]
            if not names:
                continue
            each = compared(case, names, session, seed)
            print(seed, case.name, each, file=sys.stderr, flush=True)
            for name, figures in each.items():
                values.setdefault(case, {}).setdefault(name, []).append(figures)
    return {case: {name: np.array(each) for name, each in figures.items()} for case, figures in values.items()}


def is_peer(name: str, case: Case, place: int) -> bool:
    """Whether a peer is compared in a case, with the seed at some place."""
    peer = PEERS[name]
    return not case.left_out and case.count in peer.counts and (place == 0 or not peer.once)


def compared(case: Case, names: Sequence[str], session: Session, seed: int) -> dict[str, tuple[float, float]]:
    """Image AUROC and pixel AP of the single bank and of each fusion or peer."""
    normal, learnt, tested = split(case, seed)
    train, images = [*normal, *learnt], build_catalog(tested)
    found = {}
    for name in ("single", *names):
        predict = PEERS[name].predict if name in PEERS else partial(by_bank, name)
        found[name] = judged(predict(train, images, session, seed), session)
    return found


def by_bank(name: str, train: Sequence[CatalogRow], images: pa.Table, session: Session, seed: int) -> Predictions:
    """What the single bank or a fusion says of images."""
    config = PatchBankConfig.model_validate(SINGLE if name == "single" else {**DUAL, "scoring": {"fusion": name}})
    detector = fitted(config, train, session, seed)
    if detector.evidence is not None:
        print(f"maps raised by {detector.evidence.learnt.lifts[1]}", file=sys.stderr, flush=True)
    return detector.predict(images)


def judged(found: Predictions, session: Session) -> tuple[float, float]:
    """Image AUROC and pixel AP."""
    labels = np.array([row.label for row in found.rows])
    masks = (None if row.mask is None else session.mask(row, resnet18(), STANDARD) for row in found.rows)
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


def against_single(figures: Figures, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Image AUROC less the single bank's, and pixel AP over it, seed by seed."""
    own = figures[name]
    single = figures["single"][: len(own)]
    return own[:, 0] - single[:, 0], own[:, 1] / single[:, 1]


def keys_of(found: Mapping[Case, Figures], name: str, prefix: str = "") -> dict[str, Any]:
    """Differences of image AUROC and ratios of pixel AP to the single bank's, means over seeds.

    Args:
        prefix: of the keys.
    """
    named = {case: figures for case, figures in found.items() if name in figures}
    means = {case: [float(each.mean()) for each in against_single(figures, name)] for case, figures in named.items()}
    whole = {case: mean for case, mean in means.items() if not case.left_out}
    keys: dict[str, Any] = {f"{prefix}k{case.count}": round(gain, 4) for case, (gain, _) in whole.items()}
    keys |= {f"{prefix}pixel_k{case.count}": round(times, 3) for case, (_, times) in whole.items()}
    left_out = [mean for case, mean in means.items() if case.left_out]
    if left_out:
        keys |= {f"{prefix}left_out_image": round(min(gain for gain, _ in left_out), 4)}
        keys |= {f"{prefix}left_out_pixel": round(min(times for _, times in left_out), 3)}
    return keys


def rows_of(found: Mapping[Case, Figures]) -> Iterator[tuple[str, ...]]:
    """Rows of the table: the single bank, and each fusion or peer less it, over it."""
    for case, figures in found.items():
        for name in [name for name in figures if name != "single"]:
            auroc, ap = figures["single"][: len(figures[name])].mean(axis=0)
            gain, times = map(mean_of, against_single(figures, name))
            yield case.name, f"{auroc:.4f} / {ap:.3f}", name, _shown(gain, "+.4f"), _shown(times, ".3f")


def _shown(mean: Mean, how: str) -> str:
    return f"{mean.value:{how}}" + ("" if mean.half is None else f" ± {mean.half:{how.lstrip('+')}}")


def draw(found: Mapping[Case, Figures], fusions: Sequence[str], file: Path) -> None:
    """A picture of every case: a point a seed, and the mean."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    names = [case.name for case in found]
    for at, fusion in enumerate(fusions, start=1):
        heights = np.arange(len(names)) + 0.25 * (at - (len(fusions) + 1) / 2)
        gains, times = map(np.array, zip(*(against_single(figures, fusion) for figures in found.values()), strict=True))
        for panel, each in zip(panels, (gains, times), strict=True):
            (drawn,) = panel.plot(each.mean(axis=1), heights, "D", label=fusion)
            panel.plot(each, np.broadcast_to(heights[:, None], each.shape), ".", color=drawn.get_color(), alpha=0.4)
    for panel, title, none in zip(
        panels, ("image AUROC less the single bank's", "pixel AP over it"), (0, 1), strict=True
    ):
        panel.axvline(none, color="grey", linewidth=1)
        panel.set_title(title)
        panel.locator_params(axis="x", nbins=6)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].invert_yaxis()
    panels[1].legend()
    figure.savefig(file, dpi=120)


def main() -> int:
    """Every case with every seed, then the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--fusions", nargs="*", choices=["bonus", "evidence"], default=["evidence"])
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), default=[])
    parser.add_argument("--repeats", type=int, default=3, help="of the timed runs; 0 leaves them out")
    parser.add_argument("--figure", type=Path, help="picture to write")
    options = parser.parse_args()
    session = Session(Store(CACHE / "store"), terminal_progress)
    found = everything(options.fusions, options.peers, session, options.seeds)
    if options.figure is not None:
        draw(found, options.fusions, options.figure)
    keys = keys_of(found, "evidence") if "evidence" in options.fusions else {}
    for peer in options.peers:
        keys |= keys_of(found, peer, f"{peer}_")
    if options.repeats:
        keys |= timed(options.repeats)
    header = ("defects learnt", "single: image AUROC / pixel AP", "fusion", "image AUROC less it", "pixel AP over it")
    rows, given = list(rows_of(found)), {**vars(options), "figure": str(options.figure)}
    report("The dual bank against the single one", header, rows, {**given, **keys})
    return 0


if __name__ == "__main__":
    sys.exit(main())
