"""DINOv2 ViT-S/14 beside ResNet-18 as features of a single bank, and embedding beside timm's bare forward pass.

Of magnetic tiles 200 normal ones are trained on, 150 normal and 150 defective ones tested; of elpv's mono- and
polycrystalline cells, apart, 100, 75 and 75 (functional and defective for certain; AUROC is the mean of the two). The
bank is PatchCore's `best`, features aside; `top` scores images by the mean of their farthest 1 % of patches instead.
`both` adds the two banks' scores, standardised on 50 (25) other normal images. Keys without a size are of the last one
(`--size`, 224 and 336 pixels where none is given).
`--elpv` is the folder of labels.csv, as `pip download elpv-dataset` has it.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch
from common import CACHE, SHARED, free_tiles, report, resnet18, rounds_per_second, tiles

from exdd_ray.data.catalog import CatalogRow, build_catalog, catalog_rows
from exdd_ray.data.datasets import load_dataset
from exdd_ray.features.config import FeaturesConfig
from exdd_ray.features.embed import embed
from exdd_ray.features.embedder import Embedder
from exdd_ray.methods.patch_bank.config import PatchBankConfig
from exdd_ray.methods.patch_bank.fit import fit_patch_bank
from exdd_ray.metrics.evaluate import image_metrics
from exdd_ray.store.artifact import Store

NAME = "vit_small_patch14_dinov2.lvd142m"
BATCH = 2  # as embedding has it on a CPU
REPEATS = 3
SIZES = (224, 336)


def vit(size: int, **changes: object) -> FeaturesConfig:
    """Tokens of two blocks in the middle of DINOv2 ViT-S/14: 576 vectors of 768 an image at 336 pixels."""
    weights = SHARED / "weights" / "dinov2_vits14.safetensors"
    given = {"layers": ("blocks.5", "blocks.8"), "aggregator": "nearest", "resize": (size, size), **changes}
    return FeaturesConfig.model_validate({"backbone": f"timm/{NAME}", "weights": weights, **given})


def cnn(size: int) -> FeaturesConfig:
    """ResNet-18, layers 2 and 3."""
    return resnet18().model_copy(update={"resize": (size, size)})


def bare(model: torch.nn.Module, images: int, *, apart: bool) -> float:
    """Images per second of timm's forward pass on ready tensors.

    Args:
        apart: batches side by side, each on one thread; else one after another, each on all threads.
    """
    batch = torch.randn(BATCH, 3, 224, 224)

    def once() -> None:
        with torch.inference_mode():
            model.forward_features(batch)  # type: ignore[operator]

    return BATCH * rounds_per_second(once, images // BATCH, apart=apart)


def embedding(images: int, features: FeaturesConfig) -> float:
    """Images per second of the whole embedding: decoding, resizing, the forward pass, what is written."""
    with TemporaryDirectory() as folder:
        started = time.perf_counter()
        embed(free_tiles(images), features, Store(Path(folder)))
        return images / (time.perf_counter() - started)


def speed(images: int) -> tuple[dict[str, float], float]:
    """Images per second at 224 pixels of every way, in turn, and the share of the best bare one that embedding has."""
    import timm
    from safetensors.torch import load_file

    features = vit(224, layers=("blocks.11",), final_norm=True)
    model = timm.create_model(NAME, pretrained=False, img_size=224).eval()
    state = timm.models.vision_transformer.checkpoint_filter_fn(load_file(str(features.weights)), model)
    model.load_state_dict(state)
    ways: Mapping[str, Callable[[], float]] = {
        "timm, a thread each": partial(bare, model, images, apart=True),
        "timm, all threads": partial(bare, model, images, apart=False),
        "embedding": partial(embedding, images, features),
    }
    embedding(images, features)  # reads the files and the weights once
    found = [{name: way() for name, way in ways.items()} for _ in range(REPEATS)]
    share = median(one["embedding"] / max(value for name, value in one.items() if name != "embedding") for one in found)
    return {name: median(one[name] for one in found) for name in ways}, share


def certain(folder: Path) -> list[CatalogRow]:
    """Cells that an expert calls functional, or defective, for certain."""
    words = (line.split() for line in (folder / "labels.csv").read_text().splitlines())
    sure = {word[0] for word in words if word and word[1] in ("0.0", "1.0")}
    return [row for row in catalog_rows(load_dataset("elpv", folder)) if row.id in sure]


@dataclass(frozen=True)
class Part:
    """What is detected on: normal images to train on, others to standardise scores on, and images to test."""

    train: list[CatalogRow]
    held_out: list[CatalogRow]
    test: list[CatalogRow]


def drawn(rows: Sequence[CatalogRow], trained: int, held_out: int, tested: int) -> Part:
    """As many normal as defective images to test, seed 0."""
    rng = np.random.default_rng(0)
    normal, defective = (rng.permutation([i for i, row in enumerate(rows) if row.label == label]) for label in (0, 1))
    train, calibrate, test = np.split(normal[: trained + held_out + tested], [trained, trained + held_out])
    chosen = (train, calibrate, (*test, *defective[:tested]))
    return Part(*([rows[i] for i in each] for each in chosen))


def image_scores(features: FeaturesConfig, scoring: Mapping[str, float], part: Part) -> np.ndarray:
    """Of the tested images by PatchCore's `best` with these features, in standard deviations of the held-out ones."""
    config = PatchBankConfig.model_validate({"system": "patchcore", "features": features, "scoring": scoring})
    others = [*part.held_out, *part.test]
    embedder = Embedder(Store(CACHE / "store"), features, build_catalog([*part.train, *others]))
    fitted = fit_patch_bank(config, build_catalog(part.train), embedder, 0)
    found = fitted.predict(build_catalog(others))
    of = {row.id: score for row, score in zip(found.rows, found.scores, strict=True)}  # a catalog sorts its rows
    held_out, scores = (np.array([of[row.id] for row in rows]) for rows in (part.held_out, part.test))
    return (scores - held_out.mean()) / held_out.std()


