import dataclasses

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from exdd_ray.config.diffusionad import DiffusionADConfig
from exdd_ray.data.catalog import CatalogRow, build_catalog
from exdd_ray.detectors.diffusionad import LEAK, FittedDiffusionAD, fit_diffusionad
from exdd_ray.diffusionad.diffusion import (
    alpha_bars,
    denoised,
    guided_noise,
    noised,
    reconstruct,
    reconstruct_ddim,
    reconstruct_single,
)
from exdd_ray.diffusionad.infer import image_scores, scaled
from exdd_ray.diffusionad.learner import batch_loss, make_learner
from exdd_ray.diffusionad.losses import focal_loss, noise_loss, segmentation_loss
from exdd_ray.diffusionad.networks import make_networks
from exdd_ray.diffusionad.samples import draw_batch, draw_validation
from exdd_ray.errors import ConfigError, DataError
from exdd_ray.procedural.defects import add_defect
from exdd_ray.procedural.surfaces import make_surface
from exdd_ray.store.artifact import Store

TINY = {
    "size": 64,
    "reconstruction": {"base": 8, "multipliers": (1, 2), "layers": 1, "attention": (32,), "heads": 2, "groups": 4},
    "segmentation": {"base": 4, "multipliers": (1, 2, 2)},
    "unet_rate": 2e-3,
    "segmentation_rate": 1e-2,
    "steps": 3,
    "held_out": 0.25,
    "training": {"batch": 2, "ema": None, "device": "cpu"},
}


def tiny(**over: object) -> DiffusionADConfig:
    return DiffusionADConfig.model_validate({**TINY, **over})


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.stack([make_surface("ceramic", (64, 64), np.random.default_rng(i)) for i in range(8)])


@pytest.fixture(scope="module")
def catalog(images, tmp_path_factory) -> pa.Table:
    folder = tmp_path_factory.mktemp("images")
    rows = []
    for i, image in enumerate(images):
        split, label = ("train", 0) if i < 5 else ("test", i % 2)
        shown = add_defect(image, "hole", np.random.default_rng(i))[0] if label else image
        Image.fromarray(shown).save(folder / f"{i}.png")
        rows.append(
            CatalogRow(
                id=f"{i}",
                dataset="d",
                category="c",
                split=split,
                label=label,
                defect="hole" if label else "good",
                image=str(folder / f"{i}.png"),
            )
        )
    return build_catalog(rows)


def part(catalog: pa.Table, split: str) -> pa.Table:
    return catalog.filter(pa.compute.equal(catalog["split"], split))


def abar(t: int) -> float:
    product = 1.0
    for step in range(t + 1):
        product *= 1.0 - (1e-4 + (0.02 - 1e-4) * step / 999)
    return product


