"""Masks of pairs, against masks drawn by hand; and which pairs are of no use."""

import numpy as np
import pytest

from exdd_ray.synthesizers.dualanodiff.config import PairMaskConfig
from exdd_ray.synthesizers.dualanodiff.masks import ELSEWHERE, EMPTY, FULL, changed_region, fault_of, part_mask

PLAIN = PairMaskConfig(blur=0, share=0, level=40, opening=0, closing=0, changed_level=20)


def part_with(*boxes: tuple[slice, slice], colour=(30, 30, 30), backdrop=(127, 128, 128)) -> np.ndarray:
    part = np.empty((24, 24, 3), dtype=np.uint8)
    part[:] = backdrop
    for box in boxes:
        part[box] = colour
    return part


def test_the_mask_is_where_the_part_differs_from_its_backdrop():
    box = (slice(4, 11), slice(6, 20))
    expected = np.zeros((24, 24), dtype=bool)
    expected[box] = True
    np.testing.assert_array_equal(part_mask(part_with(box), (0, 0, 0), PLAIN), expected)
    green = part_with(box, colour=(127, 128, 128), backdrop=(0, 255, 0))  # a part as grey as the published backdrop
    np.testing.assert_array_equal(part_mask(green, (-1, 1, -1), PLAIN), expected)


@pytest.mark.parametrize(("difference", "inside"), [(39, False), (42, True)])
def test_the_level_is_of_the_channel_that_differs_most(difference, inside):
    part = part_with((slice(2, 4), slice(2, 4)), colour=(127, 128 - difference, 128))
    assert part_mask(part, (0, 0, 0), PLAIN)[2, 2] == inside


def test_holes_are_filled_specks_opened_and_gaps_closed():
    ring = part_with((slice(4, 15), slice(4, 15)))
    ring[7:12, 7:12] = 128
    assert part_mask(ring, (0, 0, 0), PLAIN).sum() == 11 * 11
    speck = part_with((slice(4, 9), slice(4, 9)), (slice(20, 21), slice(20, 21)))
    opened = part_mask(speck, (0, 0, 0), PLAIN.model_copy(update={"opening": 1}))
    assert opened[6, 6]
    assert not opened[20, 20]
    gap = part_with((slice(4, 10), slice(0, 6)), (slice(4, 10), slice(7, 24)))
    closed = part_mask(gap, (0, 0, 0), PLAIN.model_copy(update={"closing": 1}))
    assert closed[5:9].all()  # also at the border of the image
    assert not closed[:4].any()


@pytest.mark.parametrize("contrast", [14, 70])
def test_a_share_of_the_largest_difference_tells_faint_and_strong_defects_alike(contrast):
    half = PLAIN.model_copy(update={"share": 0.5, "level": 8, "changed_level": 8})
    core, rim = (slice(6, 12), slice(6, 12)), (slice(4, 14), slice(4, 14))
    image = np.full((24, 24, 3), 128, dtype=np.uint8)
    image[rim] -= round(0.3 * contrast)
    image[core] = 128 - contrast
    expected = np.zeros((24, 24), dtype=bool)
    expected[core] = True
    np.testing.assert_array_equal(part_mask(image, (0, 0, 0), half), expected)
    np.testing.assert_array_equal(changed_region(np.full_like(image, 128), image, half), expected)
    faint = np.where(image == 128, 128, 123).astype(np.uint8)
    assert not part_mask(faint, (0, 0, 0), half).any()  # however large a share of itself
    assert not changed_region(np.full_like(image, 128), faint, half).any()


def test_the_blur_takes_texture_for_nothing_and_moves_no_edge():
    blurred = PLAIN.model_copy(update={"blur": 1.5, "share": 0.5, "level": 8, "changed_level": 8})
    rows, columns = np.indices((24, 24))
    texture = np.where((rows + columns) % 2, 158, 98).astype(np.uint8)
    image = np.repeat(texture[..., None], 3, axis=2)
    background = np.full_like(image, 128)
    assert not changed_region(background, image, blurred).any()
    image[:, :10] -= 60
    changed = changed_region(background, image, blurred)
    assert changed[:, :9].all()
    assert not changed[:, 11:].any()


def test_pairs_whose_mask_is_empty_full_or_elsewhere_are_of_no_use():
    background = np.full((24, 24, 3), 100, dtype=np.uint8)
    image, mask = background.copy(), np.zeros((24, 24), dtype=bool)
    image[4:16, 4:16] = 200
    changed = changed_region(background, image, PLAIN)
    assert changed[5:15, 5:15].all()
    assert not changed[:2].any()
    mask[4:16, 4:16] = True
    assert fault_of(mask, changed, PLAIN) == ""
    assert fault_of(mask, None, PLAIN) == ""
    assert fault_of(mask & False, changed, PLAIN) == EMPTY
    assert fault_of(mask | True, changed, PLAIN) == FULL
    assert fault_of(np.roll(mask, 9, axis=0), changed, PLAIN) == ELSEWHERE
    assert fault_of(mask, changed & False, PLAIN) == ""  # that nothing changed is the filters' to say
