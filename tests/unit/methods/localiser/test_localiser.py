"""The localiser as a detector: what a fit learns, keeps and refuses."""

from dataclasses import replace

import classifier_inputs
import numpy as np
import pyarrow as pa
import pytest
import torch
from localiser_inputs import config
from PIL import Image

from exdd_ray.data.catalog import build_catalog, catalog_rows, select_rows
from exdd_ray.errors import ConfigError, DataError, ImageError
from exdd_ray.methods.localiser.detector import LEAK, FittedLocaliser, fit_localiser
from exdd_ray.metrics.curves import detection
from exdd_ray.store.artifact import Store
from exdd_ray.training.holdout import hold_out

pytestmark = pytest.mark.usefixtures("one_thread")
surfaces = classifier_inputs.surfaces
NEEDS = "a localiser needs normal images and defects with masks to train on: "


def fit(catalog: pa.Table, store: Store, **given) -> FittedLocaliser:
    train, test = (select_rows(catalog, split=split) for split in ("train", "test"))
    return fit_localiser(config(**given), train, store, 0, test=test)


def changed(catalog: pa.Table, **values) -> pa.Table:
    """The catalog with other values in the rows of its training defects."""
    rows = catalog_rows(catalog)
    return build_catalog([replace(row, **values) if row.label and row.split == "train" else row for row in rows])


@pytest.fixture(scope="module")
def fitted(surfaces, tmp_path_factory):
    return fit(surfaces, Store(tmp_path_factory.mktemp("store")), epochs=15, draws=64)


def test_trained_on_masks_it_finds_defects_and_their_pixels(surfaces, fitted):
    found = fitted.predict(select_rows(surfaces, split="test"))
    labels = np.array([row.label for row in found.rows])
    masks = np.zeros((len(labels), 48, 48), dtype=int)
    for at in np.flatnonzero(labels):
        masks[at] = np.asarray(Image.open(found.rows[at].mask)) > 127
    maps = np.stack([found.draw(one) for one in found.patch_maps])
    assert detection(labels, found.scores).ap > 0.9
    assert detection(masks.ravel(), maps.ravel()).ap > 0.4
    assert 0 <= maps.min() < maps.max() <= 1
    assert (fitted.train, fitted.held_out, fitted.remarks) == ((13, 0, 10), 5, ())


def test_the_threshold_comes_from_held_out_training_images(surfaces, fitted):
    train = catalog_rows(select_rows(surfaces, split="train"))
    _, held = hold_out(train, 0.2, 0)
    found = fitted.predict(build_catalog([train[at] for at in held]))
    labels = np.array([row.label for row in found.rows])
    assert fitted.threshold == pytest.approx(detection(labels, found.scores).threshold, rel=1e-5)


def test_a_second_fit_trains_nothing_and_other_images_or_seeds_train_anew(surfaces, tmp_path):
    first, store = fit(surfaces, Store(tmp_path)), Store(tmp_path)
    test = select_rows(surfaces, split="test")
    again = fit(surfaces, store)
    assert store.made == []
    assert np.array_equal(first.predict(test).patch_maps, again.predict(test).patch_maps)
    for other in (changed(surfaces, defect="scratch"), changed(surfaces, origin="real")):
        fit(other, store, checkpoint="last")
    assert len(store.made) == 2  # the kinds are drawn from, and where a defect is from is not looked at
    fit_localiser(config(), select_rows(surfaces, split="train"), store, 1)
    assert len(store.made) == 3


def test_what_does_not_train_does_not_train_anew(surfaces, tmp_path):
    store = Store(tmp_path)
    for given in ({}, {"pool": 7}, {"preset": "released", "checkpoint": "last"}, {"holdout": 0.5}):
        fit(surfaces, store, **{"checkpoint": "last", **given})
    assert len(store.made) == 1
    fit(surfaces, store, checkpoint="last", draws=24)
    assert len(store.made) == 2


def test_the_released_checkpoint_is_flagged_as_a_leak(surfaces, tmp_path):
    released = fit(surfaces, Store(tmp_path), preset="released", epochs=4)
    assert released.remarks == (LEAK,)
    assert released.threshold is None
    assert released.train == (16, 0, 12)
    assert fit(surfaces, Store(tmp_path), preset="paper").remarks == ()


def test_the_released_checkpoint_is_the_best_of_the_tests(surfaces, tmp_path, caplog):
    caplog.set_level("INFO", "exdd_ray.training.loop")
    store = Store(tmp_path)
    fit(surfaces, store, preset="released", epochs=6)
    values = [float(line.rpartition(" ")[2]) for line in caplog.messages if "validation" in line]
    (made,) = (store.find(key) for key in store.made)
    assert len(values) == 6
    assert made.metadata["best_step"] == 2 * (1 + int(np.argmax(values)))
    assert all(0 < value < 4 for value in values)


