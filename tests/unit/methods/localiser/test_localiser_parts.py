"""The localiser's presets, samples, loss and scores, against the formulas of its specification."""

import classifier_inputs
import numpy as np
import pytest
import torch
from classifier_inputs import SIDE
from localiser_inputs import config
from pydantic import ValidationError
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import nn

from exdd_ray.data.catalog import catalog_rows, select_rows
from exdd_ray.methods.localiser.config import LocaliserConfig
from exdd_ray.methods.localiser.detector import _learner
from exdd_ray.methods.localiser.judge import judge_held_out, judge_on_test
from exdd_ray.methods.localiser.network import batch_loss, image_scores, make_network, probabilities
from exdd_ray.methods.localiser.samples import Draws, Sample, read_pairs
from exdd_ray.metrics.evaluate import pixel_metrics
from exdd_ray.training.learner import ShuffledBatches

surfaces = classifier_inputs.surfaces


@pytest.fixture(scope="module")
def pairs(surfaces):
    return read_pairs(catalog_rows(select_rows(surfaces, split="train")), SIDE)


def draws(pairs, **given) -> Draws:
    chosen = config(**given)
    return Draws(pairs, chosen, ShuffledBatches(chosen.draws, chosen.training.batch, 0), 0)


def test_presets_are_the_published_recipe():
    paper, released, best = (LocaliserConfig(preset=preset) for preset in ("paper", "released", "best"))
    for one in (paper, released, best):
        assert (one.size, one.training.batch, one.epochs, one.draws) == (256, 16, 200, 500)
        assert (one.learning_rate, one.normal_share, one.pool) == (1e-4, 0.5, 21)
        assert (one.network.base, one.network.multipliers) == (64, (1, 2, 4, 8, 8, 8))
        assert LocaliserConfig.model_validate(one.model_dump(mode="json")) == one
    assert (paper.checkpoint, released.checkpoint, best.checkpoint) == ("last", "test", "validation")
    assert (paper.defects, released.defects, best.defects) == ("synthetic", "synthetic", "all")
    assert released.validate_epochs == 1
    assert (released.geometry.working_size, best.geometry.working_size) == ((256, 256), None)
    small = LocaliserConfig(scale="small", training={"checkpoint_every": 7})
    assert (small.size, small.training.batch) == (64, 16)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"size": 90}, "size 90 cannot be halved 2 times"),
        ({"pool": 4}, "pool 4: an odd number of pixels"),
        ({"pool": 49}, "at most the size 48"),
        ({"draws": 7}, "draws 7 of an epoch are fewer than a batch of 8"),
        ({"checkpoint": "test"}, "checkpoint=test is a leak, kept for preset=released"),
        ({"training": {"validate_every": 7}}, "set validate_epochs"),
    ],
)
def test_settings_that_do_not_fit_are_refused(wrong, why):
    with pytest.raises(ValidationError, match=why):
        config(**wrong)


def test_the_published_network_has_its_shape():
    with torch.device("meta"):  # shapes without arithmetic
        network = make_network(LocaliserConfig(), 0)
        assert network(torch.rand(2, 3, 256, 256)).shape == (2, 2, 256, 256)
    assert [block[0].out_channels for block in network.down] == [64, 128, 256, 512, 512, 512]
    assert [block[0].out_channels for block in network.up] == [512, 256, 128, 64, 64]


