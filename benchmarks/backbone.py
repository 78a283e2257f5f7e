"""The bundled backbone on magnetic tiles, beside random initialisation and ImageNet: single bank, 1 %, seed 0."""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from common import CACHE, report, resnet18, tiles
from safetensors.torch import save_file
from torchvision.models import resnet18 as torchvision_resnet18

from exdd_ray.cli.progress import terminal_progress
from exdd_ray.data.catalog import select_rows
from exdd_ray.data.split import split_catalog
from exdd_ray.features.config import FeaturesConfig
from exdd_ray.features.embedder import Embedder
from exdd_ray.methods.patch_bank.config import PatchBankConfig
from exdd_ray.methods.patch_bank.fit import fit_patch_bank
from exdd_ray.metrics.evaluate import image_metrics
from exdd_ray.store.artifact import Store


def random_weights(folder: Path) -> FeaturesConfig:
    """ResNet-18 as torchvision initialises it, seed 0."""
    torch.manual_seed(0)
    path = folder / "random.safetensors"
    save_file({key: value.contiguous() for key, value in torchvision_resnet18().state_dict().items()}, path)
    return FeaturesConfig(backbone="resnet18", weights=path)


def image_auroc(features: FeaturesConfig) -> tuple[float, float, float]:
    """AUROC and its 95 % interval."""
    universe = tiles()
    catalog = split_catalog(universe, train_fraction=0.8, defects=0, seed=0)
    bank = {"negative": {"rate": 0.01}}
    config = PatchBankConfig.model_validate({"system": "patchcore", "features": features, "bank": bank})
    embedder = Embedder(Store(CACHE / "store"), features, universe, progress=terminal_progress)
    predictions = fit_patch_bank(config, select_rows(catalog, split="train"), embedder, 0).predict(
        select_rows(catalog, split="test")
    )
    labels = np.array([row.label for row in predictions.rows])
    found = image_metrics(labels, predictions.scores, resamples=1000, seed=0)
    interval = found.intervals["image_auroc"]
    return found.detection.auroc, interval.low, interval.high


def main() -> int:
    """Measure the three."""
    with tempfile.TemporaryDirectory() as name:
        backbones = {"bundled": FeaturesConfig(), "random": random_weights(Path(name)), "imagenet": resnet18()}
        found = {what: image_auroc(features) for what, features in backbones.items()}
    rows = [(what, f"{auroc:.4f}", f"{low:.4f} to {high:.4f}") for what, (auroc, low, high) in found.items()]
    figures = {f"image_auroc_{what}": round(auroc, 4) for what, (auroc, _, _) in found.items()}
    report("PatchCore on magnetic tiles", ("ResNet-18", "image AUROC", "95 % interval"), rows, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
