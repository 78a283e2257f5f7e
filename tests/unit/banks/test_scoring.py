import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter

from exdd_ray.banks.scoring.config import ScoringConfig
from exdd_ray.banks.scoring.distances import BankDistances, smooth
from exdd_ray.banks.scoring.fuse import Evidence, calibrate, critical_patches, score
from exdd_ray.banks.scoring.maps import map_maker
from exdd_ray.banks.scoring.reweight import neighbourhood_share, used_neighbours
from exdd_ray.errors import DataError

GRID = (5, 7)


@pytest.fixture
def evidence():
    rng = np.random.default_rng(0)

    def bank():
        return BankDistances(rng.uniform(1, 9, (6, 35)).astype(np.float32), rng.integers(0, 50, (6, 35)))

    return Evidence(bank(), bank(), rng.uniform(2, 9, (6, 9)), rng.uniform(2, 9, (6, 9)), GRID, dim=16)


def test_share_is_the_fraction_of_equation_7():
    distance, neighbours = np.array([2.0]), np.array([[2.0, 3.0, 5.0]])
    plain = np.exp(2 / 4) / sum(np.exp(d / 4) for d in (2, 3, 5))
    assert neighbourhood_share(distance, neighbours, 4.0)[0] == pytest.approx(plain)


def test_released_drops_the_own_term():
    neighbours = np.array([[1.0, 2.0, 3.0, 4.0]])
    assert used_neighbours(neighbours, 3, own_term=False).tolist() == [[2.0, 3.0]]
    assert used_neighbours(neighbours, 3, own_term=True).tolist() == [[1.0, 2.0, 3.0]]


def test_a_bank_of_one_vector_cannot_reweight():
    with pytest.raises(DataError, match="at least two vectors"):
        neighbourhood_share(np.array([1.0]), used_neighbours(np.array([[1.0]]), 9, own_term=True), 1.0)


def test_huge_distances_do_not_overflow():
    share = neighbourhood_share(np.array([1e5]), np.array([[1e5, 1e5 + 1]]), 4.0)[0]
    assert share == pytest.approx(1 / (1 + np.exp(0.25)))


@pytest.mark.parametrize("pairing", ["independent", "colocated", "min"])
@pytest.mark.parametrize(("neighbours", "scale", "c"), [(0, "none", 1), (4, "sqrt_dim", 4), (4, "none", 1)])
def test_ratio_image_by_image(evidence, pairing, neighbours, scale, c):
    config = ScoringConfig(fusion="ratio", pairing=pairing, neighbours=neighbours, scale=scale, epsilon=1e-6)
    found = score(config, evidence)
    for i in range(6):
        d_n, d_p = evidence.negative.nearest[i].astype(float), evidence.positive.nearest[i].astype(float)
        at_n = int(np.argmax(d_n))
        at_p = {"independent": int(np.argmax(d_p)), "colocated": at_n, "min": int(np.argmin(d_p))}[pairing]
        s_n, s_p = d_n[at_n], d_p[at_p]
        if neighbours:
            s_n *= 1 - np.exp(s_n / c) / np.exp(evidence.negative_neighbours[i, :4] / c).sum()
            s_p *= np.exp(s_p / c) / np.exp(evidence.positive_neighbours[i, :4] / c).sum()
        assert found.images[i] == pytest.approx(s_n / (s_p + 1e-6), rel=1e-5)
        np.testing.assert_allclose(found.maps[i], d_n / (d_p + 1e-6), rtol=1e-5)


def test_single_squared_is_the_square(evidence):
    plain = score(ScoringConfig(fusion="single", neighbours=0), evidence)
    squared = score(ScoringConfig(fusion="single", neighbours=0, squared=True), evidence)
    np.testing.assert_allclose(squared.images, plain.images**2, rtol=1e-6)
    np.testing.assert_allclose(plain.images, evidence.negative.nearest.max(axis=1))