def test_synthetic_images_follow_what_they_were_made_from(surfaces, tmp_path):
    rows = catalog_rows(select_rows(surfaces, split="train"))
    normal = [row.image for row in rows if not row.label]
    made = [row for row in rows if row.label]
    sources = {row.id: (normal[at % 8], normal[8 + at % 8]) for at, row in enumerate(made)}
    found = fit_localiser(config(), build_catalog(rows), Store(tmp_path), 0, sources=sources)
    torn = 28 - sum(found.train) - found.held_out
    assert torn > 0
    assert found.remarks == (
        f"{torn} synthetic images were made from a held-out image and from another one, and are left out",
    )


def test_another_size_of_the_image_is_scored_as_it_is_trained_on(surfaces, fitted, tmp_path):
    row = catalog_rows(select_rows(surfaces, split="test", label=1))[0]
    large = Image.open(row.image).resize((144, 96), Image.Resampling.BICUBIC)
    large.save(tmp_path / "large.png")
    found = fitted.predict(build_catalog([replace(row, image=str(tmp_path / "large.png"), mask=None)]))
    assert found.draw(found.patch_maps[0]).shape == (48, 48)


def test_real_defects_may_be_left_to_the_synthesizer(surfaces, tmp_path):
    rows = [
        replace(row, origin="real") if row.label and row.id < "train-1-2" else row
        for row in catalog_rows(select_rows(surfaces, split="train"))
    ]
    real = sum(row.label == 1 and row.origin == "real" for row in rows)
    assert 0 < real < 12
    everything, synthetic = (
        fit_localiser(config(checkpoint="last", defects=which), build_catalog(rows), Store(tmp_path), 0)
        for which in ("all", "synthetic")
    )
    assert (everything.train, synthetic.train) == ((16, real, 12 - real), (16, 0, 12 - real))
    with pytest.raises(DataError, match="detector.defects=synthetic, and no defect is: set a synthesizer"):
        fit(changed(surfaces, origin="real"), Store(tmp_path), preset="paper")


@pytest.mark.parametrize(
    ("keep", "words"),
    [
        (lambda row: False, "there is none"),
        (lambda row: not row.label, "all 16 are normal: set dataset.split.defects or a synthesizer"),
        (lambda row: row.label, "all 12 are defective"),
    ],
)
def test_one_class_is_refused(surfaces, tmp_path, keep, words):
    rows = [row for row in catalog_rows(select_rows(surfaces, split="train")) if keep(row)]
    with pytest.raises(DataError, match=NEEDS + words):
        fit_localiser(config(), build_catalog(rows), Store(tmp_path), 0)
    assert not list(tmp_path.iterdir())


def test_masks_that_cannot_be_learnt_from_are_refused(surfaces, tmp_path):
    with pytest.raises(ImageError, match="has no mask"):
        fit(changed(surfaces, mask=None), Store(tmp_path))
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"broken\.png"):
        fit(changed(surfaces, mask=str(tmp_path / "broken.png")), Store(tmp_path))
    Image.fromarray(np.zeros((48, 48), dtype=np.uint8)).save(tmp_path / "empty.png")
    empty = changed(surfaces, mask=str(tmp_path / "empty.png"))
    with pytest.raises(DataError, match="no mask of the defects trained on has a pixel left at 48 pixels"):
        fit(empty, Store(tmp_path))


def test_a_test_that_cannot_choose_is_refused(surfaces, tmp_path):
    train, test = (select_rows(surfaces, split=split) for split in ("train", "test"))
    released, store = config(preset="released"), Store(tmp_path)
    with pytest.raises(ConfigError, match="test images are not given"):
        fit_localiser(released, train, store, 0)
    with pytest.raises(DataError, match="one class"):
        fit_localiser(released, train, store, 0, test=select_rows(test, label=0))
    unmasked = build_catalog([replace(row, mask=None) for row in catalog_rows(test)])
    with pytest.raises(DataError, match="no defect of the test images has a mask"):
        fit_localiser(released, train, store, 0, test=unmasked)


def test_a_halved_micro_batch_is_said(surfaces, tmp_path, monkeypatch):
    from exdd_ray.methods.localiser import detector

    loss = detector.batch_loss

    def hungry(network, samples):
        if len(samples) > 4:
            torch.empty(1 << 60, dtype=torch.uint8)
        return loss(network, samples)

    monkeypatch.setattr(detector, "batch_loss", hungry)
    for _ in range(2):  # trained, and from the store
        assert fit(surfaces, Store(tmp_path)).remarks == (
            "out of memory: trained with micro-batches of 4, not 8; the batch is unchanged",
        )
