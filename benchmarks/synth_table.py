"""The seeds' table, remade: how many synthetic defects help a dual bank with 20 real ones, on magnetic tiles.

ExDD's `best` preset with ImageNet's ResNet-18, three seeds; 0, 50, 100 and 150 synthetic defects, blended per region or
painted by the bundled inpainting model in procedural masks. Each row's difference from no synthetic defect is paired by
seed: with three seeds a difference is called noise unless its 95 % interval (Student's t) leaves out zero.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from common import CACHE, SHARED, report, tiles
from scipy.stats import t

from exdd_ray.cli.progress import terminal_progress
from exdd_ray.config.experiment import ExperimentConfig
from exdd_ray.config.load import Trial
from exdd_ray.experiment.run import run_trials
from exdd_ray.experiment.workshop import Workshop
from exdd_ray.store.artifact import Store

PROMPTS = ("hole", "crack", "scratch", "stain", "fray")
COUNTS = (50, 100, 150)
METRICS = ("I-AUROC", "P-AUROC", "P-AP")
SEEDS = (0, 1, 2)


def trial(name: str, synthesizer: dict[str, object] | None, seed: int, defects: int) -> Trial:
    """An experiment of the table."""
    weights = SHARED / "weights" / "resnet18_in1k_conv1-layer3.safetensors"
    config = {
        "dataset": {
            "name": "magnetic_tile",
            "root": SHARED / "data" / "magnetic-tile",
            "split": {"defects": defects},
        },
        "synthesizer": synthesizer,
        "detector": {"system": "exdd", "features": {"backbone": "resnet18", "weights": weights}},
        "evaluation": {"bootstrap": 0},
        "seed": seed,
    }
    return Trial(name, ExperimentConfig.model_validate(config))


def plan(seeds: tuple[int, ...], defects: int) -> list[Trial]:
    """Every row with every seed."""
    rows: dict[str, dict[str, object] | None] = {"none": None}
    for count in COUNTS:
        rows[f"per region, {count}"] = {"kind": "per_region", "count": count}
    for count in COUNTS:
        rows[f"inpainted, {count}"] = {"kind": "inpaint", "prompts": PROMPTS, "count": count // len(PROMPTS)}
    return [trial(name, synthesizer, seed, defects) for name, synthesizer in rows.items() for seed in seeds]


def mean_and_half(values: np.ndarray) -> tuple[float, float]:
    """Mean over seeds and half of its 95 % interval."""
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.nan
    return float(values.mean()), float(half)


def main() -> int:
    """Run all trials on one store; what is there already is not made again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--defects", type=int, default=20, help="real training defects")
    options = parser.parse_args()
    tiles()
    trials = plan(SEEDS, options.defects)
    workshop = Workshop(Store(Path(CACHE) / "store"), terminal_progress)
    measured: dict[str, list[tuple[float, float, float]]] = {}
    dropped: dict[str, str] = {}
    for result in run_trials(trials, workshop, lambda r: print(r.trial.name, r.trial.config.seed, file=sys.stderr)):
        assert result.pixel is not None
        pixel = result.pixel.detection
        measured.setdefault(result.trial.name, []).append((result.image.detection.auroc, pixel.auroc, pixel.ap))
        for remark in result.remarks:
            if "dropped" in remark:
                dropped[result.trial.name] = remark
    base = np.array(measured["none"])
    rows, figures = [], {}
    for name, values in measured.items():
        found = np.array(values)
        cells = []
        for column, metric in enumerate(METRICS):
            mean, half = mean_and_half(100 * found[:, column])
            gain, noise = mean_and_half(100 * (found - base)[:, column])
            verdict = "" if name == "none" else f" ({gain:+.2f}{'' if abs(gain) > noise else ', noise'})"
            cells.append(f"{mean:.2f} ± {half:.2f}{verdict}")
            figures[f"{name} {metric}"] = {"mean": round(mean, 2), "half": round(half, 2), "gain": round(gain, 2)}
        rows.append((name, *cells))
    report(f"{options.defects} real defects, {len(SEEDS)} seeds, percent", ("synthetic", *METRICS), rows, figures)
    for name, remark in dropped.items():
        print(f"{name}: {remark}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
