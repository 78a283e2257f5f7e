"""A sweep of seconds: small made surfaces, two banks, per-region defects."""

from pathlib import Path

import yaml

from exdd_ray.experiment.space import LoadedSweep, load_sweep

BASE = {
    "name": "small",
    "seeds": [0, 1],
    "dataset": {
        "procedural": {
            "size": [64, 64],
            "materials": ["ceramic"],
            "kinds": ["hole", "stain"],
            "normal_train": 8,
            "normal_test": 4,
            "defects_per_kind": 6,
        },
        "split": {"defects": 3, "validation_fraction": 0.25, "validation_defects": 3},
    },
    "detector": {"features": {"resize": [64, 64]}, "scoring": {"calibration": 4}},
    "synthesizer": {"kind": "per_region"},
    "evaluation": {"bootstrap": 20},
    "space": {"synthesizer.count": [0, 4], "bank.negative.rate": [0.05, 0.1]},
}


def write_sweep_file(folder: Path, **changes: object) -> Path:
    """The sweep as a YAML file, keys replaced."""
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump({**BASE, "store": str(folder / "store"), **changes}, sort_keys=False))
    return path


def small_sweep(folder: Path, *overrides: str, **changes: object) -> LoadedSweep:
    """The sweep as loaded."""
    return load_sweep(write_sweep_file(folder, **changes), overrides)
