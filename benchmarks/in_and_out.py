"""In&Out's table on magnetic tiles: AP of a classifier with half painted and half per-region synthetic defects.

Zero-, few- and full-shot (0, 5 and 78 real defects) x no synthesis, per region, painted by a model that was fine-tuned
(`lora`), and half of each (In&Out); the split, the classifier and its figures are those of `classifier.py`. The bundled
miniature stands in for Stable Diffusion, inpainting where In&Out paints whole images: at 64 pixels whole tiles would be
told by their blur. In zero-shot it learns 50 normal images and is asked for cracks, scratches and holes. Every seed has
synthetic images of its own, and in few-shot real ones. Differences are paired by seed; intervals are Student's t.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from classifier import figures, row_of, trial, universe
from common import CACHE, report

from exdd_ray.cli.progress import terminal_progress
from exdd_ray.experiment.session import Session
from exdd_ray.experiment.trial import run_trial
from exdd_ray.metrics.seeds import mean_of
from exdd_ray.store.artifact import Store

SETTINGS = {"zero": "zero-shot", "few": "5 defects", "full": "78 defects"}
PAIRS = (("in_and_out", "none"), ("in_and_out", "per_region"), ("lora", "none"), ("per_region", "none"))


def painter(setting: str, epochs: int) -> dict[str, Any]:
    """The fine-tuned half of a setting."""
    if setting == "zero":
        tuning = {"images": "normal", "shots": 50, "epochs": epochs, "keep_every": epochs, "repeats": 2, "seed": 0}
        return {"kind": "lora", "prompts": ("skt crack", "skt scratch", "skt hole"), "tuning": tuning}
    tuning = {"epochs": epochs, "keep_every": epochs, "seed": 0, "repeats": 20 if setting == "few" else 2}
    return {"kind": "lora", "tuning": tuning}


def sources(setting: str, count: int, epochs: int) -> dict[str, dict[str, Any] | None]:
    """What makes the synthetic defects of a setting, by name."""
    lora, region = painter(setting, epochs), {"kind": "per_region"}
    halves = [{"share": 0.5, "synthesizer": lora}, {"share": 0.5, "synthesizer": region}]
    made = {"per_region": region, "lora": lora, "in_and_out": {"kind": "mixture", "parts": halves}}
    alone: dict[str, dict[str, Any] | None] = {} if setting == "zero" else {"none": None}
    return alone | {name: {**how, "count": count} for name, how in made.items()}


def differences(setting: str, rows: Mapping[str, Mapping[str, Any]]) -> dict[str, list[float | None]]:
    """Paired differences of AP in a setting, with their intervals' halves."""
    found = {}
    for one, other in PAIRS:
        if one in rows and other in rows:
            apart = mean_of(np.subtract(rows[one]["ap_by_seed"], rows[other]["ap_by_seed"]))
            found[f"{setting}_{one}_minus_{other}"] = [
                round(apart.value, 4),
                None if apart.half is None else round(apart.half, 4),
            ]
    return found


def main() -> int:
    """Every setting with every source and every seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--normal", type=int, default=250, help="normal training images, at most 761")
    parser.add_argument("--count", type=int, default=100, help="synthetic defects (N_aug)")
    parser.add_argument("--size", type=int, default=128, help="side of the images in pixels")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--tuning-epochs", type=int, default=20)
    parser.add_argument("--backbone", default="squeezenet1_1", choices=("squeezenet1_1", "resnet18"))
    options = parser.parse_args()
    session, images = Session(Store(Path(CACHE) / "store"), terminal_progress), universe(options.normal)
    keys: dict[str, Any] = {}
    table = []
    for setting in options.settings:
        rows: dict[str, Mapping[str, Any]] = {}
        for source, synthesizer in sources(setting, options.count, options.tuning_epochs).items():
            trials = [trial(SETTINGS[setting], synthesizer, seed, options) for seed in options.seeds]
            rows[source] = figures([run_trial(one, images, session) for one in trials])
            keys[f"{setting}_{source}"] = rows[source]["ap"]
            table.append(row_of(SETTINGS[setting], source, dict(rows[source])))
            print(*table[-1], file=sys.stderr, sep="  ", flush=True)
        keys |= {f"{setting}_rows": rows, **differences(setting, rows)}
    header = ("real defects", "synthetic", "AP", "AUROC", "precision", "recall")
    report(f"In&Out, {options.backbone}, {options.count} synthetic", header, table, {**vars(options), **keys})
    return 0


if __name__ == "__main__":
    sys.exit(main())
