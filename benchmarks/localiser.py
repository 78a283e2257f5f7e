"""What synthetic pairs are worth to a localiser: pixel AP on magnetic tiles, blowhole and break, 8 to train on of each.

Windows of 128 pixels of the tiles, around their defects or anywhere on a normal tile, are the images: 200 normal ones
and 16 defects to train on, 60 normal ones and all other defects to test. The localiser (`small`, its last checkpoint)
is trained on normal windows and on synthetic defects alone, on the 16 real ones, or on all of them. The real images are
the same for every seed; the synthetic ones, the network and its samples are the seed's. Intervals are Student's t.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from common import CACHE, report, tiles
from PIL import Image

from exdd_ray.cli.progress import terminal_progress
from exdd_ray.data.catalog import CatalogRow, build_catalog, catalog_rows, select_rows
from exdd_ray.data.masks import read_pair
from exdd_ray.experiment.session import Session
from exdd_ray.methods.localiser.config import LocaliserConfig
from exdd_ray.methods.localiser.detector import fit_localiser
from exdd_ray.metrics.config import STANDARD
from exdd_ray.metrics.evaluate import pixel_metrics
from exdd_ray.metrics.seeds import mean_of
from exdd_ray.store.artifact import Store
from exdd_ray.synthesizers.synthesize import synthesize
from exdd_ray.synthesizers.table import any_synthesizer

KINDS, SHOTS = ("blowhole", "break"), 8
NORMAL = {"train": 200, "test": 60}
SIDE = 128
PER_REGION = {"kind": "per_region"}
DUAL = {"kind": "dualanodiff", "kinds": KINDS, "tuning": {"seed": 0}}
INPAINT = {"kind": "inpaint", "prompts": ("hole", "crack")}
SYNTHESIZERS: Mapping[str, dict[str, Any]] = {"pairs": DUAL, "per_region": PER_REGION, "inpainted": INPAINT}


def windows(folder: Path) -> pa.Table:
    """The images of the experiment, each in `train` or `test`; they are written into a folder."""
    rows, rng = catalog_rows(tiles()), np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    chosen = []
    for kind in ("good", *KINDS):
        members = [row for row in rows if row.defect == kind]
        order = [members[at] for at in rng.permutation(len(members))]
        trained = NORMAL["train"] if kind == "good" else SHOTS
        tested = NORMAL["test"] if kind == "good" else len(order) - SHOTS
        chosen += [replace(row, split="train") for row in order[:trained]]
        chosen += [replace(row, split="test") for row in order[trained : trained + tested]]
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


def synthetic(given: Mapping[str, Any], count: int, images: pa.Table, seed: int, session: Session) -> list[CatalogRow]:
    """So many synthetic defects with masks, made of the training images."""
    train = select_rows(images, split="train")
    config = any_synthesizer().validate_python({**given, "count": count})
    normal, defects = select_rows(train, label=0), select_rows(train, label=1)
    made = synthesize(config, normal, defects, seed, session.store, progress=session.progress)
    print(f"{config.kind}, seed {seed}: {len(made.samples)} samples; {'; '.join(made.remark)}", file=sys.stderr)
    return [sample.row for sample in made.samples]


def pixel_ap(defects: Sequence[CatalogRow], images: pa.Table, seed: int, session: Session, epochs: int) -> float:
    """Pixel AP on the test images of a localiser that is trained on the normal ones and on these defects."""
    config = LocaliserConfig.model_validate({"scale": "small", "preset": "paper", "defects": "all", "epochs": epochs})
    normal = catalog_rows(select_rows(images, split="train", label=0))
    fitted = fit_localiser(config, build_catalog([*normal, *defects]), session.store, seed, progress=session.progress)
    found = fitted.predict(select_rows(images, split="test"))
    masks = (None if row.mask is None else session.mask(row, config.geometry, STANDARD) for row in found.rows)
    return pixel_metrics(zip(map(found.draw, found.patch_maps), masks, strict=True)).detection.ap


def pixel_aps(
    synthesizers: Mapping[str, Mapping[str, Any]],
    images: pa.Table,
    seeds: Sequence[int],
    session: Session,
    count: int,
    epochs: int,
) -> dict[str, list[float]]:
    """Pixel AP by seed of a localiser trained on each synthesizer's defects, on the real ones, and on all of them."""
    real = catalog_rows(select_rows(images, split="train", label=1))
    found: dict[str, list[float]] = {}
    for seed in seeds:
        made = {name: synthetic(how, count, images, seed, session) for name, how in synthesizers.items()}
        everything = [*real, *(row for rows in made.values() for row in rows)]
        for name, defects in {**made, "real": real, "all": everything}.items():
            found.setdefault(name, []).append(pixel_ap(defects, images, seed, session, epochs))
            print(f"trained on {name}, seed {seed}: pixel AP {found[name][-1]:.4f}", file=sys.stderr, flush=True)
    return found


def figures(found: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Means over seeds with the halves of their intervals."""
    keys: dict[str, Any] = {}
    for name, values in found.items():
        mean = mean_of(np.array(values))
        keys[f"pixel_ap_{name}"] = round(mean.value, 4)
        keys[f"pixel_ap_{name}_half_interval"] = None if mean.half is None else round(mean.half, 4)
        keys[f"pixel_ap_{name}_by_seed"] = [round(value, 4) for value in values]
    return keys


def main() -> int:
    """Every source of defects with every seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--count", type=int, default=100, help="synthetic defects of each synthesizer")
    parser.add_argument("--epochs", type=int, default=20, help="of the localiser")
    parser.add_argument("--synthesis", nargs="+", choices=SYNTHESIZERS, default=["pairs", "per_region"])
    options = parser.parse_args()
    session, chosen = Session(Store(CACHE / "store"), terminal_progress), options.synthesis
    images = windows(CACHE / "windows")
    how = {name: SYNTHESIZERS[name] for name in chosen}
    found = pixel_aps(how, images, options.seeds, session, options.count, options.epochs)
    keys = figures(found)
    rows = [(name, f"{keys[f'pixel_ap_{name}']} ± {keys[f'pixel_ap_{name}_half_interval']}") for name in found]
    report("A localiser trained on", ("defects", "pixel AP"), rows, {**vars(options), **keys})
    return 0


if __name__ == "__main__":
    sys.exit(main())
