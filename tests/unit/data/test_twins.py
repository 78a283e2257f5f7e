import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from exdd_ray.data.check import check_dataset
from exdd_ray.data.datasets import load_dataset
from exdd_ray.data.procedural.dataset import ProceduralSpec, write_procedural_dataset


@pytest.fixture(scope="module")
def surfaces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("surfaces") / "images"
    spec = ProceduralSpec(size=(96, 96), materials=("ceramic",), normal_train=24, normal_test=4, per_kind=1)
    write_procedural_dataset(root, spec)
    return root / "ceramic"


def brighter(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(pixels * 1.3, 0, 255).astype(np.uint8))


def reencoded(pixels: np.ndarray) -> Image.Image:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=60)
    return Image.open(stream).convert("RGB")


def smaller(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels).resize((72, 72), Image.Resampling.BILINEAR)


def train_images(root: Path) -> list[Path]:
    return sorted((root / "train" / "good").iterdir())


def copied(surfaces: Path, root: Path) -> Path:
    shutil.copytree(surfaces, root)
    return root


def test_different_images_of_one_texture_are_no_twins(surfaces: Path) -> None:
    assert check_dataset(load_dataset("folder", surfaces)).twins == ()


@pytest.mark.parametrize("change", [brighter, reencoded, smaller])
def test_twins_in_train_and_test_are_counted(surfaces: Path, tmp_path: Path, change) -> None:
    root = copied(surfaces, tmp_path / "set")
    first = train_images(root)[3]
    change(np.asarray(Image.open(first).convert("RGB"))).save(root / "test" / "good" / "twin.png")
    report = check_dataset(load_dataset("folder", root))
    assert [(pair.id, pair.like) for pair in report.twins] == [("test/good/twin.png", f"train/good/{first.name}")]
    assert report.duplicates == ()
    tested = sum(count.images for count in report.counts if count.split == "test")
    (note,) = [note for note in report.notes if "resemble" in note]
    assert note.startswith(f"1 of {tested} test images resemble a training one")


def test_twins_within_training_and_equal_bytes_are_not_counted(surfaces: Path, tmp_path: Path) -> None:
    root = copied(surfaces, tmp_path / "set")
    first = train_images(root)[3]
    brighter(np.asarray(Image.open(first).convert("RGB"))).save(root / "train" / "good" / "twin.png")
    (root / "test" / "good" / "copy.png").write_bytes(first.read_bytes())
    report = check_dataset(load_dataset("folder", root))
    assert [pair.like for pair in report.twins] == ["train/good/twin.png"]  # the copy resembles the brighter one too
    assert [group.harm for group in report.duplicates] == ["the same image is in train and test"]


def test_parts_that_lie_alike_are_no_twins_and_a_few_images_are_compared_as_they_are(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    across = np.hypot(*np.mgrid[-1:1:64j, -1:1:64j])
    part = 120.0 * (across < 0.7) + 60 * (across < 0.4)
    for number in range(30):
        pixels = part + 20 * rng.standard_normal((64, 64)).cumsum(axis=0).cumsum(axis=1) / 64
        Image.fromarray(np.clip(pixels + 40, 0, 255).astype(np.uint8)).save(tmp_path / f"{number:02}.png")
    assert check_dataset(load_dataset("folder", tmp_path)).twins == ()
    few = tmp_path / "few"
    few.mkdir()
    texture = rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    for number, image in enumerate((Image.fromarray(texture), reencoded(texture), Image.new("RGB", (64, 64), 90))):
        image.save(few / f"{number}.png")
    Image.new("RGB", (64, 64), 91).save(few / "flat.png")
    assert {pair.id for pair in check_dataset(load_dataset("folder", few)).twins} == {"0.png", "1.png"}