@pytest.mark.parametrize(("top", "count"), [(0.01, 1), (0.1, 3), (1.0, 35)])
def test_top_is_the_mean_of_the_farthest_patches(evidence, top, count):
    plain = score(ScoringConfig(neighbours=0, squared=True), evidence)
    found = score(ScoringConfig(neighbours=0, squared=True, top=top), evidence)
    squares = np.sort(evidence.negative.nearest.astype(np.float64) ** 2, axis=1)
    np.testing.assert_allclose(found.images, squares[:, -count:].mean(axis=1), rtol=1e-6)
    np.testing.assert_array_equal(found.maps, plain.maps)


@pytest.mark.parametrize("changes", [{"neighbours": 3}, {"neighbours": 0, "fusion": "bonus"}])
def test_top_is_of_a_single_bank_without_weights(changes):
    with pytest.raises(ValueError, match="set fusion=single, neighbours=0"):
        ScoringConfig(top=0.01, **changes)


def test_bonus_is_the_single_bank_far_from_every_defect(evidence):
    config = ScoringConfig(fusion="bonus", neighbours=0)
    calibration = calibrate(config, evidence.negative.nearest, evidence.positive.nearest, GRID)
    far = BankDistances(evidence.positive.nearest + 1e3, evidence.positive.indices)
    found = score(config, Evidence(evidence.negative, far, None, None, GRID, 16, calibration))
    location, scale = calibration.negative
    np.testing.assert_allclose(found.maps, (evidence.negative.nearest - location) / scale, rtol=1e-5, atol=1e-6)
    near = BankDistances(evidence.positive.nearest * 0, evidence.positive.indices)
    raised = score(config, Evidence(evidence.negative, near, None, None, GRID, 16, calibration))
    assert np.all(raised.maps > found.maps)


def test_missing_evidence_is_an_error(evidence):
    bare = Evidence(evidence.negative, None, None, None, GRID, 16)
    for config, message in (
        (ScoringConfig(fusion="ratio"), "positive bank"),
        (ScoringConfig(fusion="single", neighbours=3), "Eq. 7"),
    ):
        with pytest.raises(DataError, match=message):
            score(config, bare)
    with pytest.raises(DataError, match="calibration"):
        score(ScoringConfig(fusion="bonus"), evidence)
    with pytest.raises(DataError, match="one score"):
        calibrate(ScoringConfig(), np.ones((4, 35)), None, GRID)


def test_smoothing_repeats_the_edges():
    values = np.arange(35.0).reshape(1, 35)
    padded = np.pad(values.reshape(GRID), 1, mode="edge")
    plain = [[padded[i : i + 3, j : j + 3].mean() for j in range(7)] for i in range(5)]
    np.testing.assert_allclose(smooth(values, GRID, 3).reshape(GRID), plain)


def test_critical_patches_take_the_first_of_equals():
    config = ScoringConfig(pairing="min")
    at_n, at_p = critical_patches(config, (1, 3), np.array([[1.0, 5.0, 5.0]]), np.array([[4.0, 2.0, 2.0]]))
    assert (at_n[0], at_p[0]) == (1, 1)


def test_map_is_bilinear_then_gaussian():
    patch_map = np.random.default_rng(0).random(35).astype(np.float32)
    up = F.interpolate(torch.from_numpy(patch_map).reshape(1, 1, *GRID), size=(40, 63), mode="bilinear")[0, 0].numpy()
    maker = map_maker(ScoringConfig(blur_radius=4), GRID, (40, 63))
    np.testing.assert_allclose(maker(patch_map), gaussian_filter(up, 4), atol=1e-5)
    np.testing.assert_allclose(maker.many(np.stack([patch_map * 0, patch_map]))[1], maker(patch_map), rtol=1e-6)
    native = F.interpolate(torch.from_numpy(gaussian_filter(up, 4))[None, None], size=(80, 50), mode="bilinear")[0, 0]
    np.testing.assert_allclose(maker(patch_map, (80, 50)), native.numpy(), atol=1e-5)


def test_pillow8_has_at_most_256_levels():
    patch_map = np.random.default_rng(0).random(35).astype(np.float32)
    values = map_maker(ScoringConfig(blur="pillow8", blur_radius=2), GRID, (90, 120))(patch_map)
    assert len(np.unique(values)) <= 256
    smooth_map = map_maker(ScoringConfig(blur_radius=2), GRID, (90, 120))(patch_map)
    assert np.abs(values - smooth_map).max() < 0.05 * patch_map.max()
