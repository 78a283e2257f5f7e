"""The classifier of normal and defective images: what a fit learns, keeps and refuses."""

from dataclasses import replace

import classifier_inputs
import numpy as np
import pytest
import torch
from classifier_inputs import SIDE, config
from PIL import Image
from torch import nn

from exdd_ray.data.catalog import build_catalog, catalog_rows, select_rows
from exdd_ray.errors import DataError
from exdd_ray.methods.classifier.classifier import fit_classifier
from exdd_ray.metrics.curves import detection
from exdd_ray.metrics.threshold import f1_max_point
from exdd_ray.store.artifact import Store
from exdd_ray.training.holdout import hold_out
from exdd_ray.training.learner import TrainingError
from exdd_ray.training.pictures import read_pictures

pytestmark = pytest.mark.usefixtures("one_thread")
surfaces = classifier_inputs.surfaces


@pytest.fixture(scope="module")
def fitted(surfaces, tmp_path_factory):
    chosen = config(epochs=30, features={"layers": ["layer3"]}, learning_rate=1e-3)
    return fit_classifier(chosen, select_rows(surfaces, split="train"), Store(tmp_path_factory.mktemp("store")), 0)


def test_trained_on_normal_and_synthetic_images_it_finds_defects(surfaces, fitted):
    test = select_rows(surfaces, split="test")
    predictions = fitted.predict(test)
    labels = np.array([row.label for row in predictions.rows])
    assert detection(labels, predictions.scores).ap > 0.95
    assert fitted.train == (13, 0, 10)
    assert fitted.held_out == 5
    assert fitted.remarks == ()
    assert 1 <= fitted.epochs <= 30


def test_the_map_is_higher_where_the_defect_is(surfaces, fitted):
    predictions = fitted.predict(select_rows(surfaces, split="test", label=1))
    inside, outside = [], []
    for row, patch_map in zip(predictions.rows, predictions.patch_maps, strict=True):
        mask = np.asarray(Image.open(row.mask)) > 127
        drawn = predictions.draw(patch_map)
        assert drawn.shape == mask.shape
        inside.append(drawn[mask].mean()), outside.append(drawn[~mask].mean())
    assert np.mean(np.array(inside) > np.array(outside)) > 0.8


def test_the_score_is_the_logit_of_the_pooled_features(surfaces, fitted):
    test = select_rows(surfaces, split="test")
    predictions = fitted.predict(test)
    images = read_pictures(catalog_rows(test), fitted.config.features).batch(range(3))
    with torch.no_grad():
        (features,) = fitted.network.backbone(images)
        pooled = nn.functional.adaptive_avg_pool2d(features, 1).flatten(1)
        logits = fitted.network.head(pooled)[:, 0]
    np.testing.assert_allclose(predictions.scores[:3], logits.numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(predictions.scores, predictions.patch_maps.mean(1), rtol=1e-4, atol=1e-4)
    assert predictions.patch_maps.shape == (16, fitted.grid[0] * fitted.grid[1])


def test_the_threshold_comes_from_held_out_training_images(surfaces, fitted):
    train = catalog_rows(select_rows(surfaces, split="train"))
    _, held = hold_out(train, 0.2, 0)
    rows = [train[at] for at in held]
    predictions = fitted.predict(build_catalog(rows))
    labels = np.array([row.label for row in predictions.rows])
    expected = f1_max_point(labels, predictions.scores, "midpoint").threshold
    assert fitted.threshold == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_a_second_fit_trains_nothing_and_predicts_the_same(surfaces, tmp_path):
    train, test = (select_rows(surfaces, split=split) for split in ("train", "test"))
    short = config(epochs=1)
    first = fit_classifier(short, train, Store(tmp_path), 0)
    store = Store(tmp_path)
    second = fit_classifier(short, train, store, 0)
    assert store.made == []
    assert len(store.reused) == 1
    assert np.array_equal(first.predict(test).scores, second.predict(test).scores)
    assert (first.threshold, first.train, first.epochs) == (second.threshold, second.train, second.epochs)
    other = fit_classifier(short, train, store, 1)
    assert len(store.made) == 1
    assert not np.array_equal(first.predict(test).scores, other.predict(test).scores)


def test_a_killed_fit_goes_on_to_the_same_bits(surfaces, tmp_path):
    train, test = (select_rows(surfaces, split=split) for split in ("train", "test"))
    often = config(epochs=2, batchnorm="trained", training={"checkpoint_every": 2})
    whole = fit_classifier(often, train, Store(tmp_path / "whole"), 0)

    def progress(label: str, total: int):
        from contextlib import nullcontext

        steps = []

        def advance(count: int) -> None:
            steps.append(count)
            if sum(steps) == 5:
                raise KeyboardInterrupt

        return nullcontext(advance)

    with pytest.raises(KeyboardInterrupt):
        fit_classifier(often, train, Store(tmp_path / "cut"), 0, progress=progress)
    assert list((tmp_path / "cut" / "unfinished").rglob("step-00000004"))
    resumed = fit_classifier(often, train, Store(tmp_path / "cut"), 0)
    assert np.array_equal(whole.predict(test).scores, resumed.predict(test).scores)
    for key, value in whole.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[key]), key


