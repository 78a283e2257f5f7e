"""SuperSimpleNet's heads, losses and samples against what the papers say, and the detector with and without defects."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from method_contract import fit, made_images, small, training_images

from exdd_ray.data.catalog import build_catalog, catalog_rows, select_rows
from exdd_ray.errors import DataError
from exdd_ray.features.aggregate import aggregate
from exdd_ray.features.config import FeaturesConfig
from exdd_ray.features.embedder import Embedder
from exdd_ray.features.prepare import covered_shares
from exdd_ray.methods.supersimplenet.config import AnomaliesConfig, SuperSimpleNetConfig
from exdd_ray.methods.supersimplenet.detector import fit_supersimplenet
from exdd_ray.methods.supersimplenet.losses import heads_loss, truncated_l1
from exdd_ray.methods.supersimplenet.network import Found, SuperSimpleNet
from exdd_ray.methods.supersimplenet.samples import Drawn, balanced, batch_of, learnt_images, noise_mask
from exdd_ray.metrics.curves import detection
from exdd_ray.store.artifact import Store

pytestmark = pytest.mark.usefixtures("one_thread")
FEATURES = FeaturesConfig(resize=(64, 64))


@pytest.fixture(scope="module")
def universe(tmp_path_factory):
    return made_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def images(universe, store):
    train = select_rows(universe, split="train")
    return learnt_images(Embedder(store, FEATURES, universe).samples(train), FEATURES)


def test_the_map_is_pushed_below_minus_the_margin_and_above_it_on_defects():
    maps = torch.tensor([[[[-2.0, -0.2], [0.1, 3.0]]]])
    masks = torch.tensor([[[[0.0, 0.0], [1.0, 1.0]]]])
    assert float(truncated_l1(maps, masks, 0.5)) == pytest.approx((0 + 0.3) / 2 + (0.4 + 0) / 2)
    assert float(truncated_l1(maps, torch.zeros_like(masks), 0.5)) == pytest.approx((0 + 0.3 + 0.6 + 3.5) / 4)


def test_the_loss_is_focal_with_gamma_4_of_map_and_score_and_truncated_l1():
    maps, masks = torch.tensor([[[[-1.0, 2.0]]], [[[0.5, -0.5]]]]), torch.tensor([[[[0.0, 1.0]]], [[[0.0, 0.0]]]])
    scores, labels = np.array([1.5, -0.3]), np.array([1.0, 0.0])

    def focal(logits, truth):
        p = 1 / (1 + np.exp(-logits))
        p = np.where(truth == 1, p, 1 - p)
        return np.mean(-((1 - p) ** 4) * np.log(p))

    expected = focal(maps.numpy(), masks.numpy()) + focal(scores, labels) + float(truncated_l1(maps, masks, 0.5))
    assert float(heads_loss(Found(maps, torch.tensor(scores)), masks, 0.5)) == pytest.approx(expected, rel=1e-5)


def test_the_loss_of_wrong_bfloat16_logits_is_that_of_float32():
    maps, scores = torch.tensor([[[[9.0, -9.0]]]]), torch.tensor([-9.0])
    masks = torch.tensor([[[[0.0, 1.0]]]])
    expected = heads_loss(Found(maps, scores), masks, 0.5)
    assert torch.equal(heads_loss(Found(maps.bfloat16(), scores.bfloat16()), masks, 0.5), expected)


@pytest.mark.parametrize("apart", [True, False])
def test_the_scores_gradient_reaches_the_map_unless_it_is_kept_apart(apart):
    network = SuperSimpleNet(6, SuperSimpleNetConfig(hidden=4, score_channels=3))
    features, noise = torch.randn(4, 6, 8, 8), torch.randn(4, 6, 8, 8)
    network(features, noise, apart=apart).scores.sum().backward()
    assert (network.segment[0].weight.grad is None) == apart
    assert network.adaptor.weight.grad is None or not apart  # of 2025 the score looks at the backbone's features


def test_the_score_looks_at_adapted_features_in_the_way_of_2024():
    network = SuperSimpleNet(6, SuperSimpleNetConfig(hidden=4, score_channels=3, adapted_score=True))
    network(torch.randn(4, 6, 8, 8), apart=True).scores.sum().backward()
    assert network.adaptor.weight.grad is not None


def test_noises_make_several_images_of_each_one_after_the_other():
    network = SuperSimpleNet(6, SuperSimpleNetConfig(hidden=4, score_channels=3))
    features, noise = torch.randn(2, 6, 8, 8), torch.randn(4, 6, 8, 8)
    each, repeated = network(features, noise), network(features.repeat_interleave(2, dim=0), noise)
    torch.testing.assert_close(each.maps, repeated.maps)
    torch.testing.assert_close(each.scores, repeated.scores)


def test_noise_is_in_half_of_the_copies_never_on_a_defect_and_marked(images):
    grid, config = images.masks.shape[1:], AnomaliesConfig(spread=0.5)
    drawn = [Drawn(at, (False, False), (0, step, at)) for step in range(6) for at in range(12, 18)]
    features, noise, masks = batch_of(drawn, images, config)
    assert (len(features), len(noise)) == (36, 72)
    assert features.shape[1:] == noise.shape[1:] == (features.shape[1], *grid)
    defects = torch.from_numpy(np.repeat(images.masks[[one.at for one in drawn]], 2, axis=0))[:, None]
    noisy = (noise != 0).any(dim=1, keepdim=True)
    assert not (noisy & defects).any()
    assert torch.equal(masks > 0.5, noisy | defects)
    assert 0.3 < noisy.flatten(1).any(dim=1).float().mean() < 0.7
    assert noise[noisy.expand_as(noise)].std() == pytest.approx(0.5, rel=0.05)
    assert not torch.equal(noise[0::2], noise[1::2])
    first = images.features(12)
    np.testing.assert_array_equal(features[0].permute(1, 2, 0).numpy(), first.astype(np.float32))


def test_a_mirrored_defect_is_mirrored_with_its_mask(images):
    drawn = [Drawn(12, flips, (0, 0, 0)) for flips in ((False, False), (True, False), (False, True))]
    features, _, masks = batch_of(drawn, images, AnomaliesConfig(level=99.0))
    for place, axis in ((1, 1), (2, 2)):
        assert torch.equal(features[place], features[0].flip(axis))
        assert torch.equal(masks[2 * place], masks[0].flip(axis))
    assert not torch.equal(masks[0], masks[2])


def test_perlin_regions_are_neither_rare_nor_everywhere():
    masks = np.stack([noise_mask((28, 40), AnomaliesConfig(), np.random.default_rng(seed)) for seed in range(400)])
    there = masks.any(axis=(1, 2))
    assert 0.4 < there.mean() < 0.6
    assert 0.1 < masks[there].mean() < 0.5


def test_an_epoch_has_as_many_defects_as_normal_images():
    assert balanced(np.array([0, 0, 0, 0, 0, 1, 1])).tolist() == [0, 1, 2, 3, 4, 5, 6, 5, 6, 5]
    assert balanced(np.array([0, 0])).tolist() == [0, 1]


def test_a_patch_is_of_a_defect_where_half_of_it_is_and_a_thin_defect_has_its_best_patch(universe, store, tmp_path):
    from PIL import Image

    row = catalog_rows(select_rows(universe, split="train", label=1))[0]
    thin = np.zeros((64, 64), dtype=bool)
    thin[10:12, 20] = True
    Image.fromarray(thin.astype(np.uint8) * 255).save(tmp_path / "thin.png")
    catalog = build_catalog(
        [*catalog_rows(select_rows(universe, label=0)), replace(row, mask=str(tmp_path / "thin.png"))]
    )
    found = learnt_images(Embedder(store, FEATURES).samples(catalog), FEATURES)
    shares = covered_shares(thin, FEATURES, found.masks.shape[1:])
    assert 0 < shares.max() < 0.5
    np.testing.assert_array_equal(found.masks[found.labels == 1].any(axis=0), shares == shares.max())


def test_a_defect_with_an_empty_mask_is_left_out_and_one_without_is_named(universe, store, tmp_path):
    from PIL import Image

    rows = catalog_rows(select_rows(universe, split="train"))
    Image.fromarray(np.zeros((64, 64), dtype=np.uint8)).save(tmp_path / "empty.png")
    normal, defects = ([row for row in rows if row.label == label] for label in (0, 1))
    empty = build_catalog([*normal, *defects[:2], replace(defects[2], mask=str(tmp_path / "empty.png"))])
    config = small("supersimplenet")
    fitted = fit_supersimplenet(config, empty, Embedder(store, FEATURES), 0)
    assert fitted.remarks == ("1 training defects have empty masks and are left out",)
    without = fit_supersimplenet(config, build_catalog([*normal, *defects[:2]]), Embedder(store, FEATURES), 0)
    assert without.remarks == ()
    found, expected = (one.predict(build_catalog(rows)).scores for one in (fitted, without))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    with pytest.raises(DataError, match="learns defects by their masks, and this one has none"):
        learnt_images(
            Embedder(store, FEATURES).samples(build_catalog([*normal, replace(defects[0], mask=None)])), FEATURES
        )


def test_upscaled_vectors_are_means_on_twice_the_finest_grid():
    rng = torch.Generator().manual_seed(0)
    maps = [torch.randn(2, 3, 4, 6, generator=rng), torch.randn(2, 5, 2, 3, generator=rng)]
    found = aggregate(maps, "upscaled")
    assert (found.grid, found.vectors.shape) == ((8, 12), (2, 96, 8))
    enlarged = torch.cat(
        [torch.nn.functional.interpolate(one, size=(8, 12), mode="bilinear", align_corners=False) for one in maps],
        dim=1,
    )
    vectors = found.vectors.reshape(2, 8, 12, 8)
    torch.testing.assert_close(vectors[1, 3, 7], enlarged[1, :, 2:5, 6:9].mean(dim=(1, 2)))
    torch.testing.assert_close(vectors[0, 0, 0], enlarged[0, :, :2, :2].sum(dim=(1, 2)) / 9)


def test_maps_find_defects_after_noise_alone_and_scores_after_defects(universe, tmp_path):
    config = small("supersimplenet").model_copy(update={"epochs": 30})
    images, store = training_images(config, universe), Store(tmp_path)
    alone = replace(images, train=select_rows(images.train, label=0))
    of_noise, of_defects = (fit(config, one, store).predict(one.test) for one in (alone, images))
    labels = np.array([row.label for row in of_noise.rows])
    assert detection(labels, of_noise.patch_maps.max(axis=1)).auroc > 0.7
    assert detection(labels, of_defects.scores).auroc > 0.9


def test_fewer_images_than_a_batch_and_none_that_is_normal_are_said(universe, store):
    config = small("supersimplenet")
    train = select_rows(universe, split="train")
    with pytest.raises(DataError, match="3 training images are fewer than a batch of 4: lower the batch"):
        fit_supersimplenet(config, train.slice(0, 3), Embedder(store, config.features), 0)
    with pytest.raises(DataError, match="no normal image to train on"):
        fit_supersimplenet(config, select_rows(train, label=1), Embedder(store, config.features), 0)


def test_published_constants():
    paper = SuperSimpleNetConfig(preset="paper")
    assert (paper.features.backbone, paper.features.aggregator, paper.features.layers) == (
        "wide_resnet50_2",
        "upscaled",
        ("layer2", "layer3"),
    )
    assert (paper.anomalies.spread, paper.anomalies.level, paper.anomalies.clean_share) == (0.015, 0.2, 0.5)
    assert (paper.hidden, paper.score_channels, paper.margin, paper.epochs) == (1024, 128, 0.5, 300)
    assert (paper.adaptor_rate, paper.head_rate, paper.training.batch) == (1e-4, 2e-4, 32)
    assert not paper.standardised
