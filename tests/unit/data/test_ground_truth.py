"""True masks at the size of the anomaly maps: discs on images of KSDD2's size, through ExDD's two resizes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import map_coordinates

from exdd_ray.data.catalog import CatalogRow
from exdd_ray.data.masks import read_row_levels, read_row_mask
from exdd_ray.experiment.session import Session
from exdd_ray.methods.patch_bank.config import PatchBankConfig
from exdd_ray.metrics.config import EvaluationConfig
from exdd_ray.store.artifact import Store

HEIGHT, WIDTH = 630, 230
PLACES = [(315, 115), (314.5, 114.5), (300, 100), (200, 120), (411, 88)]
RELEASED = {3: 0, 6: 10, 12: 71, 25: 396}  # radius -> pixels that ExDD's released rule keeps, about


def masked(folder: Path, mask: np.ndarray) -> CatalogRow:
    Image.fromarray(np.zeros(mask.shape[:2], np.uint8)).save(folder / "image.png")
    Image.fromarray(mask).save(folder / "mask.png")
    return CatalogRow(
        id="a",
        dataset="ksdd2",
        category="ksdd2",
        split="test",
        label=1,
        defect="x",
        image=str(folder / "image.png"),
        mask=str(folder / "mask.png"),
        mask_threshold=0,
    )


def disc(radius: float, centre: tuple[float, float]) -> np.ndarray:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return ((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2).astype(np.uint8) * 255


def truth(folder: Path, mask: np.ndarray, preset: str, how: str) -> np.ndarray:
    geometry = PatchBankConfig(system="exdd", preset=preset).geometry
    session = Session(Store(folder / "store"))
    return session.mask(masked(folder, mask), geometry, EvaluationConfig(mask_resize=how))


def released_by_hand(mask: np.ndarray) -> np.ndarray:
    """OpenCV's bilinear resize to 632 x 224 rounded to 8 bits, Pillow's to 316 x 112, then only what is 1 of 1."""
    rows, columns = ((np.arange(n) + 0.5) * size / n - 0.5 for n, size in ((632, HEIGHT), (224, WIDTH)))
    grid = np.meshgrid(rows, columns, indexing="ij")
    working = np.rint(map_coordinates(mask.astype(float), grid, order=1, mode="nearest")).astype(np.uint8)
    small = np.asarray(Image.fromarray(working).resize((112, 316), Image.Resampling.BILINEAR))
    return small.astype(np.float32) / 255 == 1


@pytest.mark.parametrize("radius", RELEASED)
def test_eroded_masks_are_full_through_the_whole_chain(radius, tmp_path):
    kept = []
    for place in PLACES:
        mask = disc(radius, place)
        found = truth(tmp_path, mask, "released", "eroded")
        np.testing.assert_array_equal(found, released_by_hand(mask))
        kept.append(found.sum())
    assert np.mean(kept) == pytest.approx(RELEASED[radius], rel=0.06, abs=1)


@pytest.mark.parametrize("radius", RELEASED)
def test_nearest_masks_are_not_dilated_by_the_working_size(radius, tmp_path):
    for place in PLACES:
        mask = disc(radius, place)
        area = (mask > 0).sum() * (632 * 224) / (HEIGHT * WIDTH)
        assert truth(tmp_path, mask, "paper", "nearest").sum() == pytest.approx(area, rel=0.05, abs=3)


def test_a_grey_border_is_a_defect_but_not_full(tmp_path):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[100:200, 50:150] = 40
    mask[110:190, 60:140] = 255
    assert (read_row_levels(masked(tmp_path, mask)) == 255).sum() == 80 * 80
    assert read_row_mask(masked(tmp_path, mask)).sum() == 100 * 100
    kinds = np.zeros((HEIGHT, WIDTH), np.uint8)  # numbers of kinds, as VisA has them: none is fuller than another
    kinds[100:200, 50:150], kinds[300:320, 50:150] = 1, 2
    assert (read_row_levels(masked(tmp_path, kinds)) == 255).sum() == 100 * 120
