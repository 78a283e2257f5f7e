import numpy as np
import pytest
from PIL import Image
from synthesizer_inputs import make_images, quick

from exdd_ray.data.catalog import build_catalog, catalog_rows
from exdd_ray.data.images import read_image
from exdd_ray.data.masks import read_pair
from exdd_ray.errors import ConfigError, DataError
from exdd_ray.experiment.config import ExperimentConfig
from exdd_ray.experiment.load import validate
from exdd_ray.store.artifact import Store
from exdd_ray.synthesizers.config import ForegroundConfig
from exdd_ray.synthesizers.pasted.blend import feathered, poisson
from exdd_ray.synthesizers.pasted.config import PastedConfig
from exdd_ray.synthesizers.pasted.paste import MARGIN, CutOut, cut_out, paste_defect, turn
from exdd_ray.synthesizers.plan import plan_chunks
from exdd_ray.synthesizers.synthesize import synthesize

UPRIGHT = {"angle": 0, "scale": (1, 1)}


def blob(seed=0, size=(20, 30)):
    """A rough region away from the border, and a piece and a background of noise."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(size, dtype=bool)
    mask[2:-2, 2:-2] = rng.random((size[0] - 4, size[1] - 4)) < 0.7
    return mask, rng.uniform(0, 255, (*size, 3)), rng.uniform(0, 255, (*size, 3))


@pytest.fixture
def defect():
    """A dark bar with a bright end on a grey slope."""
    image = np.repeat(np.linspace(100, 160, 60).astype(np.uint8)[None, :, None], 40, axis=0).repeat(3, axis=2)
    mask = np.zeros(image.shape[:2], dtype=bool)
    mask[10:16, 12:40] = True
    image[mask] -= 60
    image[10:16, 36:40] += 100
    return CutOut(image, mask)


def test_poisson_keeps_the_gradients_inside_and_the_background_outside():
    """Each pixel inside: 4 v - its neighbours = the same of the piece, and neighbours outside are the background's."""
    mask, piece, background = blob()
    result = poisson(background, piece, mask)
    np.testing.assert_array_equal(result[~mask], background[~mask])
    for row, column in np.argwhere(mask):
        around = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
        found, wanted = (sum(one[row, column] - one[at] for at in around) for one in (result, piece))
        np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_poisson_does_not_see_the_level_of_the_piece_and_a_piece_of_the_background_changes_nothing():
    mask, piece, background = blob(1)
    np.testing.assert_allclose(poisson(background, piece + 40, mask), poisson(background, piece, mask), atol=1e-8)
    np.testing.assert_allclose(poisson(background, background - 30, mask), background, atol=1e-8)


def test_feathering_fades_over_so_many_pixels():
    mask = np.zeros((9, 20), dtype=bool)
    mask[:, 5:15] = True
    blended = feathered(np.zeros((9, 20, 1)), np.ones((9, 20, 1)), np.pad(mask[1:-1], ((1, 1), (0, 0))), 3)
    np.testing.assert_allclose(blended[4, :, 0], [0] * 5 + [0.25, 0.5, 0.75, 1, 1, 1, 1, 0.75, 0.5, 0.25] + [0] * 5)
    hard = feathered(np.zeros((9, 20, 1)), np.ones((9, 20, 1)), mask, 0)
    np.testing.assert_array_equal(hard[..., 0] == 1, mask)


def test_a_cut_out_has_a_margin_also_at_the_edge_of_the_image(defect):
    at_edge = CutOut(defect.image[10:], defect.mask[10:])
    for given in (defect, at_edge):
        piece = cut_out(given)
        assert piece.image.shape[:2] == piece.mask.shape == (6 + 2 * MARGIN, 28 + 2 * MARGIN)
        assert piece.mask[MARGIN:-MARGIN, MARGIN:-MARGIN].all()
        assert piece.mask.sum() == defect.mask.sum()
    np.testing.assert_array_equal(cut_out(at_edge).image[0], cut_out(at_edge).image[MARGIN])


@pytest.mark.parametrize("scale", [0.5, 1, 2])
def test_turning_and_scaling_do_to_the_mask_what_they_do_to_the_area(defect, scale):
    for angle in (-120, -37, 0, 90, 180):
        turned = turn(cut_out(defect, 6), angle, scale)
        assert turned.mask.sum() == pytest.approx(scale**2 * defect.mask.sum(), rel=0.25)
        assert not turned.mask[:MARGIN].any()
    height, width = turn(cut_out(defect), 90, 1).mask.shape
    assert (height - 2 * MARGIN, width - 2 * MARGIN) == (28, 6)


