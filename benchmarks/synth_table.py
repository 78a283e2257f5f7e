"""The seeds' table, remade: how many synthetic defects help a dual bank with 20 real ones, on magnetic tiles.

ExDD's `best` preset with ImageNet's ResNet-18, three seeds; 0, 50, 100 and 150 synthetic defects, blended per region or
painted by the bundled inpainting model in procedural masks. Each row's difference from no synthetic defect is paired by
seed and test image; its p is corrected for the six rows (Holm). Of pixel metrics it holds the seeds' noise alone.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from common import CACHE, SHARED, report, tiles

from exdd_ray.cli.progress import terminal_progress
from exdd_ray.experiment.compare import measured
from exdd_ray.experiment.config import ExperimentConfig
from exdd_ray.experiment.load import Trial
from exdd_ray.experiment.result import TrialResult
from exdd_ray.experiment.run import run_trials
from exdd_ray.experiment.session import Session
from exdd_ray.metrics.difference import Difference, difference, holm
from exdd_ray.metrics.seeds import mean_of
from exdd_ray.store.artifact import Store

PROMPTS = ("hole", "crack", "scratch", "stain", "fray")
COUNTS = (50, 100, 150)
METRICS = {"I-AUROC": "image_auroc", "P-AUROC": "pixel_auroc", "P-AP": "pixel_ap"}
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
        rows[f"inpainted, {count}"] = {"kind": "inpaint", "prompts": PROMPTS, "count": count}
    return [trial(name, synthesizer, seed, defects) for name, synthesizer in rows.items() for seed in seeds]


def cell(results: Sequence[TrialResult], metric: str, apart: Difference | None) -> tuple[str, dict[str, float]]:
    """A metric's mean over seeds in percent, and its difference from the baseline: as text and as figures."""
    mean = mean_of(np.array([100 * one.value for one in measured(results, metric).values()]))
    assert mean.half is not None
    text, figures = f"{mean.value:.2f} ± {mean.half:.2f}", {"mean": round(mean.value, 2), "half": round(mean.half, 2)}
    if apart is None:
        return text, figures
    assert apart.p is not None
    alone = ", seeds alone" if apart.unmeasured else ""
    gain = 100 * apart.mean.value
    return f"{text} ({gain:+.2f}, p {apart.p:.2f}{alone})", {**figures, "gain": round(gain, 2), "p": round(apart.p, 4)}


def differences(found: Mapping[str, Sequence[TrialResult]], metric: str) -> dict[str, Difference]:
    """Of every row but the first from that one."""
    baseline, *names = found
    theirs = measured(found[baseline], metric)
    apart = [difference(measured(found[name], metric), theirs, of_images=True) for name in names]
    return dict(zip(names, holm(apart), strict=True))


def main() -> int:
    """Run all trials on one store; what is there already is not made again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--defects", type=int, default=20, help="real training defects")
    options = parser.parse_args()
    tiles()
    trials = plan(SEEDS, options.defects)
    session = Session(Store(Path(CACHE) / "store"), terminal_progress)
    found: dict[str, list[TrialResult]] = {}
    for result in run_trials(trials, session, lambda r: print(r.trial.name, r.trial.config.seed, file=sys.stderr)):
        found.setdefault(result.trial.name, []).append(result)
    made = {name: [result.train[2] for result in results] for name, results in found.items()}
    apart = {metric: differences(found, column) for metric, column in METRICS.items()}
    rows: list[tuple[str, ...]] = []
    figures: dict[str, object] = {}
    for name, results in found.items():
        cells = [cell(results, column, apart[metric].get(name)) for metric, column in METRICS.items()]
        rows.append((name, ", ".join(map(str, sorted(set(made[name])))), *(text for text, _ in cells)))
        figures |= {f"{name} {m}": shares for m, (_, shares) in zip(METRICS, cells, strict=True)}
    report(
        f"{options.defects} real defects, {len(SEEDS)} seeds, percent",
        ("synthetic", "trained on", *METRICS),
        rows,
        {**figures, "made": made},
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
