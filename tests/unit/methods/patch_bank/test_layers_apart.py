"""A bank a layer: each layer is embedded with the others, and searched for itself."""

import numpy as np
import pyarrow as pa
import pytest
from vit_inputs import save_surfaces, save_weights, tokens

from exdd_ray.features.config import FeaturesConfig
from exdd_ray.features.embedder import Embedder
from exdd_ray.methods.padim.config import PadimConfig
from exdd_ray.methods.patch_bank.config import PatchBankConfig
from exdd_ray.methods.patch_bank.detector import FittedPatchBank, predict_from_files
from exdd_ray.methods.patch_bank.fit import fit_patch_bank
from exdd_ray.methods.patch_bank.nested import prepare_patch_banks
from exdd_ray.store.artifact import Store

RATE = 0.2


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return save_weights(tmp_path_factory.mktemp("weights") / "w.safetensors")


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> pa.Table:
    return save_surfaces(tmp_path_factory.mktemp("wood"), 6)


def config(features: FeaturesConfig, rate: float = RATE, **scoring: object) -> PatchBankConfig:
    bank = {"negative": {"rate": rate}}
    return PatchBankConfig.model_validate(
        {"system": "patchcore", "features": features, "bank": bank, "scoring": {"smoothing": 1, **scoring}}
    )


def fitted(features: FeaturesConfig, images: pa.Table, store: Store, **scoring: object) -> FittedPatchBank:
    """A bank of the first four images."""
    return fit_patch_bank(config(features, **scoring), images.slice(0, 4), Embedder(store, features, images), 0)


@pytest.mark.parametrize("unit_length", [False, True])
def test_distances_are_the_mean_of_those_of_banks_of_each_layer_alone(unit_length, weights, images, tmp_path):
    store = Store(tmp_path)
    both = fitted(tokens(weights, layers_apart=True, unit_length=unit_length), images, store)
    alone = [
        fitted(tokens(weights, layers=(layer,), unit_length=unit_length), images, store)
        for layer in ("blocks.1", "blocks.3")
    ]
    test = images.slice(4, 2)
    wanted = np.mean([one.predict(test).patch_maps for one in alone], axis=0)
    np.testing.assert_allclose(both.predict(test).patch_maps, wanted, rtol=1e-5)
    np.testing.assert_array_equal(predict_from_files(both, test).patch_maps, both.predict(test).patch_maps)
    assert [len(one.negative.vectors) for one in alone] == [len(both.negative.vectors), len(both.deeper[0].vectors)]
    assert not np.array_equal(both.negative.points, both.deeper[0].points), "each layer has a coreset of its own"


def test_one_layer_apart_is_the_plain_bank(weights, images, tmp_path):
    store, test = Store(tmp_path), images.slice(4, 2)
    plain, apart = (
        fitted(tokens(weights, layers=("blocks.3",), unit_length=True, layers_apart=apart), images, store, top=0.1)
        for apart in (False, True)
    )
    np.testing.assert_array_equal(apart.negative.vectors, plain.negative.vectors)
    found, wanted = apart.predict(test), plain.predict(test)
    np.testing.assert_array_equal(found.patch_maps, wanted.patch_maps)
    np.testing.assert_array_equal(found.scores, wanted.scores)


def test_all_layers_are_of_one_forward_pass_and_scaled_for_themselves(weights, images, tmp_path):
    features = tokens(weights, layers_apart=True, unit_length=True)
    embedding = Embedder(Store(tmp_path), features).embedding(images)
    assert len(list(tmp_path.rglob("vectors.arrow"))) == 1
    assert [part.dim for part in embedding.parts] == [64, 64]
    for part in embedding.parts:
        np.testing.assert_allclose(np.linalg.norm(part.image(0), axis=1), 1, rtol=1e-5)
    assert len({embedding.space, *(part.space for part in embedding.parts)}) == 3


def test_banks_of_several_sizes_are_those_that_each_fit_makes(weights, images, tmp_path):
    features = tokens(weights, layers_apart=True)
    shared, alone = (Embedder(Store(tmp_path / name), features, images) for name in ("shared", "alone"))
    both = [config(features, rate) for rate in (0.1, 0.3)]
    prepare_patch_banks(both, images.slice(0, 4), shared, 0)
    made = {path.name for path in (tmp_path / "shared").rglob("bank-*")}
    for one in both:
        found, wanted = (
            fit_patch_bank(one, images.slice(0, 4), embedder, 0).predict(images.slice(4, 2))
            for embedder in (shared, alone)
        )
        np.testing.assert_array_equal(found.scores, wanted.scores)
    assert made == {path.name for path in (tmp_path / "alone").rglob("bank-*")}


def test_background_scores_0_in_all_layers(weights, images, tmp_path):
    features = tokens(weights, layers_apart=True, final_norm=True, foreground=True)
    found = fitted(features, images, Store(tmp_path))
    (samples,) = found.embedder.samples(images)
    front = samples.embedding.foreground(np.arange(6))
    assert len(found.negative.vectors) == len(found.deeper[0].vectors) == int(RATE * front[:4].sum())
    np.testing.assert_array_equal(found.predict(images.slice(4, 2)).patch_maps > 0, front[4:])


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"aggregator": "pc1024"}, "features.aggregator=pc1024 mixes the layers"),
        ({"channels": 10}, "features.channels mixes the layers"),
    ],
)
def test_mixed_layers_cannot_be_apart(changes, error):
    with pytest.raises(ValueError, match=error):
        FeaturesConfig.model_validate({"layers_apart": True, **changes})


def test_a_bank_a_layer_is_of_a_single_bank_without_neighbours():
    features = {"layers_apart": True}
    with pytest.raises(ValueError, match=r"features.layers_apart is not for detector.kind=padim"):
        PadimConfig.model_validate({"features": {"channels": None, **features}})
    with pytest.raises(ValueError, match=r"features.layers_apart is of a single bank"):
        PatchBankConfig.model_validate({"features": features})
    with pytest.raises(ValueError, match=r"scoring.neighbours looks around one bank's vector"):
        config(FeaturesConfig(layers_apart=True), neighbours=3)
