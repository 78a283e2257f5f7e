"""What DiffusionAD trains: its networks, its samples, its steps."""

import dataclasses

import diffusionad_inputs
import numpy as np
import pytest
import torch
from diffusionad_inputs import tiny

from exdd_ray.methods.diffusionad.config import DiffusionADConfig
from exdd_ray.methods.diffusionad.inference import scaled
from exdd_ray.methods.diffusionad.learner import batch_loss, make_learner
from exdd_ray.methods.diffusionad.networks import make_networks
from exdd_ray.methods.diffusionad.training_samples import draw_batch, draw_validation

images = diffusionad_inputs.images


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


def test_textures_alone_may_fill_the_anomalies(images, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "exdd_ray.synthesizers.per_region.blend.structure", lambda image, rng: drawn.append("own") or image
    )
    for share, own in ((1.0, 0), (0.0, 8)):
        drawn.clear()
        draw_validation(images, tiny(anomalies={"texture_share": share}), 4)
        assert len(drawn) == own


def test_validation_is_half_anomalous_and_repeats(images):
    config = tiny()
    shown, masks = draw_validation(images[:3], config, 4)
    assert shown.shape == (6, 64, 64, 3)
    assert masks.any(axis=(1, 2)).tolist() == [False] * 3 + [True] * 3
    np.testing.assert_array_equal(shown[:3], images[:3])
    np.testing.assert_array_equal(draw_validation(images[:3], config, 4)[0], shown)
