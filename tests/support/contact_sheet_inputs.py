"""Sets of synthetic defects for the tests of the contact sheet and the trackers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from exdd_ray.data.catalog import CatalogRow, build_catalog
from exdd_ray.data.procedural.defects import add_defect
from exdd_ray.data.procedural.surfaces import make_surface
from exdd_ray.metrics.quality.config import QualityConfig
from exdd_ray.metrics.quality.evaluate import measure_quality
from exdd_ray.report.contact_sheet import SynthesisSet, Timing
from exdd_ray.store.artifact import Store
from exdd_ray.synthesizers.inpaint.config import InpaintConfig
from exdd_ray.synthesizers.per_region.config import PerRegionConfig
from exdd_ray.synthesizers.synthesize import Synthesis, SyntheticSample, synthesize

PROMPTS = ("a <deep> scratch", "stain")
LEAKAGE = "leakage: synthetic defects are painted in the masks of training defects (masks.source=positives)"
DUPLICATE = "near-duplicate of an earlier sample"


def make_normal(folder: Path, material: str, size: tuple[int, int], count: int = 4) -> pa.Table:
    """Writes normal images of a material."""
    images = [make_surface(material, size, np.random.default_rng(i)) for i in range(count)]
    return write_normal(folder, material, images)


def write_normal(folder: Path, category: str, images: list[np.ndarray]) -> pa.Table:
    rows = []
    (folder / category).mkdir(parents=True)
    for i, image in enumerate(images):
        path = folder / category / f"{i}.png"
        Image.fromarray(image).save(path)
        rows.append(
            CatalogRow(
                id=path.name,
                dataset="procedural",
                category=category,
                split="train",
                label=0,
                defect="good",
                image=str(path),
            )
        )
    return build_catalog(rows)


def make_sets(folder: Path) -> list[SynthesisSet]:
    """A measured set of per-region defects, and one of two prompts with dropped samples and a leak."""
    wood, ceramic = make_normal(folder, "wood", (64, 80)), make_normal(folder, "ceramic", (160, 56))
    config = PerRegionConfig(count=12)
    synthesis = synthesize(config, wood, wood.slice(0, 0), 3, Store(folder / "store"))
    rng = np.random.default_rng(9)
    real = [add_defect(make_surface("wood", (64, 80), rng), "scratch", rng)[0] for _ in range(5)]
    quality = measure_quality(real, [made.row for made in synthesis.samples], QualityConfig(crops=False))
    first = SynthesisSet("MemSeg", "procedural", "wood", 3, config, synthesis, Timing(12, 1.5), quality)
    return [first, _prompted(folder, ceramic)]


def _prompted(folder: Path, normal: pa.Table) -> SynthesisSet:
    """Per-region defects under an inpainter's names: whoever shows them cares for nothing else."""
    made = synthesize(PerRegionConfig(count=7), normal, normal.slice(0, 0), 3, Store(folder / "store")).samples
    samples = tuple(_renamed(sample, PROMPTS[i >= 4], i % 4) for i, sample in enumerate(made))
    config = InpaintConfig(prompts=PROMPTS, count=10)
    synthesis = Synthesis(samples, {DUPLICATE: 1, "the paint <failed>": 2})
    return SynthesisSet("DIAG & co", "procedural", "ceramic", 3, config, synthesis, remarks=(LEAKAGE, "a <note>"))


def _renamed(made: SyntheticSample, prompt: str, number: int) -> SyntheticSample:
    return replace(made, prompt=prompt, row=replace(made.row, id=f"inpaint/{prompt}/{number:06d}", defect=prompt))
