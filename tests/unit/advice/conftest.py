"""Folders of made images, as a user has them."""

import numpy as np
import pytest
from PIL import Image

from exdd_ray.data.procedural.defects import add_defect
from exdd_ray.data.procedural.surfaces import make_surface


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """A maker of folders of good and defective images, and the folder to run in."""
    monkeypatch.chdir(tmp_path)

    def make(good: int, defects: int, *, masks: bool = True):
        root = tmp_path / "parts #1: mine"
        for name in ("normal", "defect", "masks"):
            (root / name).mkdir(parents=True)
        for number in range(good + defects):
            rng = np.random.default_rng(number)
            image = make_surface("brushed_metal", (64, 64), rng)
            if number < good:
                Image.fromarray(image).save(root / "normal" / f"{number}.png")
                continue
            image, mask = add_defect(image, "hole", rng)
            Image.fromarray(image).save(root / "defect" / f"{number}.png")
            if masks:
                Image.fromarray(mask.astype(np.uint8) * 255).save(root / "masks" / f"{number}.png")
        if not masks:
            (root / "masks").rmdir()
        return root

    return make
