"""The seeds' table, remade: how many synthetic defects help a dual bank with 20 real ones, on magnetic tiles.

ExDD's `best` preset with ImageNet's ResNet-18, three seeds; 0, 50, 100 and 150 synthetic defects, blended per region or
painted by the bundled inpainting model in procedural masks. Each row's difference from no synthetic defect is paired by
seed and test image; its p is corrected for the six rows (Holm). Of pixel metrics it holds the seeds' noise alone.
"""

import argparse
import sys
from pathlib import Path

from common import CACHE, SHARED, report, tiles

from exdd_ray.cli.progress import terminal_progress
from exdd_ray.experiment.session import Session
from exdd_ray.experiment.space import LoadedSweep, load_raw_run
from exdd_ray.experiment.summary import PointSummary
from exdd_ray.experiment.sweep import plan_sweep, run_sweep
from exdd_ray.experiment.sweep_results import require_a_result
from exdd_ray.store.artifact import open_store

PROMPTS = ("hole", "crack", "scratch", "stain", "fray")
COUNTS = (50, 100, 150)
METRICS = {"I-AUROC": "image_auroc", "P-AUROC": "pixel_auroc", "P-AP": "pixel_ap"}
SEEDS = (0, 1, 2)


def run(defects: int) -> LoadedSweep:
    """Every row as a variant, with every seed."""
    weights = SHARED / "weights" / "resnet18_in1k_conv1-layer3.safetensors"
    rows: dict[str, dict[str, object] | None] = {"none": None}
    for count in COUNTS:
        rows[f"per region, {count}"] = {"kind": "per_region", "count": count}
    for count in COUNTS:
        rows[f"inpainted, {count}"] = {"kind": "inpaint", "prompts": list(PROMPTS), "count": count}
    raw = {
        "dataset": {
            "name": "magnetic_tile",
            "root": str(SHARED / "data" / "magnetic-tile"),
            "split": {"defects": defects},
        },
        "detector": {"system": "exdd", "features": {"backbone": "resnet18", "weights": str(weights)}},
        "evaluation": {"bootstrap": 0},
        "variants": {name: {"synthesizer": synthesizer} for name, synthesizer in rows.items()},
        "seeds": list(SEEDS),
        "store": str(Path(CACHE) / "store"),
    }
    return load_raw_run(raw, Path(__file__))


def cell(point: PointSummary, metric: str) -> tuple[str, dict[str, float]]:
    """A metric's mean over seeds in percent, and its difference from the baseline: as text and as figures."""
    mean, apart = point.means[metric], point.differences.get(metric)
    assert mean.half is not None
    value, half = 100 * mean.value, 100 * mean.half
    text, figures = f"{value:.2f} ± {half:.2f}", {"mean": round(value, 2), "half": round(half, 2)}
    if apart is None:
        return text, figures
    assert apart.p is not None
    alone = ", seeds alone" if apart.unmeasured else ""
    gain = 100 * apart.mean.value
    return f"{text} ({gain:+.2f}, p {apart.p:.2f}{alone})", {**figures, "gain": round(gain, 2), "p": round(apart.p, 4)}


def main() -> int:
    """Run all trials on one store; what is there already is not made again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--defects", type=int, default=20, help="real training defects")
    options = parser.parse_args()
    tiles()
    loaded = run(options.defects)
    session = Session(open_store(loaded.sweep.store), terminal_progress)
    results = run_sweep(loaded, plan_sweep(loaded, session), session)
    require_a_result(results)
    made: dict[str, list[int]] = {}
    for trial in results.trials.to_pylist():
        made.setdefault(trial["name"], []).append(trial["train_synthetic"])
    rows: list[tuple[str, ...]] = []
    figures: dict[str, object] = {}
    for point in results.points:
        cells = [cell(point, column) for column in METRICS.values()]
        rows.append((point.name, ", ".join(map(str, sorted(set(made[point.name])))), *(text for text, _ in cells)))
        figures |= {f"{point.name} {m}": shares for m, (_, shares) in zip(METRICS, cells, strict=True)}
    report(
        f"{options.defects} real defects, {len(SEEDS)} seeds, percent",
        ("synthetic", "trained on", *METRICS),
        rows,
        {**figures, "made": made},
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
