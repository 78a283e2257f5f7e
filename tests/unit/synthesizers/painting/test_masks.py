import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import label

from exdd_ray.data.catalog import CatalogRow
from exdd_ray.errors import DataError, ImageError
from exdd_ray.synthesizers.painting.config import MASK_SHAPES, MaskConfig
from exdd_ray.synthesizers.painting.masks import draw_mask, fit_mask, library_files, load_mask, pick_mask

SIZES = [(64, 64), (224, 632), (33, 50)]
BOX = (slice(10, 50), slice(20, 40))


def rng_of(seed):
    return np.random.default_rng(seed)


@pytest.fixture
def box():
    ground = np.zeros((64, 64), dtype=bool)
    ground[BOX] = True
    return ground


def save(path, mask):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(mask, dtype=np.uint8) * 255).save(path)
    return str(path)


def positive(tmp_path, name, mask, with_mask=True, region=None):
    image = save(tmp_path / f"{name}.png", np.zeros_like(mask))
    file = save(tmp_path / f"{name}_mask.png", mask) if with_mask else None
    return CatalogRow(
        id=name,
        dataset="d",
        category="c",
        split="train",
        label=1,
        defect="x",
        image=image,
        mask=file,
        region=region,
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shape", MASK_SHAPES)
def test_drawn_masks_are_never_empty_nor_half_of_the_image(shape, size):
    masks = [draw_mask(shape, size, rng_of(seed)) for seed in range(200)]
    shares = np.array([mask.mean() for mask in masks])
    assert {(mask.shape, mask.dtype) for mask in masks} == {(size, np.dtype(bool))}
    assert shares.min() * size[0] * size[1] >= 4
    assert shares.max() < 0.5
    assert len({mask.tobytes() for mask in masks}) > 190
    np.testing.assert_array_equal(masks[7], draw_mask(shape, size, rng_of(7)))


def test_shapes_are_what_they_are_called():
    size = (128, 128)
    drawn = {shape: [draw_mask(shape, size, rng_of(seed)) for seed in range(60)] for shape in MASK_SHAPES}

    def border(mask):
        return mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any()

    def extent(mask):
        rows, columns = np.nonzero(mask)
        return np.hypot(np.ptp(rows) + 1, np.ptp(columns) + 1)

    assert all(border(mask) for mask in drawn["edge"])
    assert not any(border(mask) for mask in drawn["blob"])
    width = {shape: np.mean([mask.sum() / extent(mask) for mask in masks]) for shape, masks in drawn.items()}
    assert width["line"] < 4 < width["blob"]
    pieces = {shape: np.median([label(mask, np.ones((3, 3)))[1] for mask in masks]) for shape, masks in drawn.items()}
    assert pieces["line"] == pieces["blob"] == pieces["edge"] == 1
    assert pieces["scatter"] >= 3


def test_shapes_grow_with_the_image():
    for shape in MASK_SHAPES:
        small, large = (
            np.mean([draw_mask(shape, (side, side), rng_of(seed)).sum() for seed in range(40)]) for side in (128, 256)
        )
        assert 3 < large / small < 5


def test_an_image_too_small_is_an_error():
    with pytest.raises(DataError, match="no mask of shape blob fits 2 x 3 pixels"):
        draw_mask("blob", (3, 2), rng_of(0))


def test_a_fitted_mask_keeps_its_form_on_the_foreground(box):
    mask = np.zeros((64, 64), dtype=bool)
    mask[55:62, 1:6] = True
    corners = set()
    for seed in range(60):
        fitted = fit_mask(mask, box, rng_of(seed))
        assert not fitted[~box].any()
        assert 2 * fitted.sum() >= mask.sum()
        rows, columns = np.nonzero(fitted)
        assert fitted.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        corners.add((rows[0], columns[0]))
    assert len(corners) > 40


def test_a_mask_larger_than_the_foreground_is_cut_to_it():
    ground = np.zeros((64, 64), dtype=bool)
    ground[30:34, 30:34] = True
    large = np.zeros((64, 64), dtype=bool)
    large[5:40, 5:40] = True
    np.testing.assert_array_equal(fit_mask(large, ground, rng_of(0)), ground)


def test_a_mask_that_cannot_meet_the_foreground_is_an_error():
    point, ring = np.zeros((40, 40), dtype=bool), np.zeros((40, 40), dtype=bool)
    point[20, 20] = True
    ring[5:36, 5:36] = True
    ring[8:33, 8:33] = False  # its centre is not painted
    with pytest.raises(DataError, match="the mask met no foreground"):
        fit_mask(ring, point, rng_of(0))
    with pytest.raises(DataError, match="empty"):
        fit_mask(ring, np.zeros((40, 40), dtype=bool), rng_of(0))


@pytest.mark.parametrize("shape", MASK_SHAPES)
def test_procedural_masks_lie_on_the_foreground(shape, box):
    for seed in range(40):
        mask = pick_mask(MaskConfig(shapes=(shape,)), (64, 64), box, (), rng_of(seed)).mask
        assert mask.any()
        assert not mask[~box].any()
        if shape == "edge":
            inner = mask[11:49, 21:39].sum()
            assert inner < mask.sum(), "a bite touches the foreground's outline"


def test_all_shapes_asked_for_are_drawn():
    ground = np.ones((64, 64), dtype=bool)
    config = MaskConfig(shapes=("line", "blob"))
    areas = [pick_mask(config, (64, 64), ground, (), rng_of(seed)).mask.sum() for seed in range(40)]
    assert min(areas) < 40
    assert max(areas) > 130


def test_library_masks_are_resized_and_fitted(tmp_path, box):
    mask = np.zeros((32, 128), dtype=bool)
    mask[10:14, 40:56] = True
    file = save(tmp_path / "deep" / "a.png", mask)
    (tmp_path / "notes.txt").write_text("no image")
    assert library_files(tmp_path) == (file,)
    expected = np.zeros((64, 64), dtype=bool)
    expected[20:28, 20:28] = True
    np.testing.assert_array_equal(load_mask(file, (64, 64)), expected)
    config = MaskConfig(source="library", folder=tmp_path)
    for seed in range(20):
        picked = pick_mask(config, (64, 64), box, (), rng_of(seed)).mask
        assert 32 <= picked.sum() <= 64
        assert not picked[~box].any()


def test_grey_levels_of_a_library_mask_are_cut_above_127(tmp_path):
    path = tmp_path / "grey.png"
    Image.fromarray(np.array([[0, 127, 128, 255]], dtype=np.uint8)).save(path)
    assert load_mask(str(path), (1, 4)).tolist() == [[False, False, True, True]]


@pytest.mark.parametrize(
    ("mask", "size", "reason"),
    [
        (np.zeros((8, 8)), (8, 8), "the mask is empty"),
        (np.ones((8, 8)), (8, 8), "the mask covers the whole image"),
        (np.eye(64) * (np.arange(64) == 1), (4, 4), "nothing is left of the mask at 4 x 4 pixels"),
    ],
)
def test_unusable_library_masks_are_errors_that_name_the_file(mask, size, reason, tmp_path):
    file = save(tmp_path / "m.png", mask)
    with pytest.raises(DataError, match=reason) as error:
        load_mask(file, size)
    assert str(error.value).startswith(file)
    assert "\n" not in str(error.value)


def test_a_library_without_masks_and_a_damaged_mask_are_errors(tmp_path):
    with pytest.raises(DataError, match="no mask image in this folder"):
        library_files(tmp_path / "none")
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    with pytest.raises(ImageError, match=r"bad\.png"):
        load_mask(str(tmp_path / "bad.png"), (8, 8))


def test_masks_of_positives_stay_where_they_are(tmp_path):
    one, other = np.zeros((40, 20), dtype=bool), np.zeros((40, 20), dtype=bool)
    one[0:10, 0:5] = True
    other[30:40, 15:20] = True
    rows = [
        positive(tmp_path, "a", one),
        positive(tmp_path, "b", other),
        positive(tmp_path, "c", one, with_mask=False),
    ]
    config = MaskConfig(source="positives")
    corner = np.zeros((64, 64), dtype=bool)
    corner[:16, :16] = True
    ground = np.ones((64, 64), dtype=bool)
    picked = {pick_mask(config, (64, 64), ground, rows, rng_of(seed)).mask.tobytes() for seed in range(20)}
    assert picked == {corner.tobytes(), corner[::-1, ::-1].tobytes()}


def test_moved_masks_of_positives_keep_size_and_shape_at_random_places(tmp_path):
    mask = np.zeros((40, 20), dtype=bool)
    mask[3:9, 4:15] = True
    row, ground = positive(tmp_path, "a", mask), np.ones((64, 96), dtype=bool)
    config = MaskConfig(source="positives", placed="moved")
    picked = [pick_mask(config, (64, 96), ground, [row], rng_of(seed)) for seed in range(20)]
    whole = [one.mask for one in picked if one.mask.sum() == mask.sum()]
    boxes = {(np.ptp(rows) + 1, np.ptp(columns) + 1) for rows, columns in map(np.nonzero, whole)}
    assert boxes == {(6, 11)}
    assert len({one.tobytes() for one in whole}) > 10
    halved = pick_mask(config, (64, 96), ground, [row], rng_of(0), working_size=(20, 10)).mask
    assert halved.sum() < mask.sum() / 2
    assert {one.source for one in picked} == {row.mask}


@pytest.mark.parametrize(("rows", "moves"), [(slice(0, 30), False), (slice(0, 12), True)])
def test_masks_of_positives_are_cut_to_the_foreground_or_moved_onto_it(rows, moves, tmp_path, box):
    mask = np.zeros((64, 64), dtype=bool)
    mask[rows, 22:30] = True
    row = positive(tmp_path, "a", mask)
    picked = [pick_mask(MaskConfig(source="positives"), (64, 64), box, [row], rng_of(seed)) for seed in range(20)]
    assert {one.source for one in picked} == {row.mask}
    assert not any(one.mask[~box].any() for one in picked)
    assert all(2 * one.mask.sum() >= mask.sum() for one in picked)
    if moves:
        assert len({one.mask.tobytes() for one in picked}) > 10
    else:
        assert {one.mask.tobytes() for one in picked} == {(mask & box).tobytes()}


def test_the_mask_of_a_crop_is_cropped(tmp_path):
    mask = np.zeros((40, 40), dtype=bool)
    mask[20:30, 20:30] = True
    row = positive(tmp_path, "a", mask, region=(20, 20, 40, 40))
    ground = np.ones((64, 64), dtype=bool)
    picked = pick_mask(MaskConfig(source="positives"), (64, 64), ground, [row], rng_of(0)).mask
    assert picked[:32, :32].all()
    assert picked.sum() == 32 * 32


def test_no_usable_positive_is_an_error(tmp_path, box):
    config = MaskConfig(source="positives")
    unmasked = positive(tmp_path, "a", np.ones((8, 8)), with_mask=False)
    for rows in ([], [unmasked]):
        with pytest.raises(DataError, match="needs a training defect that has a mask"):
            pick_mask(config, (64, 64), box, rows, rng_of(0))
    full = positive(tmp_path, "b", np.ones((8, 8)))
    with pytest.raises(DataError, match=r"b_mask\.png: the mask covers the whole image"):
        pick_mask(config, (64, 64), box, [full], rng_of(0))