def test_a_defect_that_is_scaled_to_nothing_is_an_empty_mask():
    speck = CutOut(np.full((9, 9, 3), 9, dtype=np.uint8), np.eye(9, dtype=bool) & (np.arange(9) == 4))
    assert not turn(cut_out(speck), 0, 0.2).mask.any()


@pytest.mark.parametrize("blend", ["poisson", "feathered"])
def test_the_mask_is_the_defects_and_all_else_but_its_seam_is_the_background(defect, blend):
    background = np.full((70, 90, 3), 200, dtype=np.uint8)
    config = PastedConfig(blend=blend, **UPRIGHT)
    image, mask = paste_defect(background, defect, config, np.random.default_rng(2))
    assert mask.sum() == defect.mask.sum()
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    seam = np.zeros_like(mask)
    seam[rows[0] - 2 : rows[-1] + 3, columns[0] - 2 : columns[-1] + 3] = True
    np.testing.assert_array_equal(image[~seam], background[~seam])
    pasted = image[mask].reshape(6, 28, 3)
    if blend == "feathered":
        np.testing.assert_array_equal(pasted, defect.image[defect.mask].reshape(6, 28, 3))
    else:  # the slope that the bar lay on is gone
        np.testing.assert_allclose(pasted[:, :24], 140, atol=2)
        np.testing.assert_allclose(pasted[:, 24:], 240, atol=2)


def test_defects_lie_wholly_on_the_foreground(defect):
    background = np.zeros((80, 100, 3), dtype=np.uint8)
    background[20:60, 30:95] = 180
    config = PastedConfig(foreground=ForegroundConfig(kind="threshold", level=90))
    for seed in range(10):
        _, mask = paste_defect(background, defect, config, np.random.default_rng(seed))
        assert (background[mask] == 180).all()
    background[:] = 0
    background[40:44, 40:44] = 180
    with pytest.raises(DataError, match=r"found no place on the foreground \(0.20% of the image\) in 50 tries"):
        paste_defect(background, defect, config, np.random.default_rng(0))


def test_samples_name_the_mask_that_they_were_cut_out_by_and_follow_the_pixels_of_the_defect(tmp_path):
    normal, defects = make_images(tmp_path / "images")
    config = quick("pasted", count=6)
    made = synthesize(config, normal, defects, 0, Store(tmp_path / "s"))
    assert {sample.mask_source for sample in made.samples} == set(defects["mask"].to_pylist())
    image = defects["image"][0].as_py()
    key = plan_chunks(config, normal, defects, 0)[0].recipe.key
    Image.fromarray(read_image(image) // 2).save(image)
    assert plan_chunks(config, normal, defects, 0)[0].recipe.key != key


def test_an_empty_mask_is_no_defect(tmp_path):
    normal, defects = make_images(tmp_path / "images")
    (row, _) = catalog_rows(defects)
    Image.fromarray(np.zeros(read_pair(row)[1].shape, dtype=np.uint8)).save(row.mask)
    with pytest.raises(DataError, match="defect 0 mask.png: the mask is empty"):
        synthesize(quick("pasted", count=3), normal, build_catalog([row]), 0, Store(tmp_path / "s"))


def test_factors_of_size_ascend(tmp_path):
    for scale in ([2, 1], [0, 1], [0.001, 1], [40, 50]):
        with pytest.raises(ConfigError, match=r"synthesizer: scale .*: factors ascend, from 0\.1 to 10"):
            validate(ExperimentConfig, {"synthesizer": {"kind": "pasted", "scale": scale}}, tmp_path)


@pytest.mark.parametrize("blend", ["poisson", "feathered"])
@pytest.mark.parametrize("scale", [(0.2, 0.3), (0.5, 0.5), (0.7, 1.4), (1, 1), (2, 3)])
@pytest.mark.parametrize("shape", [(3, 80), (60, 4), (20, 20)])
def test_a_piece_of_an_even_plate_is_not_seen_on_it(blend, scale, shape):
    """Nothing from beside the image comes in, however long and thin a defect is and however it is turned."""
    plate, mask = np.full((300, 300, 3), 230, dtype=np.uint8), np.zeros((300, 300), dtype=bool)
    mask[100 : 100 + shape[0], 90 : 90 + shape[1]] = True
    for seed in range(20):
        config = PastedConfig(blend=blend, scale=scale)
        image, _ = paste_defect(plate, CutOut(plate, mask), config, np.random.default_rng(seed))
        np.testing.assert_array_equal(image, plate)
