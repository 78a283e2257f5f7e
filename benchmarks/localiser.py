"""What synthetic pairs are worth to a localiser: pixel AP on magnetic tiles, blowhole and break, 8 to train on of each.

Windows of 128 pixels of the tiles, around their defects or anywhere on a normal tile, are the images: 200 normal ones
and 16 defects to train on, 60 normal ones and all other defects to test. The 16 are of the tiles that the painters have
learnt. The localiser (`small`, its last checkpoint) is trained on normal windows and on synthetic defects alone, on the
real ones, or on all of them. Painters and real images are the same for every seed; the synthetic ones, the network and
its samples are the seed's. Intervals are Student's t.

Variety: Inception Score and IC-LPIPS of the first seed's synthetic defects, cut out with a margin, by SqueezeNet.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from common import CACHE, SHARED, tiles
from dual_painters import KINDS, drawn_tiles
from PIL import Image

from exdd_ray.cli.progress import terminal_progress
from exdd_ray.data.catalog import CatalogRow, build_catalog, catalog_rows, select_rows
from exdd_ray.data.masks import read_pair
from exdd_ray.experiment.session import Session
from exdd_ray.methods.localiser.config import LocaliserConfig
from exdd_ray.methods.localiser.detector import fit_localiser
from exdd_ray.metrics.config import STANDARD
from exdd_ray.metrics.evaluate import pixel_metrics
from exdd_ray.metrics.quality.config import QualityConfig
from exdd_ray.metrics.quality.evaluate import measure_quality
from exdd_ray.metrics.seeds import mean_of
from exdd_ray.store.artifact import Store
from exdd_ray.synthesizers.synthesize import synthesize
from exdd_ray.synthesizers.table import any_synthesizer

NORMAL = {"train": 200, "test": 60}
SIDE = 128
PER_REGION = [{"kind": "per_region"}]
INPAINT = [{"kind": "inpaint", "prompts": ("hole", "crack")}]
SHOWN_ONLY = "inpainted"  # its variety is measured, no localiser is trained on it
SQUEEZENET = SHARED / "weights" / "squeezenet1_1_in1k.safetensors"
QUALITY = QualityConfig(network="squeezenet", weights=SQUEEZENET, perceptual="squeeze", perceptual_weights=SQUEEZENET)

Sources = Mapping[str, Sequence[Mapping[str, Any]]]


def windows(folder: Path) -> pa.Table:
    """The images of the experiment, each in `train` or `test`; they are written into a folder."""
    rows, rng = catalog_rows(tiles()), np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    normal = [row for row in rows if row.label == 0]
    order = [normal[at] for at in rng.permutation(len(normal))]
    trained = order[: NORMAL["train"]]
    tested = order[NORMAL["train"] : sum(NORMAL.values())]
    for kind in KINDS:
        learnt, _ = drawn_tiles(kind, 0)
        known = {row.id for row in learnt}
        trained += learnt
        tested += [row for row in rows if row.defect == kind and row.id not in known]
    chosen = [replace(row, split=split) for split, part in (("train", trained), ("test", tested)) for row in part]
    return build_catalog([_window(row, number, folder) for number, row in enumerate(chosen)])


def _window(row: CatalogRow, number: int, folder: Path) -> CatalogRow:
    """A window of SIDE x SIDE pixels, or the largest there is; of a defect a pixel is in its middle half."""
    rng, (image, mask) = np.random.default_rng([1, number]), read_pair(row)
    side = min(SIDE, *image.shape[:2])
    defective = None if mask is None else np.argwhere(mask)
    middle = rng.integers(image.shape[:2]) if defective is None or not len(defective) else rng.choice(defective)
    corner = middle - side // 2 + rng.integers(-side // 4, side // 4, size=2)
    top, left = np.clip(corner, 0, np.subtract(image.shape[:2], side))
    part = (slice(top, top + side), slice(left, left + side))
    file, mask_file = folder / f"{number:04d}.png", folder / f"{number:04d}_mask.png"
    Image.fromarray(image[part]).save(file)
    if mask is not None:
        Image.fromarray(mask[part].astype(np.uint8) * 255).save(mask_file)
    return replace(row, image=str(file), mask=None if mask is None else str(mask_file))


def sources_of(adapters: Mapping[str, Path]) -> Sources:
    """Configs of what makes synthetic defects, adapters being those of the kinds."""
    pairs = [{"kind": "dualanodiff", "kinds": (kind,), "adapter": str(file)} for kind, file in adapters.items()]
    return {"pairs": pairs, "per_region": PER_REGION, SHOWN_ONLY: INPAINT}


def synthetic(
    given: Sequence[Mapping[str, Any]], count: int, images: pa.Table, seed: int, session: Session
) -> list[CatalogRow]:
    """So many synthetic defects with masks, made of the training images; of each config as many."""
    train, made = select_rows(images, split="train"), []
    normal, defects = select_rows(train, label=0), select_rows(train, label=1)
    for number, one in enumerate(given):
        config = any_synthesizer().validate_python({**one, "count": count // len(given)})
        found = synthesize(config, normal, defects, seed, session.store, progress=session.progress)
        print(f"{config.kind}, seed {seed}: {len(found.samples)} samples; {'; '.join(found.remark)}", file=sys.stderr)
        made += [replace(sample.row, id=f"{number} {sample.row.id}") for sample in found.samples]
    return made


def pixel_ap(defects: Sequence[CatalogRow], images: pa.Table, seed: int, session: Session, epochs: int) -> float:
    """Pixel AP on the test images of a localiser that is trained on the normal ones and on these defects."""
    config = LocaliserConfig.model_validate({"scale": "small", "preset": "paper", "defects": "all", "epochs": epochs})
    normal = catalog_rows(select_rows(images, split="train", label=0))
    fitted = fit_localiser(config, build_catalog([*normal, *defects]), session.store, seed, progress=session.progress)
    found = fitted.predict(select_rows(images, split="test"))
    masks = (None if row.mask is None else session.mask(row, config.geometry, STANDARD) for row in found.rows)
    return pixel_metrics(zip(map(found.draw, found.patch_maps), masks, strict=True)).detection.ap


def varieties(made: Mapping[str, Sequence[CatalogRow]], images: pa.Table) -> dict[str, float]:
    """Inception Score and IC-LPIPS of synthetic defects by source, the latter around the real ones that were learnt."""
    real = catalog_rows(select_rows(images, split="train", label=1))
    keys = {}
    for name, rows in made.items():
        for figure in measure_quality(real, rows, QUALITY).figures:
            for metric, key in (("IS-", "is"), ("IC-LPIPS-", "ic_lpips")):
                if figure.name.startswith(metric):
                    keys[f"{key}_{name}"] = round(figure.value, 4)
                    keys[f"{key}_{name}_images"] = figure.n_synthetic
    return keys


def measure_worth(
    adapters: Mapping[str, Path], seeds: Sequence[int], count: int, epochs: int, store: Store
) -> tuple[dict[str, Any], list[tuple[str, ...]]]:
    """Pixel AP of a localiser by what it is trained on: each source, the real defects, and all; and varieties."""
    images, session = windows(CACHE / "windows"), Session(store, terminal_progress)
    real, sources = catalog_rows(select_rows(images, split="train", label=1)), sources_of(adapters)
    found: dict[str, list[float]] = {}
    variety: dict[str, float] = {}
    for seed in seeds:
        made = {name: synthetic(how, count, images, seed, session) for name, how in sources.items()}
        variety = variety or varieties(made, images)
        del made[SHOWN_ONLY]
        everything = [*real, *(row for rows in made.values() for row in rows)]
        for name, defects in {**made, "real": real, "all": everything}.items():
            found.setdefault(name, []).append(pixel_ap(defects, images, seed, session, epochs))
            print(f"trained on {name}, seed {seed}: pixel AP {found[name][-1]:.4f}", file=sys.stderr, flush=True)
    keys = figures(found)
    shown = {name: f"{keys[f'pixel_ap_{name}']} ± {keys[f'pixel_ap_{name}_half']}" for name in found}
    rows: list[tuple[str, ...]] = [("pixel AP", name, value, "") for name, value in shown.items()]
    rows += [("variety", name, f"{value}", "") for name, value in variety.items()]
    return {**keys, **variety}, rows


def figures(found: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Means over seeds with the halves of their intervals."""
    keys: dict[str, Any] = {}
    for name, values in found.items():
        mean = mean_of(np.array(values))
        keys[f"pixel_ap_{name}"] = round(mean.value, 4)
        keys[f"pixel_ap_{name}_half"] = None if mean.half is None else round(mean.half, 4)
        keys[f"pixel_ap_{name}_by_seed"] = [round(value, 4) for value in values]
    return keys