def compared(part: Part, size: int) -> Iterator[tuple[str, float, str]]:
    """What detects, its image AUROC, and the 95 % interval."""
    labels = np.array([row.label for row in part.test])
    for ending, scoring in (("", {}), ("_top", {"top": 0.01, "smoothing": 1})):
        of = {"vit": image_scores(vit(size), scoring, part), "cnn": image_scores(cnn(size), scoring, part)}
        for what, scores in (of | {"both": of["vit"] + of["cnn"]}).items():
            found = image_metrics(labels, scores, resamples=1000, seed=0)
            interval = found.intervals["image_auroc"]
            yield what + ending, found.detection.auroc, f"{interval.low:.4f} to {interval.high:.4f}"


def datasets(elpv: Path | None) -> Iterator[tuple[str, Part]]:
    """By name."""
    yield "tiles", drawn(catalog_rows(tiles()), 200, 50, 150)
    if elpv is None:
        print("elpv is left out: give --elpv FOLDER", file=sys.stderr)
        return
    cells = certain(elpv)
    for wafer in ("mono", "poly"):
        yield f"elpv {wafer}", drawn([row for row in cells if row.category == wafer], 100, 25, 75)


def main() -> int:
    """Speed first, while the memory is empty."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--elpv", type=Path, help="folder of elpv's labels.csv")
    parser.add_argument("--size", type=int, nargs="+", default=SIZES, help="pixels of a side, as 448; several in turn")
    parser.add_argument("--images", type=int, default=128, help="whose embedding is timed")
    arguments = parser.parse_args()
    speeds, share = speed(arguments.images)
    rows = [(f"{what}, images/s", "224", f"{value:.1f}", "") for what, value in speeds.items()]
    found: dict[str, list[float]] = {}
    for name, part in datasets(arguments.elpv):
        for size in arguments.size:
            for what, auroc, interval in compared(part, size):
                beginning, ending = "elpv_" * (name != "tiles"), f"_{size}" * (size != arguments.size[-1])
                found.setdefault(f"{beginning}image_auroc_{what}{ending}", []).append(auroc)
                rows.append((f"{name}, {what}", f"{size}", f"{auroc:.4f}", interval))
    figures = {"forward_fraction": round(share, 3)} | {key: round(float(np.mean(of)), 4) for key, of in found.items()}
    report("DINOv2 ViT-S/14 and ResNet-18", ("what", "pixels", "image AUROC", "95 % interval"), rows, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
