"""Segmentation models of one's own: what they find, and what is refused in one line."""

import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from segmentation_inputs import Brighter, export
from torch import Tensor, nn

from exdd_ray.errors import DataError, UserError
from exdd_ray.synthesizers.config import ForegroundConfig
from exdd_ray.synthesizers.dualanodiff.config import DualConfig, PairMaskConfig
from exdd_ray.synthesizers.dualanodiff.masks import part_mask
from exdd_ray.synthesizers.foreground import foreground
from exdd_ray.synthesizers.per_region.blend import blend_region
from exdd_ray.synthesizers.per_region.config import PerRegionConfig
from exdd_ray.synthesizers.segmentation import segment, segmenters


@pytest.fixture(scope="module")
def bright(tmp_path_factory) -> Path:
    return export(Brighter(0.5), tmp_path_factory.mktemp("model") / "bright.pt2")


@pytest.fixture
def image() -> np.ndarray:
    image = np.full((40, 56, 3), 60, dtype=np.uint8)
    image[8:30, 12:50] = 200
    return image


def part_of(image: np.ndarray) -> np.ndarray:
    return image[..., 0] > 100


def test_the_part_is_where_the_probability_is_half_or_more(bright, image):
    np.testing.assert_array_equal(segment(image, bright), part_of(image))
    turned = image[::-1, :, ::-1]  # a view, of another size too
    np.testing.assert_array_equal(segment(turned[:, :33], bright), part_of(turned[:, :33]))


class Red(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image[:, 0]


def test_a_program_sees_red_first_and_of_0_to_1(tmp_path):
    red = export(Red(), tmp_path / "red.pt2")
    image = np.zeros((32, 32, 3), dtype=np.uint8)
    image[:, :8] = (128, 0, 0)
    image[:, 8:16] = (127, 0, 0)
    image[:, 16:] = (0, 255, 255)
    found = segment(image, red)
    assert found[:, :8].all()
    assert not found[:, 8:].any()


def test_a_foreground_is_what_the_model_finds(bright, image):
    config = ForegroundConfig(kind="model", model=bright)
    np.testing.assert_array_equal(foreground(image, config), part_of(image))
    with pytest.raises(DataError, match=r"the foreground is empty: .*bright\.pt2 finds nothing \(foreground\.model\)"):
        foreground(image // 2, config)
    blended, mask = blend_region(image, PerRegionConfig(foreground=config), np.random.default_rng(0))
    assert mask.any()
    assert not (mask & ~part_of(image)).any()
    np.testing.assert_array_equal(blended[~mask], image[~mask])


def test_the_mask_of_a_pair_is_what_the_model_finds_with_holes_filled(bright, image):
    config = PairMaskConfig(model=bright, level=250, opening=0, closing=0)
    np.testing.assert_array_equal(part_mask(image, (0, 0, 0), config), part_of(image))
    image[15:20, 20:30] = 60
    assert not segment(image, bright)[15:20, 20:30].any()
    assert part_mask(image, (0, 0, 0), config)[15:20, 20:30].all()


def test_a_model_that_was_replaced_is_loaded_anew(image, tmp_path):
    file = export(Brighter(0.5), tmp_path / "model.pt2")
    assert segment(image, file).any()
    export(Brighter(0.9), file)
    assert not segment(image, file).any()


def test_a_configs_models_are_listed(bright, tmp_path):
    other = shutil.copy(bright, tmp_path / "other.pt2")
    ground = {"kind": "model", "model": bright}
    both = {"mask": {"model": other}, "tuning": {"background": {"foreground": ground}}}
    assert sorted(segmenters(DualConfig.model_validate(both))) == sorted(map(str, (bright, other)))
    assert segmenters(DualConfig()) == ()


@pytest.mark.parametrize("given", [{"kind": "model"}, {"kind": "threshold", "model": "a.pt2"}, {"model": "a.pt2"}])
def test_a_model_without_its_kind_and_the_kind_without_a_model_are_refused(given):
    with pytest.raises(ValueError, match=r"foreground\.model is for foreground\.kind=model, and needed there"):
        ForegroundConfig.model_validate(given)


# what is refused


class Logits(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return (image.mean(dim=1, keepdim=True) - 0.5) * 10


class Nan(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image.mean(dim=1) * float("nan")


class Smaller(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image[:, :1, 2:, 1:]


class Two(nn.Module):
    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return image[:, :1], image[:, :1]


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (Logits(), "gives values that are no probabilities"),
        (Nan(), "gives values that are no probabilities"),
        (Smaller(), r"gives \(1, 1, 38, 55\), not a probability for each pixel, \(1, 1, 40, 56\)"),
        (Two(), "gives tuple, not a probability for each pixel"),
    ],
)
def test_what_is_no_probability_for_each_pixel_is_refused(program, message, image, tmp_path):
    file = export(program, tmp_path / "model.pt2")
    with pytest.raises(UserError, match=rf"model\.pt2: {message}"):
        segment(image, file)


def test_an_image_of_a_size_that_the_program_was_not_exported_for_is_refused(image, tmp_path):
    file = export(Brighter(0.5), tmp_path / "model.pt2", any_size=False)
    assert segment(image[:32, :32], file).any()
    with pytest.raises(UserError, match=r"model\.pt2: cannot segment an image of 40 x 56: [^\n]+$"):
        segment(image, file)


def test_an_absent_file_is_named_before_anything_is_made(image, tmp_path):
    file = tmp_path / "absent.pt2"
    message = r"absent\.pt2: a segmentation model that cannot be read: No such file"
    with pytest.raises(UserError, match=message):
        segment(image, file)
    with pytest.raises(UserError, match=message):
        segmenters(PairMaskConfig(model=file))


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


def with_part(source: Path, file: Path, name: str, data: bytes) -> None:
    """A copy of a program with another part, or with that part changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(file, "w") as new:
        for each in old.namelist():
            if not each.endswith(name):
                new.writestr(each, old.read(each))
        new.writestr(f"{old.namelist()[0].partition('/')[0]}/{name}", data)


@pytest.mark.parametrize("what", ["text", "weights", "pickle", "inputs", "object", "config", "cut"])
def test_files_that_hold_something_else_are_refused_and_never_unpickled(what, bright, image, tmp_path, recwarn):
    file, fired = tmp_path / "model.pt2", tmp_path / "fired"
    bomb = pickle.dumps(Bomb(fired))
    if what == "text":
        file.write_text("no program")
    elif what == "weights":
        torch.save(Brighter(0.5).state_dict(), file)
    elif what == "pickle":
        torch.save(Bomb(fired), file)
    elif what == "inputs":
        torch.save(Bomb(fired), tmp_path / "inputs.pt")
        with_part(bright, file, "data/sample_inputs/model.pt", (tmp_path / "inputs.pt").read_bytes())
    elif what == "object":
        with_part(bright, file, "data/constants/opaque_obj_0", bomb)
    elif what == "config":
        pickled = b'{"config": {"grey.weight": {"path_name": "weight_0", "use_pickle": true, "tensor_meta": null}}}'
        with_part(bright, file, "data/weights/model_weights_config.json", pickled)
    else:
        file.write_bytes(bright.read_bytes()[:-200])
    with pytest.raises(UserError, match=r"model\.pt2: not a program that torch\.export\.save wrote: [^\n]+$"):
        segment(image, file)
    assert not fired.exists()
    assert not list(recwarn)


def test_a_program_is_loaded_and_run_without_a_warning(bright, image, recwarn):
    assert segment(image, bright).any()
    assert not list(recwarn)
