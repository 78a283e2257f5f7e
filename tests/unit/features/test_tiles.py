"""Vectors of an image that is embedded tile by tile."""

import itertools
from math import ceil

import numpy as np
import pytest
import torch
from vit_inputs import SMALL, save_surfaces, save_weights, tokens

from exdd_ray.errors import ConfigError
from exdd_ray.features.aggregate import aggregate
from exdd_ray.features.backbone import load_backbone
from exdd_ray.features.config import FeaturesConfig, TilesConfig
from exdd_ray.features.embed import embed
from exdd_ray.features.tiles import Span, patch_vectors, tile_spans
from exdd_ray.methods.classifier.config import ClassifierConfig
from exdd_ray.methods.padim.config import PadimConfig
from exdd_ray.methods.patch_bank.config import PatchBankConfig
from exdd_ray.store.artifact import Store


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return save_weights(tmp_path_factory.mktemp("weights") / "w.safetensors")


@pytest.mark.parametrize(("size", "overlap", "length"), [(64, 16, 160), (64, 0, 160), (96, 32, 480), (64, 16, 80)])
def test_a_patch_is_taken_where_it_is_most_central(size, overlap, length):
    spans = tile_spans(length, TilesConfig(size=size, overlap=overlap), 16, 16)
    count, side = length // 16, size // 16
    taken = [at for span in spans for at in range(span.first, span.end)]
    assert taken == list(range(count)), "every patch once, in order"

    def centrality(span: Span, at: int) -> int:
        return min(at - span.start, span.start + side - 1 - at)

    for span, at in [(one, at) for one in spans for at in range(one.first, one.end)]:
        holding = [one for one in spans if one.start <= at < one.start + side]
        assert centrality(span, at) == max(centrality(one, at) for one in holding)
        inner = (span.start > 0 and at < span.start + overlap // 16) or (
            span.start + side < count and at >= span.start + side - overlap // 16
        )
        assert not inner, "what is nearer to an inner edge than the overlap is a neighbour's"
    assert len(spans) == ceil((length - size) / (size - 2 * overlap)) + 1, "and no more tiles than that asks for"
    gaps = {after.start - before.start for before, after in itertools.pairwise(spans)}
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_vectors_are_those_of_their_tiles(weights):
    """Of 96 x 128 pixels in tiles of 64: two rows, and three columns where two neighbours overlap by two patches."""
    features = tokens(weights, resize=(96, 128), tiles={"size": 64, "overlap": 16})
    backbone, images = load_backbone(features), torch.randn(2, 3, 96, 128)
    with torch.inference_mode():
        found = patch_vectors(backbone, images, features)
        tiles = {
            (top, left): aggregate(
                backbone(images[:, :, top : top + 64, left : left + 64].contiguous()), "nearest"
            ).vectors.unflatten(1, (4, 4))
            for top in (0, 32)
            for left in (0, 32, 64)
        }
    assert found.grid == (6, 8)
    vectors = found.vectors.unflatten(1, found.grid)
    place = {0: (0, 0), 1: (0, 1), 2: (0, 2), 3: (32, 1), 4: (32, 2), 5: (32, 3)}
    across = {0: (0, 0), 1: (0, 1), 2: (0, 2), 3: (32, 1), 4: (32, 2), 5: (64, 1), 6: (64, 2), 7: (64, 3)}
    for row, column in itertools.product(range(6), range(8)):
        (top, y), (left, x) = place[row], across[column]
        torch.testing.assert_close(vectors[:, row, column], tiles[top, left][:, y, x], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backbone", ["transformer", "convolutional"])
def test_one_tile_gives_the_vectors_of_the_whole_image(backbone, weights, tmp_path):
    catalog = save_surfaces(tmp_path, 3)
    changes = {"resize": (96, 96), "unit_length": True}
    whole = tokens(weights, **changes) if backbone == "transformer" else FeaturesConfig.model_validate(changes)
    tiled = whole.model_copy(update={"tiles": TilesConfig(size=96, overlap=32)})
    store = Store(tmp_path / "store")
    one, other = (embed(catalog, features, store) for features in (whole, tiled))
    assert one.key != other.key
    assert one.space == other.space
    np.testing.assert_array_equal(
        other.vectors(range(3)).take(np.arange(108)), one.vectors(range(3)).take(np.arange(108))
    )


def test_inside_of_tiles_a_convolutional_network_sees_what_it_sees_in_the_whole_image():
    """One layer whose field of view ends before the next tile: 8 pixels a value, and 43 that it sees."""
    features = FeaturesConfig(layers=("layer2",), aggregator="nearest", resize=(256, 192))
    tiled = features.model_copy(update={"tiles": TilesConfig(size=128, overlap=48)})
    backbone, images = load_backbone(features), torch.randn(1, 3, 256, 192)
    with torch.inference_mode():
        whole, found = patch_vectors(backbone, images, features), patch_vectors(backbone, images, tiled)
    assert found.grid == whole.grid == (32, 24)
    torch.testing.assert_close(found.vectors, whole.vectors, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        (
            {"resize": (96, 128), "tiles": {"size": 64, "overlap": 8}},
            "steps of 16 pixels, .* and tiles.overlap is 8: give",
        ),
        ({"resize": (96, 128), "tiles": {"size": 72}}, "tiles of 72 x 72 are no whole ones: give 64 x 64 or"),
        ({"resize": (100, 128), "tiles": {"size": 64}}, "images of 100 x 128 are no whole ones"),
    ],
)
def test_sizes_that_do_not_fit_a_transformer_are_one_clear_error(changes, error, weights):
    features = tokens(weights, **changes)
    with pytest.raises(ConfigError, match=error) as raised, torch.inference_mode():
        patch_vectors(load_backbone(features), torch.randn(1, 3, *features.resize), features)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"resize": (96, 128), "tiles": {"size": 72}}, "maps of 5 and 9 values along tiles of 72 pixels"),
        ({"resize": (112, 168), "tiles": {"size": 56}}, "maps of 4 and 7 values along tiles of 56 pixels"),
        (
            {"resize": (96, 120), "tiles": {"size": 64}},
            "steps of 16 pixels, .* and the images' width is 120: give 112 or",
        ),
    ],
)
def test_sizes_that_do_not_fit_a_stride_are_one_clear_error(changes, error):
    features = FeaturesConfig.model_validate(changes)
    with pytest.raises(ConfigError, match=error):
        patch_vectors(load_backbone(features), torch.randn(1, 3, *features.resize), features)


def test_tiles_are_no_larger_than_images_and_have_a_middle():
    with pytest.raises(ValueError, match="tiles of 448 pixels are larger than images of 224 x 224: unset tiles"):
        FeaturesConfig.model_validate({"tiles": {"size": 448}})
    with pytest.raises(ValueError, match="leave nothing"):
        TilesConfig(size=64, overlap=32)


def test_tiles_are_of_detectors_on_patch_vectors():
    features = {"tiles": {"size": 112}, "resize": (224, 224)}
    assert PatchBankConfig.model_validate({"features": features}).features.tiles == TilesConfig(size=112)
    assert PadimConfig.model_validate({"features": features}).features.tiles == TilesConfig(size=112)
    with pytest.raises(ValueError, match=r"features.tiles is not for detector.kind=classifier, but for patch_bank"):
        ClassifierConfig.model_validate({"features": features})


def test_the_network_is_made_for_a_tile(weights):
    features = tokens(weights, resize=(96, 128), tiles={"size": 64})
    assert load_backbone(features).body.model.pos_embed.shape[1] == 1 + 16, SMALL
