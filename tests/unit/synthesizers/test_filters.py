import numpy as np
import pytest

from exdd_ray.data.procedural.surfaces import make_surface
from exdd_ray.errors import DataError
from exdd_ray.synthesizers.config import FilterConfig
from exdd_ray.synthesizers.filters import CHANGED, UNCHANGED, duplicates, fingerprint, judge, measure_change


@pytest.fixture
def background():
    return make_surface("ceramic", (48, 60), np.random.default_rng(0)).clip(20, 220)


@pytest.fixture
def mask():
    painted = np.zeros((48, 60), dtype=bool)
    painted[10:22, 30:45] = True
    return painted


def test_a_defect_inside_the_mask_only_is_good(background, mask):
    result = background.copy()
    result[mask] += 30
    change = measure_change(background, result, mask)
    assert change == (30, 0)
    assert judge(change, FilterConfig()) == ""


def test_levels_are_means_over_pixels_and_channels(background, mask):
    result = background.copy()
    result[mask, 0] -= 6  # 2 of 255 over the three channels, and uint8 must not wrap around
    change = measure_change(background, result, mask)
    assert change == (2, 0)
    assert judge(change, FilterConfig(min_inside=2.0)) == ""
    assert judge(change, FilterConfig(min_inside=2.1)) == UNCHANGED


def test_a_change_outside_is_told(background, mask):
    result = background.copy()
    result[mask] += 30
    result[~mask] += 3
    change = measure_change(background, result, mask)
    assert change == (30, 3)
    assert judge(change, FilterConfig()) == CHANGED
    assert judge(change, FilterConfig(max_outside=3.0)) == ""


def test_a_mask_over_everything_has_no_outside(background):
    everywhere = np.ones((48, 60), dtype=bool)
    assert measure_change(background, background + 5, everywhere) == (5, 0)


def test_empty_masks_and_other_sizes_are_errors(background, mask):
    with pytest.raises(DataError, match="empty mask"):
        measure_change(background, background, np.zeros_like(mask))
    with pytest.raises(DataError, match="empty mask"):
        fingerprint(background, np.zeros_like(mask))
    with pytest.raises(DataError, match="differ in size"):
        measure_change(background, background[1:], mask)


def test_a_fingerprint_is_that_of_the_crop_wherever_it_lies(background, mask):
    moved = np.roll(mask, (8, -12), axis=(0, 1))
    copy = np.full_like(background, 90)
    copy[moved] = background[mask]
    print_of = fingerprint(background, mask)
    assert (print_of.shape, print_of.dtype) == ((16, 16), np.uint8)
    np.testing.assert_array_equal(print_of, fingerprint(copy, moved))
    halves = np.zeros((32, 32, 3), dtype=np.uint8)
    halves[:, 16:] = 200
    expected = np.repeat([[0] * 8 + [200] * 8], 16, axis=0)
    np.testing.assert_array_equal(fingerprint(halves, np.ones((32, 32), dtype=bool)), expected)


def test_duplicates_are_compared_with_earlier_kept_samples():
    flat = np.repeat([100, 101, 102, 150, 100], 256).reshape(5, 16, 16).astype(np.uint8)
    # 102 is near the dropped 101 only
    assert duplicates(flat, 1.5).tolist() == [False, True, False, False, True]
    assert duplicates(flat, 0.5).tolist() == [False, False, False, False, True]
    assert not duplicates(flat, 0.0).any()
    assert duplicates(flat[:0], 1.0).shape == (0,)


def test_far_levels_do_not_wrap_around():
    ends = np.stack([np.zeros((16, 16)), np.full((16, 16), 255)]).astype(np.uint8)
    assert not duplicates(ends, 200.0).any()


def test_fewer_samples_are_judged_as_a_prefix_of_more():
    rng = np.random.default_rng(0)
    prints = (100 + rng.integers(0, 6, (60, 1, 1)) * 2 + rng.integers(0, 2, (60, 16, 16))).astype(np.uint8)
    verdicts = duplicates(prints, 1.0)
    assert 0 < verdicts.sum() < 60
    for count in (1, 7, 30):
        np.testing.assert_array_equal(duplicates(prints[:count], 1.0), verdicts[:count])
