"""Does synthesis help an image classifier? AP on magnetic tiles with 0, 5 and 78 real defects, and 100 synthetic ones.

The split is the same for all: 191 normal and 314 defective tiles are tested, the other 78 defects (a fifth) can be
trained on, beside `--normal` of the other normal ones. Three seeds draw the five defects, the synthetic ones, the head
and the batches; intervals are Student's t over them. The classifier is the preset `best` with ImageNet's weights: it
holds a fifth of its training images out to choose its checkpoint. AP of a random score is 0.62 here.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
from common import CACHE, SHARED, report, tiles

from exdd_ray.cli.progress import terminal_progress
from exdd_ray.data.catalog import select_rows
from exdd_ray.data.split import split_catalog
from exdd_ray.experiment.config import ExperimentConfig
from exdd_ray.experiment.load import Trial
from exdd_ray.experiment.result import TrialResult
from exdd_ray.experiment.session import Session
from exdd_ray.experiment.trial import run_trial
from exdd_ray.metrics.seeds import mean_of
from exdd_ray.store.artifact import Store

FULL = 78
SHOTS = {"zero-shot": 0, "5 defects": 5, "78 defects": FULL}
PROMPTS = ("hole", "crack", "scratch", "stain", "fray")
BACKBONES: dict[str, dict[str, object]] = {
    "squeezenet1_1": {"layers": ["features"], "weights": "squeezenet1_1_in1k.safetensors"},
    "resnet18": {"layers": ["layer3"], "weights": "resnet18_in1k_conv1-layer3.safetensors"},
}


def universe(normal: int) -> pa.Table:
    """The tiles in their fixed split, with so many normal ones to train on."""
    split = split_catalog(tiles(), train_fraction=0.8, defects=FULL, seed=0)
    chosen = select_rows(split, split="train", label=0)
    order = np.random.default_rng(0).permutation(chosen.num_rows)[:normal]
    return pa.concat_tables(
        [chosen.take(np.sort(order)), select_rows(split, split="train", label=1), select_rows(split, split="test")]
    )


def synthesizers(count: int) -> dict[str, dict[str, object] | None]:
    """What makes the synthetic defects, by name."""
    painted: dict[str, object] = {"kind": "inpaint", "prompts": PROMPTS, "count": count}
    return {"none": None, "per region": {"kind": "per_region", "count": count}, "inpainted": painted}


def trial(shot: str, synthesizer: dict[str, object] | None, seed: int, options: argparse.Namespace) -> Trial:
    """An experiment of the table."""
    backbone = dict(BACKBONES[options.backbone])
    backbone["weights"] = SHARED / "weights" / str(backbone["weights"])
    config = {
        "dataset": {"name": "magnetic_tile", "split": {"defects": SHOTS[shot]}},
        "synthesizer": synthesizer,
        "detector": {
            "kind": "classifier",
            "features": {"backbone": options.backbone, "resize": [options.size] * 2, **backbone},
            "batchnorm": "frozen",
            "learning_rate": 3e-4,
            "epochs": options.epochs,
        },
        "evaluation": {"bootstrap": 0},
        "seed": seed,
    }
    return Trial(shot, ExperimentConfig.model_validate(config))


def figures(results: list[TrialResult]) -> dict[str, object]:
    """Of one row: AP and its interval, AUROC, and what the held-out threshold gives."""
    found = [result.detection for result in results if result.detection is not None]
    ap = [one.ap for one in found]
    mean = mean_of(np.array(ap))
    points = [result.held_out for result in results if result.held_out is not None]
    return {
        "ap": round(mean.value, 4),
        "ap_half_interval": None if mean.half is None else round(mean.half, 4),
        "ap_by_seed": [round(value, 4) for value in ap],
        "auroc": round(float(np.mean([one.auroc for one in found])), 4),
        "precision": round(float(np.mean([point.precision for point in points])), 4),
        "recall": round(float(np.mean([point.recall for point in points])), 4),
        "trained_on": results[0].train,
        "seconds": round(sum(result.seconds for result in results), 1),
    }


def row_of(shot: str, synthesis: str, found: dict[str, object]) -> tuple[str, ...]:
    """The table's."""
    half = "" if found["ap_half_interval"] is None else f" ± {found['ap_half_interval']}"
    return shot, synthesis, f"{found['ap']}{half}", *(str(found[name]) for name in ("auroc", "precision", "recall"))


def main() -> int:
    """Every row with every seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--normal", type=int, default=300, help="normal training images, at most 761")
    parser.add_argument("--count", type=int, default=100, help="synthetic defects")
    parser.add_argument("--size", type=int, default=128, help="side of the images in pixels")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--backbone", choices=BACKBONES, default="squeezenet1_1")
    parser.add_argument("--synthesis", nargs="+", choices=list(synthesizers(0)), default=list(synthesizers(0)))
    options = parser.parse_args()
    session, images = Session(Store(Path(CACHE) / "store"), terminal_progress), universe(options.normal)
    found: dict[str, dict[str, object]] = {}
    rows = []
    for shot, defects in SHOTS.items():
        for name in options.synthesis:
            synthesizer = synthesizers(options.count)[name]
            if not defects and synthesizer is None:
                continue
            trials = [trial(shot, synthesizer, seed, options) for seed in options.seeds]
            row = figures([run_trial(one, images, session) for one in trials])
            found[f"{shot}, {name}"] = row
            rows.append(row_of(shot, name, row))
            print(*rows[-1], file=sys.stderr, sep="  ", flush=True)
    header = ("real defects", "synthetic", "AP", "AUROC", "precision", "recall")
    title = f"{options.backbone}, {options.size} px, {options.normal} normal, {options.count} synthetic images"
    report(title, header, rows, {**vars(options), "rows": found})
    return 0


if __name__ == "__main__":
    sys.exit(main())
