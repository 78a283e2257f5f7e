"""How boldly evidence raises scores, by how many defects were seen."""

import pytest

from exdd_ray.banks.scoring.config import Rise
from exdd_ray.methods.patch_bank.config import EvidenceConfig

CONFIG = EvidenceConfig(image=Rise(share=0.01, slope=2, ceiling=4), trusted_image=Rise(share=0.16, slope=8, ceiling=9))


def test_what_is_between_few_and_many_defects_is_their_geometric_mean():
    assert CONFIG.image_rise(0) == CONFIG.image
    assert CONFIG.image_rise(CONFIG.many) == CONFIG.image_rise(10 * CONFIG.many) == CONFIG.trusted_image
    half = CONFIG.image_rise(CONFIG.many // 2)
    assert (half.share, half.slope, half.ceiling) == pytest.approx((0.04, 4, 6))
    assert CONFIG.map_tolerance(CONFIG.many // 2) == pytest.approx((0.04 * 0.1) ** 0.5)


def test_few_defects_are_a_weak_test_of_high_rises():
    assert max(rise.ceiling for rise in CONFIG.map_rises(1)) == 5
    assert max(rise.ceiling for rise in CONFIG.map_rises(CONFIG.many)) == 20
    assert CONFIG.map_rises(CONFIG.many) == CONFIG.maps