def test_first_weights_are_those_of_the_released_code():
    network = make_network(config(network={"base": 32, "multipliers": (1, 2)}), 0)
    kernels = [layer.weight.detach().ravel() for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    scales = [layer.weight.detach() for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert float(torch.cat(kernels).std()) == pytest.approx(0.02, rel=0.02)
    assert (float(torch.cat(scales).mean()), float(torch.cat(scales).std())) == pytest.approx((1, 0.02), abs=0.01)
    again, other = (make_network(config(network={"base": 32, "multipliers": (1, 2)}), seed) for seed in (0, 1))
    assert torch.equal(again.out.weight, network.out.weight)
    assert not torch.equal(other.out.weight, network.out.weight)


def test_the_loss_is_the_focal_loss_of_the_softmax(pairs):
    network = make_network(config(), 0).eval()
    samples = [Sample(pairs.pixels[at], pairs.masks[at]) for at in (0, 5, 20, 27)]
    images = torch.from_numpy(pairs.pixels[[0, 5, 20, 27]].transpose(0, 3, 1, 2) / np.float32(255))
    with torch.no_grad():
        logits = network(images).double().numpy()
        loss = float(batch_loss(network, samples))
        parts = [float(batch_loss(network, samples[at : at + 2])) for at in (0, 2)]
        found = probabilities(network, pairs.pixels[[0, 5]])
    p = np.exp(logits[:, 1]) / np.exp(logits).sum(axis=1)
    right = np.where(pairs.masks[[0, 5, 20, 27]], p, 1 - p)
    assert loss == pytest.approx((-((1 - right) ** 2) * np.log(right)).mean(), rel=1e-5)
    assert np.mean(parts) == pytest.approx(loss, rel=1e-6)
    np.testing.assert_allclose(found[:, 0].numpy(), p[:2], rtol=1e-4)


def test_rates_drop_to_a_fifth_after_four_fifths_and_nine_tenths(pairs):
    chosen = config(epochs=10)
    learner = _learner(chosen, make_network(chosen, 0), pairs, ShuffledBatches(16, 8, 0), 0)
    rates = []
    for _ in range(20):
        rates.append(learner.optimizers[0].param_groups[0]["lr"])
        learner.optimizers[0].step()
        learner.schedulers[0].step()
    assert rates == pytest.approx([5e-3] * 16 + [1e-3] * 2 + [2e-4] * 2)


def test_samples_are_half_normal_and_kinds_are_equally_likely(pairs):
    kinds = ["hole"] * 2 + ["scratch"] * 10
    named = iter(kinds)
    rows = tuple(replace_kind(row, next(named)) if row.label else row for row in pairs.rows)
    drawn = draws(type(pairs)(rows, pairs.pixels, pairs.masks), draws=64)
    kind_of = {pairs.pixels[at].tobytes(): rows[at].defect for at in range(len(rows))}
    samples = [sample for step in range(40) for sample in drawn(step)]
    names = [kind_of[sample.image.tobytes()] for sample in samples]
    shares = {name: names.count(name) / len(names) for name in ("good", "hole", "scratch")}
    assert shares == pytest.approx({"good": 0.5, "hole": 0.25, "scratch": 0.25}, abs=0.06)
    assert all(sample.mask.any() == (name != "good") for sample, name in zip(samples, names, strict=True))
    assert len({sample.image.tobytes() for sample in samples}) == len(rows)  # numbers of an epoch reach all


def replace_kind(row, kind):
    from dataclasses import replace

    return replace(row, defect=kind)


def test_samples_follow_from_seed_step_and_place(pairs):
    one, again, other = (
        [sample.image.tobytes() for sample in drawn(step)]
        for drawn, step in ((draws(pairs), 5), (draws(pairs), 5), (draws(pairs), 6))
    )
    assert one == again
    assert one != other


def test_masks_are_resized_by_their_share_of_a_pixel(surfaces, pairs):
    from PIL import Image

    rows = catalog_rows(select_rows(surfaces, split="train", label=1))[:1]
    half = read_pairs(rows, SIDE // 2)
    grey = Image.open(rows[0].mask).resize((SIDE // 2, SIDE // 2), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(half.masks[0], np.asarray(grey) / 255 > 0.5)
    assert half.pixels.shape == (1, SIDE // 2, SIDE // 2, 3)


def test_the_image_score_is_the_largest_mean_of_a_window():
    maps = np.random.default_rng(0).random((3, 12, 12), dtype=np.float32)
    padded = np.pad(maps, ((0, 0), (2, 2), (2, 2)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5), axis=(1, 2))
    np.testing.assert_allclose(image_scores(maps, 5), windows.mean(axis=(3, 4)).max(axis=(1, 2)), rtol=1e-6)


def test_judgements_are_sums_of_the_metrics():
    rng, labels = np.random.default_rng(0), np.arange(20) % 2
    masks = (rng.random((20, 8, 8)) < 0.2) & (labels[:, None, None] == 1)
    maps = (0.3 * masks + rng.random((20, 8, 8))).astype(np.float32)
    scores = maps.max(axis=(1, 2))
    image, pixel = roc_auc_score(labels, scores), roc_auc_score(masks.ravel(), maps.ravel())
    ap = average_precision_score(masks.ravel(), maps.ravel())
    assert judge_held_out(maps, scores, labels, masks).value == pytest.approx((image + ap) / 2)
    pro = pixel_metrics(zip(maps, masks, strict=True)).values["aupro"]
    assert judge_on_test(maps, scores, labels, masks).value == pytest.approx(image + pixel + ap + pro, abs=2e-3)
