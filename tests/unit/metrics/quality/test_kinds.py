"""Synthetic defects kind by kind: Inception Score, IC-LPIPS, and a classifier of kinds asked of real ones."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from exdd_ray.data.catalog import CatalogRow
from exdd_ray.data.procedural.defects import add_defect
from exdd_ray.data.procedural.surfaces import make_surface
from exdd_ray.errors import DataError, UserError
from exdd_ray.metrics.quality import kinds
from exdd_ray.metrics.quality.config import KindsConfig, QualityConfig
from exdd_ray.metrics.quality.distances import inception_score
from exdd_ray.metrics.quality.kinds import measure_kinds
from exdd_ray.metrics.quality.networks import extract, load_network
from exdd_ray.metrics.quality.perceptual import cluster_lpips, load_perceptual, pairwise_lpips
from exdd_ray.metrics.quality.pictures import PictureSet
from exdd_ray.store.artifact import Store

pytestmark = pytest.mark.usefixtures("one_thread")
KINDS = ("hole", "scratch")
HOW = {"size": 64, "epochs": 4, "learning_rate": 1e-3, "training": {"batch": 8, "device": "cpu"}}
ACCURACY = "accuracy of kinds-surface_resnet18 (defect crops)"


def rows(folder: Path, split: str, count: int) -> list[CatalogRow]:
    made = []
    for number in range(count * len(KINDS)):
        kind = KINDS[number % len(KINDS)]
        rng = np.random.default_rng([number, *split.encode()])
        image, mask = add_defect(make_surface("ceramic", (96, 96), rng), kind, rng)
        file, mask_file = folder / f"{split}-{number:03d}.png", folder / f"{split}-{number:03d}_mask.png"
        Image.fromarray(image).save(file)
        Image.fromarray(mask.astype(np.uint8) * 255).save(mask_file)
        shown = {"label": 1, "defect": kind, "image": str(file), "mask": str(mask_file)}
        made.append(CatalogRow(id=file.stem, dataset="d", category="ceramic", split=split, **shown))
    return made


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> list[CatalogRow]:
    folder = tmp_path_factory.mktemp("real")
    return rows(folder, "train", 2) + rows(folder, "test", 8)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> list[CatalogRow]:
    return rows(tmp_path_factory.mktemp("made"), "synthetic", 12)


def config(**given) -> QualityConfig:
    return QualityConfig.model_validate({"kinds": HOW, **given})


def test_a_classifier_of_synthetic_kinds_tells_real_ones(real, made, tmp_path):
    report = measure_kinds(real, made, config(), Store(tmp_path))
    (figure,) = report.figures
    assert figure.name == ACCURACY
    assert figure.value > 0.8
    assert (figure.n_real, figure.n_synthetic) == (16, 24)
    counted = {kind: int(figure.note.split(f"{kind} ")[1].split(" of")[0]) for kind in KINDS}
    assert sum(counted.values()) == round(16 * figure.value)
    assert figure.note.endswith("of 8; 0.5 is chance")
    assert dict(report.left_out) == {
        "IS-surface_resnet18 by kind (defect crops)": (
            "surface_resnet18 gives no class scores: take inception or squeezenet"
        ),
        "IC-LPIPS by kind (defect crops)": "no network was asked for: quality.perceptual=squeeze, alex or vgg",
    }
    assert report.networks[0].startswith("classifier of kinds: surface_resnet18")


def test_kinds_that_are_named_wrongly_are_told_wrongly(real, made, tmp_path):
    other = {"hole": "scratch", "scratch": "hole"}
    swapped = [replace(row, defect=other[row.defect]) for row in made]
    (figure,) = measure_kinds(real, swapped, config(), Store(tmp_path)).figures
    assert figure.value < 0.4


def test_the_classifier_is_trained_once_and_its_bits_repeat(real, made, tmp_path):
    store, short = Store(tmp_path / "one"), config(kinds={**HOW, "epochs": 1})
    first = measure_kinds(real, made, short, store)
    assert len(store.made) == 1
    again = Store(tmp_path / "one")
    assert measure_kinds(real, made, short, again) == first
    assert again.made == []
    assert measure_kinds(real, made, short, Store(tmp_path / "two")) == first
    measure_kinds(real, made, short, again, seed=1)
    assert len(again.made) == 1


def test_the_training_images_are_not_asked_about(real, made, tmp_path):
    report = measure_kinds([row for row in real if row.split == "train"], made, config(), Store(tmp_path))
    assert dict(report.left_out)[ACCURACY] == "0 kinds have synthetic images and tested real ones: 2 are needed"


def test_kinds_that_have_no_synthetic_images_are_left_out(real, made, tmp_path):
    report = measure_kinds(real, [row for row in made if row.defect == "hole"], config(), Store(tmp_path))
    assert dict(report.left_out)[ACCURACY].startswith("1 kinds have")
    nameless = [replace(row, defect="per_region") for row in made]
    report = measure_kinds(real, nameless, config(), Store(tmp_path))
    assert report.figures == ()
    assert report.left_out == (
        (
            "figures by kind",
            "synthetic images are of per_region, real ones of hole, scratch: no kind has two synthetic images",
        ),
    )


def test_what_cannot_be_trained_is_refused(real, made, tmp_path):
    with pytest.raises(DataError, match="24 training images are fewer than a batch of 64"):
        measure_kinds(real, made, config(kinds={**HOW, "training": {"batch": 64}}), Store(tmp_path))
    absent = KindsConfig(network="resnet34", weights=tmp_path / "none.pth")
    with pytest.raises(UserError, match=r"no such weights file \(quality\.kinds\.weights\)"):
        measure_kinds(real, made, config(kinds=absent), Store(tmp_path))


@pytest.mark.shared
def test_scores_and_varieties_are_means_of_the_kinds(real, made, tmp_path, shared_dir):
    weights = shared_dir / "weights" / "squeezenet1_1_in1k.safetensors"
    chosen = config(
        crops=False,
        network="squeezenet",
        weights=weights,
        perceptual="squeeze",
        perceptual_weights=weights,
        kinds={**HOW, "epochs": 1},
    )
    report = measure_kinds(real, made, chosen, Store(tmp_path))
    score, variety, accuracy = report.figures
    network, perceptual = load_network(chosen), load_perceptual("squeeze", weights)
    scores, varieties = [], []
    for kind in KINDS:
        synthetic = PictureSet("s", [row for row in made if row.defect == kind])
        trained = PictureSet("r", [row for row in real if (row.defect, row.split) == (kind, "train")])
        scores.append(inception_score(extract(network, synthetic).logits).mean)
        nearest = pairwise_lpips(perceptual, trained, synthetic).argmin(axis=0)
        varieties.append(cluster_lpips(perceptual, synthetic, nearest).means.mean())
    assert (score.name, variety.name) == ("IS-squeezenet by kind", "IC-LPIPS-squeeze by kind")
    assert score.value == pytest.approx(np.mean(scores), rel=1e-6)
    assert variety.value == pytest.approx(np.mean(varieties), rel=1e-5)
    assert (score.n_real, score.n_synthetic) == (0, 24)
    assert (variety.n_real, variety.n_synthetic) == (4, 24)
    assert score.note == "mean of kinds: " + "; ".join(
        f"{kind} {value:.3g} of 12" for kind, value in zip(KINDS, scores, strict=True)
    )
    assert variety.note.endswith(f"scratch {varieties[1]:.3g} of 12 around 2")
    assert accuracy.name == "accuracy of kinds-surface_resnet18"
    assert report.left_out == ()


@pytest.mark.shared
def test_no_cluster_is_measured_on_more_than_its_share(real, made, tmp_path, shared_dir, monkeypatch):
    monkeypatch.setattr(kinds, "CLUSTER", 5)
    weights = shared_dir / "weights" / "squeezenet1_1_in1k.safetensors"
    holes = [row for row in real if row.defect == "hole"]
    many = [row for row in made if row.defect == "hole"]
    chosen = config(crops=False, perceptual="squeeze", perceptual_weights=weights)
    (figure,) = measure_kinds(holes, many, chosen, Store(tmp_path)).figures
    assert 2 <= figure.n_synthetic <= 10 < len(many)
    alone = [row for row in holes if row.split == "test"]
    report = measure_kinds(alone, many, chosen, Store(tmp_path))
    assert "hole: images of a kind: 0 images, at least 2" in dict(report.left_out)["IC-LPIPS-squeeze by kind"]
