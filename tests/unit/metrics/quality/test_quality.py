import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from exdd_ray.data.catalog import CatalogRow
from exdd_ray.errors import DataError, ImageError, UserError
from exdd_ray.metrics.quality.config import QualityConfig
from exdd_ray.metrics.quality.evaluate import QualityReport, measure_quality
from exdd_ray.metrics.quality.networks import load_network
from exdd_ray.metrics.quality.perceptual import load_perceptual, pairwise_lpips
from exdd_ray.metrics.quality.pictures import PictureSet, defect_square


def textures(count: int, seed: int, size: int = 64, sigma: float = 1.0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        field = ndimage.gaussian_filter(rng.normal(size=(size, size)), sigma)
        grey = np.clip(128 + 50 * field / field.std(), 0, 255).astype(np.uint8)
        made.append(np.repeat(grey[:, :, None], 3, axis=2))
    return made


def blurred(images: list[np.ndarray], sigma: float) -> list[np.ndarray]:
    return [ndimage.gaussian_filter(image, (sigma, sigma, 0)) for image in images]


def values(report: QualityReport) -> dict[str, float]:
    return {figure.name: figure.value for figure in report.figures}


def test_blurred_images_lie_further_than_other_draws() -> None:
    real, config = textures(16, seed=1), QualityConfig(crops=False)
    close = measure_quality(real, textures(14, seed=2), config)
    far = measure_quality(real, blurred(textures(14, seed=2), 2.0), config)
    assert values(far)["KID-surface_resnet18"] > 3 * values(close)["KID-surface_resnet18"]
    assert values(far)["FID-surface_resnet18"] > 1.5 * values(close)["FID-surface_resnet18"]
    assert values(close)["precision-surface_resnet18"] > values(far)["precision-surface_resnet18"]
    first = close.figures[0]
    assert first.name == "KID-surface_resnet18"
    assert (first.n_real, first.n_synthetic, first.note) == (16, 14, "100 subsets of 7")
    assert first.std is not None
    assert "14 images for 256 features: rank-deficient" in close.figures[1].note
    assert [name for name, _ in close.left_out] == ["IS-surface_resnet18", "LPIPS", "IC-LPIPS"]
    assert "weights" in close.networks[0]


def test_too_few_images_leave_precision_out_and_one_is_refused() -> None:
    report = measure_quality(textures(3, 1), textures(3, 2), QualityConfig(crops=False))
    assert list(values(report)) == ["KID-surface_resnet18", "FID-surface_resnet18"]
    reasons = dict(report.left_out)
    assert "4 images a set, not 3 and 3" in reasons["precision-surface_resnet18"]
    assert "recall-surface_resnet18" in reasons
    with pytest.raises(DataError, match="synthetic: 1 images, at least 2"):
        measure_quality(textures(3, 1), textures(1, 2), QualityConfig(crops=False))


def test_crops_see_a_small_defect_that_whole_images_hide() -> None:
    def with_spot(seed: int, deep: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
        images, masks = textures(8, seed, size=320), []
        for i, image in enumerate(images):
            mask = np.zeros((320, 320), dtype=bool)
            mask[20 + 15 * i : 32 + 15 * i, 200:212] = True
            image[mask] = deep
            masks.append(mask)
        return images, masks

    (real, real_masks), (made, made_masks) = with_spot(1, 10), with_spot(2, 245)
    whole = values(measure_quality(real, made, QualityConfig(crops=False)))["KID-surface_resnet18"]
    cropped = measure_quality(real, made, QualityConfig(crops=True), real_masks=real_masks, synthetic_masks=made_masks)
    assert values(cropped)["KID-surface_resnet18 (defect crops)"] > 5 * whole
    assert all("(defect crops)" in name for name in [*values(cropped), *dict(cropped.left_out)])


def test_squares_are_centred_shifted_inside_and_no_smaller_than_32() -> None:
    mask = np.zeros((200, 300), dtype=bool)
    mask[90:110, 100:140] = True
    assert defect_square(mask, 0.5) == (80, 60, 160, 140)
    assert defect_square(mask, 5.0) == (20, 0, 220, 200)  # no larger than the image's shorter side
    mask[100, :280] = True
    assert defect_square(mask, 0.0) == (0, 0, 280, 200)  # unless the defect is
    corner = np.zeros((200, 300), dtype=bool)
    corner[0, 299] = True
    assert defect_square(corner, 0.5) == (268, 0, 300, 32)


def test_files_and_catalog_rows_give_the_same_pixels(tmp_path: Path) -> None:
    image, mask = textures(1, 3, size=80)[0], np.zeros((80, 80), dtype=bool)
    mask[30:45, 20:60] = True
    Image.fromarray(image).save(tmp_path / "a.png")
    Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / "a_mask.png")
    row = CatalogRow(
        id="a", dataset="d", category="c", split="test", label=1, defect="scratch",
        image=str(tmp_path / "a.png"), mask=str(tmp_path / "a_mask.png"),
    )  # fmt: skip
    files = PictureSet("real", [tmp_path / "a.png", str(tmp_path / "a.png")], [mask, mask], context=0.1)
    rows = PictureSet("real", [row, row], context=0.1)
    assert np.array_equal(files.pixels(0), rows.pixels(1))
    assert files.pixels(0).shape == (48, 48, 3)
    assert np.array_equal(PictureSet("real", [row, row]).pixels(0), image)


def test_pictures_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    image, empty = textures(1, 3)[0], np.zeros((64, 64), dtype=bool)
    with pytest.raises(ImageError, match="no such file"):
        PictureSet("real", [tmp_path / "b.png"] * 2).pixels(0)
    with pytest.raises(DataError, match="real 0: float64"):
        PictureSet("real", [image / 255.0] * 2).pixels(0)
    with pytest.raises(DataError, match="real 1: no mask"):
        PictureSet("real", [image] * 2, context=0.5).pixels(1)
    with pytest.raises(DataError, match="real 0: the mask is empty"):
        PictureSet("real", [image] * 2, [empty] * 2, 0.5).pixels(0)
    with pytest.raises(DataError, match="differ in"):
        PictureSet("real", [image] * 2, [empty[:32]] * 2, 0.5).pixels(0)
    with pytest.raises(DataError, match="1 masks for 2 images"):
        PictureSet("real", [image] * 2, [empty])


@pytest.mark.parametrize("network", ["resnet18", "squeezenet", "inception"])
def test_weights_that_are_absent_or_no_weights_are_refused(tmp_path: Path, network: str) -> None:
    with pytest.raises(UserError, match="no such weights file .quality.weights."):
        load_network(QualityConfig(network=network, weights=tmp_path / "none.pth"))  # type: ignore[arg-type]
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(UserError, match="not a readable"):
        load_network(QualityConfig(network=network, weights=tmp_path / "text.pth"))  # type: ignore[arg-type]
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="weights"):
        load_network(QualityConfig(network=network, weights=tmp_path / "other.pth"))  # type: ignore[arg-type]


