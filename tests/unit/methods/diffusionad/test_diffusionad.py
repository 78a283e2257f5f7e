"""DiffusionAD as a detector: fitted, stored, asked for scores, refused."""

import dataclasses
import logging
import re
from dataclasses import replace

import diffusionad_inputs
import numpy as np
import pyarrow as pa
import pytest
import torch
from diffusionad_inputs import TINY, tiny
from PIL import Image
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score

from exdd_ray.data.catalog import CatalogRow, build_catalog, catalog_rows
from exdd_ray.data.images import resize_bilinear
from exdd_ray.data.procedural.defects import add_defect
from exdd_ray.errors import ConfigError, DataError
from exdd_ray.experiment.session import Session
from exdd_ray.methods.diffusionad import detector
from exdd_ray.methods.diffusionad.detector import LEAK, FittedDiffusionAD, fit_diffusionad, judge_on_test
from exdd_ray.methods.diffusionad.inference import image_scores
from exdd_ray.methods.images import read_images
from exdd_ray.metrics.config import EvaluationConfig
from exdd_ray.store.artifact import Store

images = diffusionad_inputs.images


@pytest.fixture(scope="module")
def catalog(images, tmp_path_factory) -> pa.Table:
    folder = tmp_path_factory.mktemp("images")
    rows = []
    for i, image in enumerate(images):
        split, label = ("train", 0) if i < 5 else ("test", i % 2)
        shown, mask = add_defect(image, "hole", np.random.default_rng(i)) if label else (image, None)
        Image.fromarray(shown).save(folder / f"{i}.png")
        if mask is not None:
            Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f"{i}_mask.png")
        rows.append(
            CatalogRow(
                id=f"{i}",
                dataset="d",
                category="c",
                split=split,
                label=label,
                defect="hole" if label else "good",
                image=str(folder / f"{i}.png"),
                mask=None if mask is None else str(folder / f"{i}_mask.png"),
            )
        )
    return build_catalog(rows)


def part(catalog: pa.Table, split: str) -> pa.Table:
    return catalog.filter(pa.compute.equal(catalog["split"], split))


def fit(catalog: pa.Table, store: Store, **over: object) -> FittedDiffusionAD:
    return fit_diffusionad(tiny(**over), part(catalog, "train"), store, 0, test=part(catalog, "test"))


def test_best_repeats_its_scores_and_is_trained_once(catalog, tmp_path):
    store = Store(tmp_path / "store")
    fitted = fit(catalog, store)
    first, second = (fitted.predict(part(catalog, "test")) for _ in range(2))
    assert fitted.train == (4, 1)
    assert np.isfinite(fitted.threshold)
    assert fitted.remarks == ()
    assert first.patch_maps.shape == (3, 64 * 64)
    np.testing.assert_array_equal(first.scores, second.scores)
    np.testing.assert_array_equal(first.patch_maps, second.patch_maps)
    np.testing.assert_array_equal(first.draw(first.patch_maps[0]), first.patch_maps[0].reshape(64, 64))
    again = Store(tmp_path / "store")
    read = fit(catalog, again, inference={"noise": "seeded", "batch": 1})
    assert again.made == []
    assert read.key == fitted.key
    np.testing.assert_allclose(read.predict(part(catalog, "test")).scores, first.scores, rtol=1e-4)
    one_image = part(catalog, "test").slice(1, 1)
    np.testing.assert_allclose(read.predict(one_image).scores, first.scores[1:2], rtol=1e-4)


def test_random_noise_does_not_repeat_and_modes_differ(catalog, tmp_path):
    store, test = Store(tmp_path / "store"), part(catalog, "test")
    one_step = fit(catalog, store)
    for module in one_step.networks.unet.modules():  # an untrained denoiser predicts no noise at all
        if getattr(module, "weight", None) is not None and module.weight.abs().max() == 0:
            torch.nn.init.normal_(module.weight, std=0.1)
    scores = {"one_step": one_step.predict(test).scores}
    for mode in ("single_scale", "ddim"):
        inference = {"mode": mode, "ddim_steps": 4}
        scores[mode] = dataclasses.replace(one_step, config=tiny(inference=inference)).predict(test).scores
    assert len({tuple(found) for found in scores.values()}) == 3
    loose = dataclasses.replace(one_step, config=tiny(inference={"noise": "random"}))
    assert not np.array_equal(loose.predict(test).scores, loose.predict(test).scores)


def test_checkpoint_of_the_released_preset_is_flagged(catalog, tmp_path):
    store = Store(tmp_path / "store")
    fitted = fit(catalog, store, preset="released", validate_epochs=1)
    assert fitted.remarks == (LEAK,)
    assert fitted.train == (5, 0)
    last = fit(catalog, store, preset="paper")
    assert last.remarks == ()
    assert last.threshold is None
    released = tiny(preset="released")
    with pytest.raises(ConfigError, match="test images are not given"):
        fit_diffusionad(released, part(catalog, "train"), store, 0)
    with pytest.raises(DataError, match="one class"):
        fit_diffusionad(released, part(catalog, "train"), store, 0, test=part(catalog, "train"))
    unmasked = build_catalog([replace(row, mask=None) for row in catalog_rows(part(catalog, "test"))])
    with pytest.raises(DataError, match="no defect of the test images has a mask"):
        fit_diffusionad(released, part(catalog, "train"), store, 0, test=unmasked)