def test_full_shot_counts_real_and_synthetic_defects(surfaces, tmp_path):
    rows = [
        replace(row, origin="real") if row.label and row.id < "train-1-2" else row
        for row in catalog_rows(select_rows(surfaces, split="train"))
    ]
    real = sum(row.label == 1 and row.origin == "real" for row in rows)
    full = fit_classifier(config(epochs=1, checkpoint="last"), build_catalog(rows), Store(tmp_path), 0)
    assert full.train == (16, real, 12 - real)
    assert 0 < real < 12
    assert full.threshold is None
    assert full.held_out == 0
    assert full.epochs == 1


@pytest.mark.parametrize(
    ("label", "words"), [(0, "all 16 are normal: set dataset.split.defects"), (1, "all 12 are def")]
)
def test_one_class_is_refused(surfaces, tmp_path, label, words):
    with pytest.raises(DataError, match=words):
        fit_classifier(config(), select_rows(surfaces, split="train", label=label), Store(tmp_path), 0)
    assert not list(tmp_path.iterdir())


def test_fewer_images_than_a_batch_are_refused(surfaces, tmp_path):
    with pytest.raises(DataError, match="23 training images are fewer than a batch of 64"):
        fit_classifier(config(training={"batch": 64}), select_rows(surfaces, split="train"), Store(tmp_path), 0)


def test_a_learning_rate_that_bursts_stops_with_the_step(surfaces, tmp_path):
    with pytest.raises(TrainingError, match=r"step \d+: (the loss is (nan|inf)|a gradient is not finite)"):
        fit_classifier(
            config(learning_rate=1e30, optimizer="sgd"), select_rows(surfaces, split="train"), Store(tmp_path), 0
        )


def test_an_unreadable_image_is_left_out_and_named(surfaces, tmp_path):
    train = catalog_rows(select_rows(surfaces, split="train"))
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    rows = [*train, replace(train[0], id="broken", image=str(broken))]
    found = fit_classifier(config(epochs=1), build_catalog(rows), Store(tmp_path / "store"), 0)
    assert list(found.unreadable) == ["broken"]
    assert "broken.png" in found.unreadable["broken"]
    predicted = found.predict(build_catalog(rows))
    assert "broken" not in [row.id for row in predicted.rows]
    assert len(predicted.scores) == len(train)
    with pytest.raises(DataError, match="no image of the catalog is readable"):
        found.predict(build_catalog(rows[-1:]))


def test_what_the_store_has_is_not_trained_elsewhere(surfaces, tmp_path):
    store, train = Store(tmp_path), select_rows(surfaces, split="train")
    asked = []

    def elsewhere() -> None:
        asked.append(1)
        fit_classifier(config(epochs=1), train, Store(tmp_path), 0)

    for _ in range(2):
        fit_classifier(config(epochs=1), train, store, 0, remote=elsewhere)
    assert asked == [1]
    assert store.made == []


def test_released_takes_its_labels_from_full_mask_pixels_and_its_last_epoch(surfaces, tmp_path):
    train, test = (catalog_rows(select_rows(surfaces, split=split)) for split in ("train", "test"))
    speck = np.zeros((SIDE, SIDE), np.uint8)
    speck[20, 20] = 255  # one pixel: the resizes leave nothing of it at the full value
    block = np.zeros((SIDE, SIDE), np.uint8)
    block[10:30, 10:30] = 255
    masks = {name: str(tmp_path / f"{name}.png") for name in ("speck", "block")}
    Image.fromarray(speck).save(masks["speck"])
    Image.fromarray(block).save(masks["block"])
    faint = [row.id for row in (*train, *test) if row.label][::6]
    rows = [
        replace(row, mask=masks["speck" if row.id in faint else "block"]) if row.label else row
        for row in (*train, *test)
    ]
    by_split = {split: build_catalog([row for row in rows if row.split == split]) for split in ("train", "test")}
    features = {"backbone": "surface_resnet18", "resize": [70, 40]}
    released = config(preset="released", features=features, batchnorm="released", epochs=2)
    found = fit_classifier(released, by_split["train"], Store(tmp_path / "store"), 0)
    assert (found.epochs, found.threshold, found.held_out) == (2, None, 0)
    faint_in_train = sum(row.id in faint for row in train)
    assert found.train == (16 + faint_in_train, 0, 12 - faint_in_train)
    assert f"{faint_in_train} of 12 in training" in found.remarks[0]
    labels = {row.id: row.label for row in found.predict(by_split["test"]).rows}
    assert labels == {row.id: int(row.label and row.id not in faint) for row in test}