def test_lpips_is_refused_without_its_network(tmp_path: Path) -> None:
    config = QualityConfig(crops=False, perceptual="squeeze", perceptual_weights=tmp_path / "none.pth")
    with pytest.raises(UserError, match="no such weights file .quality.perceptual_weights."):
        measure_quality(textures(2, 1), textures(2, 2), config)


def test_config_refuses_weights_of_no_network() -> None:
    with pytest.raises(ValueError, match="is bundled"):
        QualityConfig(weights=Path("resnet18.pth"))
    with pytest.raises(ValueError, match="needs quality.perceptual"):
        QualityConfig(perceptual_weights=Path("squeezenet.pth"))


def test_the_command_line_does_not_import_it() -> None:
    code = (
        "import sys, exdd_ray.cli.main; assert not [n for n in sys.modules if n.startswith('exdd_ray.metrics.quality')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture(scope="module")
def squeezenet(shared_dir: Path) -> Path:
    return shared_dir / "weights" / "squeezenet1_1_in1k.safetensors"


@pytest.fixture(scope="module")
def tiles(shared_dir: Path) -> list[np.ndarray]:
    files = sorted((shared_dir / "data" / "magnetic-tile" / "MT_Blowhole" / "Imgs").glob("*.jpg"))[::14][:6]
    return [np.asarray(Image.open(file).convert("RGB")) for file in files]


@pytest.mark.shared
def test_lpips_of_tiles_is_that_of_the_package_and_rises_with_blur(squeezenet: Path, tiles: list[np.ndarray]) -> None:
    import lpips

    perceptual = load_perceptual("squeeze", squeezenet)
    assert all(bool((head.model[-1].weight >= 0).all()) for head in perceptual.model.lins)  # so that roots exist
    square = [np.asarray(Image.fromarray(tile).resize((256, 256))) for tile in tiles[:3]]
    pictures = PictureSet("real", square)
    found = pairwise_lpips(perceptual, pictures, pictures)
    tensors = torch.cat([lpips.im2tensor(image) for image in square])
    with torch.inference_mode():
        expected = torch.stack(
            [perceptual.model(tensors, one[None].expand(3, -1, -1, -1)).flatten() for one in tensors]
        )
    assert found == pytest.approx(expected.numpy(), abs=1e-6)
    assert np.diag(found) == pytest.approx(0, abs=1e-6)
    steps = PictureSet("blurred", [blurred(square[:1], sigma)[0] for sigma in (0.5, 1.0, 2.0, 4.0)])
    rises = pairwise_lpips(perceptual, pictures, steps)[0]
    assert (np.diff(np.r_[0, rises]) > 0.005).all()


@pytest.mark.shared
def test_squeezenet_report_of_tiles(squeezenet: Path, tiles: list[np.ndarray]) -> None:
    config = QualityConfig(
        crops=False, network="squeezenet", weights=squeezenet, perceptual="squeeze", perceptual_weights=squeezenet
    )
    near = [*blurred(tiles[:3], 0.5), *blurred(tiles[:3], 1.0), *blurred(tiles[4:5], 1.0)]
    report = measure_quality(tiles, near, config)
    assert [figure.name for figure in report.figures] == [
        "KID-squeezenet", "FID-squeezenet", "precision-squeezenet", "recall-squeezenet", "IS-squeezenet",
        "LPIPS-squeeze", "IC-LPIPS-squeeze",
    ]  # fmt: skip
    assert report.left_out == ()
    assert report.figures[-1].note == "3 clusters; 1 images alone in theirs are left out"
    assert report.figures[4].n_real == 0
    perceptual = load_perceptual("squeeze", squeezenet)
    pairs = [
        pairwise_lpips(perceptual, PictureSet("a", [near[i]] * 2), PictureSet("b", [near[i + 3]] * 2))[0, 0]
        for i in range(3)
    ]
    assert report.figures[-1].value == pytest.approx(np.mean(pairs), abs=1e-5)
    copies = measure_quality(tiles, tiles, config)
    assert values(copies)["LPIPS-squeeze"] == pytest.approx(0, abs=1e-6)
    assert values(copies)["FID-squeezenet"] == pytest.approx(0, abs=1e-3)
    assert dict(copies.left_out)["IC-LPIPS-squeeze"] == "no two synthetic images share a nearest real one"


@pytest.mark.shared
def test_resnet18_by_path_names_itself(shared_dir: Path, tiles: list[np.ndarray]) -> None:
    weights = shared_dir / "weights" / "resnet18_in1k_conv1-layer3.safetensors"
    config = QualityConfig(network="resnet18", crops=False, weights=weights)
    report = measure_quality(tiles, blurred(tiles, 3.0), config)
    assert report.figures[1].name == "FID-resnet18"
    assert values(report)["KID-resnet18"] > 0


def test_inception_is_loaded_from_a_file_of_its_weights(tmp_path: Path) -> None:
    # torchvision's network has the same modules: a file of the right names and shapes, untrained, shows the loading.
    from torchvision.models import inception_v3

    untrained = inception_v3(weights=None, init_weights=False, aux_logits=False, num_classes=1008)
    torch.save(untrained.state_dict(), tmp_path / "inception.pth")
    network = load_network(QualityConfig(network="inception", weights=tmp_path / "inception.pth"))
    vectors, logits = network.embed([textures(1, 1)[0], textures(1, 2, size=80)[0]])
    assert vectors.shape == (2, 2048)
    assert logits is not None
    assert logits.shape == (2, 1008)
    assert torch.allclose(logits, vectors @ untrained.fc.weight.T, atol=1e-4)