def arrays(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def test_schedule_is_linear_and_has_the_values_of_the_specification():
    assert alpha_bars().numpy() == pytest.approx([abar(t) for t in range(1000)], rel=2e-4)
    for t, value in ((200, 0.656), (300, 0.394), (400, 0.194), (600, 0.026)):
        assert float(alpha_bars()[t]) == pytest.approx(value, abs=6e-4)


def test_one_step_prediction_is_the_published_formula():
    x, eps = 0.3 * arrays(0, 2, 3, 4, 4), 0.3 * arrays(1, 2, 3, 4, 4)
    t = [7, 250]
    got = denoised(torch.from_numpy(x), torch.from_numpy(eps), torch.tensor(t)).numpy()
    for b in range(2):
        a = abar(t[b])
        want = np.clip((x[b] - np.sqrt(1 - a) * eps[b]) / np.sqrt(a), -1, 1)
        assert got[b] == pytest.approx(want, abs=1e-4)
    assert denoised(torch.full((1, 3, 4, 4), 9.0), torch.zeros(1, 3, 4, 4), torch.tensor([5])).max() == 1


def test_noising_is_undone_by_the_true_noise():
    x, eps = torch.from_numpy(arrays(2, 2, 3, 4, 4)).clamp(-1, 1), torch.from_numpy(arrays(3, 2, 3, 4, 4))
    t = torch.tensor([40, 700])
    a = np.array([abar(40), abar(700)]).reshape(2, 1, 1, 1)
    assert noised(x, eps, t).numpy() == pytest.approx(np.sqrt(a) * x.numpy() + np.sqrt(1 - a) * eps.numpy(), abs=1e-4)
    assert denoised(noised(x, eps, t), eps, t).numpy() == pytest.approx(x.numpy(), abs=1e-6)


def test_guidance_renoises_with_the_predicted_weak_noise():
    x_t, eps, x_0 = (arrays(seed, 1, 3, 4, 4) for seed in (4, 5, 6))
    a, w = abar(200), 0.7
    renoised = np.sqrt(a) * x_0 + np.sqrt(1 - a) * eps
    want = eps - w * np.sqrt(1 - a) * (renoised - x_t)
    got = guided_noise(*(torch.from_numpy(v) for v in (x_t, eps, x_0)), torch.tensor([200]), w)
    assert got.numpy() == pytest.approx(want, abs=1e-4)


def bent(x: np.ndarray, t: np.ndarray) -> np.ndarray:
    """A denoiser that depends on image and step."""
    return 0.6 * x + 0.2 * np.sin(3 * x) + t.reshape(-1, 1, 1, 1) / 2000


def bent_denoiser(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(bent(x.numpy(), t.numpy()))


def test_reconstruction_is_the_whole_of_the_specification():
    x, noise = np.clip(0.5 * arrays(7, 2, 3, 8, 8), -1, 1), arrays(8, 2, 2, 3, 8, 8)
    t_s, t_b, w = np.array([120, 200]), np.array([400, 555]), 1.0
    found = reconstruct(
        bent_denoiser, torch.from_numpy(x), torch.from_numpy(noise), torch.from_numpy(t_s), torch.from_numpy(t_b), w
    )
    a_s, a_b = (np.array([abar(v) for v in t]).reshape(2, 1, 1, 1) for t in (t_s, t_b))
    x_s = np.sqrt(a_s) * x + np.sqrt(1 - a_s) * noise[0]
    x_b = np.sqrt(a_b) * x + np.sqrt(1 - a_b) * noise[1]
    e_s, e_b = bent(x_s, t_s), bent(x_b, t_b)
    x0_b = np.clip((x_b - np.sqrt(1 - a_b) * e_b) / np.sqrt(a_b), -1, 1)
    again = np.sqrt(a_s) * x0_b + np.sqrt(1 - a_s) * e_s
    e_hat = e_s - w * np.sqrt(1 - a_s) * (again - x_s)
    want = np.clip((x_s - np.sqrt(1 - a_s) * e_hat) / np.sqrt(a_s), -1, 1)
    assert found.image.numpy() == pytest.approx(want, abs=2e-4)
    assert found.errors[0].numpy() == pytest.approx(((e_s - noise[0]) ** 2).mean(axis=(1, 2, 3)), rel=1e-4)
    assert found.errors[1].numpy() == pytest.approx(((e_b - noise[1]) ** 2).mean(axis=(1, 2, 3)), rel=1e-4)
    single = reconstruct_single(bent_denoiser, torch.from_numpy(x), torch.from_numpy(noise[0]), torch.from_numpy(t_s))
    assert single.numpy() == pytest.approx(np.clip((x_s - np.sqrt(1 - a_s) * e_s) / np.sqrt(a_s), -1, 1), abs=2e-4)


def test_ddim_takes_equal_strides_from_the_start_down():
    x, noise, start, steps = np.clip(0.4 * arrays(9, 1, 3, 4, 4), -1, 1), arrays(10, 1, 3, 4, 4), 400, 5
    seen: list[int] = []

    def denoiser(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        seen.append(int(t[0]))
        return bent_denoiser(x_t, t)

    got = reconstruct_ddim(denoiser, torch.from_numpy(x), torch.from_numpy(noise), start, steps)
    assert seen == [400, 320, 240, 160, 80]
    x_t = np.sqrt(abar(400)) * x + np.sqrt(1 - abar(400)) * noise
    for t in seen:
        eps = bent(x_t, np.array([t]))
        x_0 = np.clip((x_t - np.sqrt(1 - abar(t)) * eps) / np.sqrt(abar(t)), -1, 1)
        x_t = np.sqrt(abar(t - 80)) * x_0 + np.sqrt(1 - abar(t - 80)) * eps
    assert got.numpy() == pytest.approx(x_0, abs=5e-4)


def test_losses_are_the_published_ones():
    p = np.random.default_rng(11).uniform(0.05, 0.95, (2, 1, 4, 4))
    m = (np.random.default_rng(12).random((2, 1, 4, 4)) < 0.4).astype(float)
    right = np.where(m == 1, p, 1 - p)
    focal = (-0.5 * (1 - right) ** 4 * np.log(right)).mean()
    smooth = (0.5 * (p - m) ** 2).mean()  # every difference is below 1
    given = torch.from_numpy(p), torch.from_numpy(m)
    assert float(focal_loss(*given)) == pytest.approx(focal, rel=1e-6)
    assert float(segmentation_loss(*given)) == pytest.approx(smooth + 5 * focal, rel=1e-6)
    certain = torch.tensor([[[[0.0, 1.0]]]])
    assert torch.isfinite(focal_loss(certain, 1 - certain))
    errors = torch.tensor([[1.0, 2.0, 30.0], [4.0, 6.0, 70.0]])
    weights = torch.tensor([1.5, 1.5, 0.0])  # three samples, the last one anomalous
    assert float(noise_loss(errors, weights, "sum")) == pytest.approx((5 + 8) / 2)
    assert float(noise_loss(errors, weights, "mean")) == pytest.approx((5 + 8) / 4)
    assert float(noise_loss(errors, torch.zeros(3), "sum")) == 0


def test_published_networks_have_their_shapes():
    with torch.device("meta"):  # shapes without arithmetic
        networks = make_networks(DiffusionADConfig(preset="released"), 0)
        noise = networks.denoise(torch.rand(1, 3, 256, 256), torch.tensor([200]))
        found = networks.segment(torch.rand(1, 3, 256, 256), noise)
    assert noise.shape == (1, 3, 256, 256)
    assert found.shape == (1, 1, 256, 256)
    assert networks.unet.config.block_out_channels == (128, 128, 256, 256, 512, 512)
    attention = [(name, module) for name, module in networks.unet.named_modules() if hasattr(module, "to_out")]
    assert {module.heads for _, module in attention} == {4}
    assert [name for name, _ in attention if name.startswith("down")] == [
        f"down_blocks.{level}.attentions.{layer}" for level in (3, 4, 5) for layer in (0, 1)
    ]
    assert [block[0].out_channels for block in networks.segmentation.down] == [64, 128, 256, 512, 512, 512]
    assert [block[0].out_channels for block in networks.segmentation.up] == [512, 256, 128, 64, 64]


def test_untrained_denoiser_predicts_zero(images):
    networks = make_networks(tiny(), 0)
    with torch.inference_mode():
        noise = networks.denoise(scaled(images[:2], "signed"), torch.tensor([200, 3]))
        found = networks.segment(scaled(images[:2], "signed"), noise)
    assert noise.abs().max() == 0
    assert found.shape == (2, 1, 64, 64)
    assert 0 < found.min() < found.max() < 1


def test_samples_follow_from_seed_step_and_place(images):
    config = tiny(training={"batch": 6})
    once, again = (draw_batch(images, config, 3, 5) for _ in range(2))
    for a, b in zip(once, again, strict=True):
        for field in dataclasses.fields(a):
            np.testing.assert_array_equal(getattr(a, field.name), getattr(b, field.name))
    other = draw_batch(images, config, 3, 6)
    assert not any(np.array_equal(a.noise, b.noise) for a, b in zip(once, other, strict=True))
    drawn = [sample for step in range(20) for sample in draw_batch(images, config, 0, step)]
    anomalous = [sample.mask.any() for sample in drawn]
    assert 0.35 < np.mean(anomalous) < 0.65
    for sample, has in zip(drawn, anomalous, strict=True):
        assert (sample.weight == 0) == has
        assert has or any(np.array_equal(sample.image, image) for image in images)
    assert min(s.weak for s in drawn) >= 0
    assert max(s.weak for s in drawn) <= 299
    assert min(s.strong for s in drawn) >= 300
    assert max(s.strong for s in drawn) <= 599


def test_micro_batches_have_the_loss_of_the_batch(images):
    config = tiny(training={"batch": 6})
    networks = make_networks(config, 0)
    networks.segmentation.eval()
    samples = draw_batch(images, config, 1, 0)
    assert 0 < sum(s.mask.any() for s in samples) < 6
    with torch.inference_mode():
        whole = float(batch_loss(networks, samples, config))
        parts = [float(batch_loss(networks, samples[i : i + 2], config)) for i in (0, 2, 4)]
    assert np.mean(parts) == pytest.approx(whole, rel=1e-5)


def test_training_lowers_the_loss_and_reaches_the_denoiser_through_the_reconstruction(images):
    config = tiny(schedule="constant", training={"batch": 4})
    networks = make_networks(config, 0)
    learner = make_learner(networks, images, config, 20, seed=0)
    losses = []
    for _ in range(20):  # the same samples again and again
        for optimizer in learner.optimizers:
            optimizer.zero_grad()
        loss = learner.loss(learner.draw(0), 0)
        loss.backward()
        for optimizer in learner.optimizers:
            optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    anomalous = [dataclasses.replace(s, weight=0.0) for s in draw_batch(images, config, 0, 0) if s.mask.any()]
    networks.unet.zero_grad()
    batch_loss(networks, anomalous, config).backward()
    assert networks.unet.conv_out.weight.grad.abs().max() > 0


def test_rates_follow_the_presets(images):
    rates = {}
    for preset in ("paper", "released", "best"):
        config = tiny(preset=preset)
        learner = make_learner(make_networks(config, 0), images, config, 40, seed=0)
        seen = []
        for _ in range(40):
            seen.append([group["lr"] for optimizer in learner.optimizers for group in optimizer.param_groups])
            for optimizer, schedule in zip(learner.optimizers, learner.schedulers, strict=True):
                optimizer.step()
                if schedule is not None:
                    schedule.step()
        rates[preset] = np.array(seen)
    assert (rates["paper"] == [2e-3, 1e-2]).all()
    assert (rates["released"][:, 0] == 2e-3).all()
    assert rates["released"][[0, 10, 20, 30], 1] == pytest.approx([1e-2, 0, 1e-2, 0], abs=1e-9)
    assert rates["best"][20] == pytest.approx([1e-3, 5e-3])
    assert (np.diff(rates["best"], axis=0) < 0).all()


def test_presets_have_their_oddities():
    paper, released, best = (DiffusionADConfig(preset=preset) for preset in ("paper", "released", "best"))
    assert released.diffusion.strong == (300, 999)
    assert (released.diffusion.image_range, paper.diffusion.image_range) == ("unit", "signed")
    assert (paper.diffusion.noise_loss, released.diffusion.noise_loss) == ("mean", "sum")
    assert (paper.checkpoint, released.checkpoint, best.checkpoint) == ("last", "test", "validation")
    assert released.training.ema is None
    assert best.training.ema is not None
    assert best.inference.noise == "seeded"
    assert (released.training.batch, released.epochs, released.unet_rate, released.segmentation_rate) == (
        16,
        3000,
        1e-4,
        1e-5,
    )
    white = np.full((1, 2, 2, 3), 255, dtype=np.uint8)
    assert scaled(white * 0, "unit").min() == 0
    assert scaled(white * 0, "signed").min() == -1
    assert scaled(white, "unit").max() == scaled(white, "signed").max() == 1
    small = DiffusionADConfig(scale="small", size=64)
    assert small.size == 64
    assert small.reconstruction.base < best.reconstruction.base


def test_a_small_scale_leaves_a_preset_what_it_is_about():
    emas = {name: DiffusionADConfig(preset=name, scale="small").training.ema for name in ("paper", "released", "best")}
    assert emas == {"paper": None, "released": None, "best": 0.99}
    assert DiffusionADConfig(preset="paper", scale="small", training={"ema": 0.9}).training.ema == 0.9
    assert DiffusionADConfig(scale="small").steps == 1500
    by_epochs = DiffusionADConfig(scale="small", epochs=7)
    assert (by_epochs.epochs, by_epochs.steps) == (7, None)
    assert DiffusionADConfig(scale="small", epochs=7, steps=9).steps == 9
    for chosen in (by_epochs, DiffusionADConfig(scale="small"), DiffusionADConfig(preset="released", scale="small")):
        assert DiffusionADConfig.model_validate(chosen.model_dump(mode="json")) == chosen


def test_the_test_images_choose_for_the_released_preset_alone():
    for preset in ("paper", "best"):
        with pytest.raises(ValidationError, match="a leak, kept for preset=released"):
            DiffusionADConfig(preset=preset, checkpoint="test")
    with pytest.raises(ValidationError, match="validate_every is not used where validate_epochs is given"):
        DiffusionADConfig(validate_epochs=2, training={"validate_every": 7})


def test_textures_alone_may_fill_the_anomalies(images, monkeypatch):
    drawn = []
    monkeypatch.setattr("exdd_ray.synthesis.per_region.structure", lambda image, rng: drawn.append("own") or image)
    for share, own in ((1.0, 0), (0.0, 8)):
        drawn.clear()
        draw_validation(images, tiny(anomalies={"texture_share": share}), 4)
        assert len(drawn) == own


def test_image_score_is_the_mean_of_the_top_fifty_pixels():
    maps = np.random.default_rng(0).random((3, 20, 20), dtype=np.float32)
    want = [np.sort(one.ravel())[::-1][:50].mean() for one in maps]
    assert image_scores(maps) == pytest.approx(want, rel=1e-6)


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


@pytest.mark.parametrize("mode", ["ddim", "single_scale"])
def test_another_mode_has_no_threshold_of_the_one_step(catalog, tmp_path, mode):
    store = Store(tmp_path / "store")
    assert fit(catalog, store).threshold is not None
    other = fit(catalog, store, inference={"mode": mode, "ddim_steps": 4})
    assert other.threshold is None
    assert len(store.made) == 1


def test_what_is_trained_names_the_code_that_paints_the_anomalies(catalog, tmp_path, monkeypatch):
    first = fit(catalog, Store(tmp_path / "store")).key
    monkeypatch.setattr("exdd_ray.detectors.diffusionad.SYNTHESIS", 10**6)
    assert fit(catalog, Store(tmp_path / "store")).key != first


def test_a_halved_micro_batch_is_said(catalog, tmp_path, monkeypatch):
    from exdd_ray.diffusionad import learner

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


def test_validation_is_half_anomalous_and_repeats(images):
    config = tiny()
    shown, masks = draw_validation(images[:3], config, 4)
    assert shown.shape == (6, 64, 64, 3)
    assert masks.any(axis=(1, 2)).tolist() == [False] * 3 + [True] * 3
    np.testing.assert_array_equal(shown[:3], images[:3])
    np.testing.assert_array_equal(draw_validation(images[:3], config, 4)[0], shown)