def test_released_judges_by_rounded_areas_of_images_and_pixels_and_keeps_the_latest(catalog, tmp_path, caplog):
    rng, labels = np.random.default_rng(0), np.arange(40) % 2
    truth = (rng.random((40, 8, 8)) < 0.2) & (labels[:, None, None] == 1)
    maps = (0.3 * truth + rng.random((40, 8, 8))).astype(np.float32)
    image = round(roc_auc_score(labels, image_scores(maps)), 3) * 100
    pixel = round(roc_auc_score(truth.ravel(), maps.ravel()), 3) * 100
    assert judge_on_test(maps, labels, truth).value == (image, image + pixel)
    caplog.set_level(logging.INFO, "exdd_ray.training.loop")
    store = Store(tmp_path)
    fit(catalog, store, preset="released", validate_epochs=1, steps=12)
    (made,) = [store.find(key) for key in store.made]
    best, chosen = (0.0, 0.0), 0
    for line in caplog.messages:
        if found := re.fullmatch(r"after (\d+) steps: validation (\S+), (\S+)", line):
            step, of_images, together = int(found[1]), float(found[2]), float(found[3])
            if of_images >= best[0] and together >= best[1]:
                best, chosen = (of_images, together), step
    assert (made.metadata["best_step"], chosen > 0) == (chosen, True)


def test_released_neither_smooths_images_nor_keeps_grey_pixels_of_masks(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3)).astype(np.uint8)
    mask = np.zeros((128, 128), np.uint8)
    mask[31:67, 20:90] = 255
    Image.fromarray(noise).save(tmp_path / "i.png")
    Image.fromarray(mask).save(tmp_path / "m.png")
    files = {"image": str(tmp_path / "i.png"), "mask": str(tmp_path / "m.png")}
    row = CatalogRow(id="x", dataset="d", category="c", split="test", label=1, defect="x", **files)
    released, paper = tiny(preset="released"), tiny(preset="paper")
    np.testing.assert_array_equal(read_images([row], released.geometry).pixels[0], resize_bilinear(noise, (64, 64)))
    assert read_images([row], paper.geometry).pixels.std() < 0.95 * read_images([row], released.geometry).pixels.std()
    truth = Session(Store(tmp_path)).mask(row, released.geometry, EvaluationConfig(mask_resize="eroded"))
    np.testing.assert_array_equal(truth, resize_bilinear(mask, (64, 64)) == 255)
    assert truth.sum() == 17 * 35  # without the rows that are half of the mask


@pytest.mark.parametrize("mode", ["ddim", "single_scale"])
def test_another_mode_has_no_threshold_of_the_one_step(catalog, tmp_path, mode):
    store = Store(tmp_path / "store")
    assert fit(catalog, store).threshold is not None
    other = fit(catalog, store, inference={"mode": mode, "ddim_steps": 4})
    assert other.threshold is None
    assert len(store.made) == 1


def test_what_is_trained_names_the_code_that_paints_the_anomalies(catalog, tmp_path, monkeypatch):
    first = fit(catalog, Store(tmp_path / "store")).key
    monkeypatch.setattr(detector, "PER_REGION", replace(detector.PER_REGION, version=10**6))
    assert fit(catalog, Store(tmp_path / "store")).key != first


def test_a_halved_micro_batch_is_said(catalog, tmp_path, monkeypatch):
    from exdd_ray.methods.diffusionad import learner

    loss = learner.batch_loss

    def hungry(networks, samples, chosen):
        if len(samples) > 1:
            torch.empty(1 << 60, dtype=torch.uint8)
        return loss(networks, samples, chosen)

    monkeypatch.setattr(learner, "batch_loss", hungry)
    for _ in range(2):  # trained, and from the store
        fitted = fit(catalog, Store(tmp_path / "store"))
        assert fitted.remarks == ("out of memory: trained with micro-batches of 1, not 2; the batch is unchanged",)


def test_what_cannot_be_done_is_refused(catalog, tmp_path):
    store, train = Store(tmp_path / "store"), part(catalog, "train")
    with pytest.raises(DataError, match="4 training images are fewer than a batch of 8"):
        fit(catalog, store, training={"batch": 8})
    with pytest.raises(DataError, match="no normal image"):
        fit_diffusionad(tiny(), train.slice(0, 0), store, 0)
    with pytest.raises(DataError, match="at least 2"):
        fit_diffusionad(tiny(training={"batch": 1}), train.slice(0, 1), store, 0)
    (tmp_path / "damaged.png").write_bytes(b"no image")
    row = CatalogRow(
        id="x", dataset="d", category="c", split="test", label=0, defect="good", image=str(tmp_path / "damaged.png")
    )
    fitted = fit(catalog, store)
    with pytest.raises(DataError, match="no image of the catalog is readable"):
        fitted.predict(build_catalog([row]))
    for wrong, why in (
        ({"size": 90}, "cannot be halved"),
        ({"reconstruction": {**TINY["reconstruction"], "attention": (31,)}}, "sides"),
        ({"reconstruction": {**TINY["reconstruction"], "heads": 3}}, "must divide"),
        ({"inference": {"mode": "ddim", "ddim_steps": 7}}, "does not divide"),
        ({"diffusion": {"weak": (200, 100)}}, "ascend"),
        ({"diffusion": {"weak_test": 500}}, "not below"),
    ):
        with pytest.raises(ValidationError, match=why):
            tiny(**wrong)
