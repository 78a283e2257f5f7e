"""A memory bank as a graph gives the scores and maps that the detector gives, whatever its options."""

import numpy as np
import pytest
import torch
from method_contract import made_images, training_images

from exdd_ray.data.images import read_image
from exdd_ray.errors import ConfigError
from exdd_ray.export.parts import Nearest
from exdd_ray.features.embedder import Embedder
from exdd_ray.features.prepare import prepare_image
from exdd_ray.line.graph import read_graph, traced, write_graph
from exdd_ray.methods.patch_bank.config import PatchBankConfig
from exdd_ray.methods.patch_bank.fit import fit_patch_bank
from exdd_ray.methods.patch_bank.graph import PatchBankGraph
from exdd_ray.store.artifact import Store

SIDE = 64
SINGLE, DUAL = {"system": "patchcore"}, {"system": "exdd"}
RATIO = {**DUAL, "bank": {"positive": {"rate": 0.5}}, "positives": {"source": "mask"}}
CASES = {
    "single": SINGLE,
    "eq. 7": {**SINGLE, "scoring": {"neighbours": 5}},
    "eq. 7 as released with ExDD": {**SINGLE, "scoring": {"neighbours": 5, "own_term": False, "scale": "sqrt_dim"}},
    "squared, farthest share": {**SINGLE, "scoring": {"squared": True, "top": 0.1}},
    "layers apart": {**SINGLE, "features": {"layers_apart": True, "unit_length": True}},
    "half precision": {**SINGLE, "features": {"dtype": "float16"}},
    "cropped": {**SINGLE, "features": {"resize": 72, "crop": [SIDE, SIDE]}},
    "pooled": {**SINGLE, "features": {"aggregator": "pc1024"}},
    "evidence": DUAL,
    "bonus": {**DUAL, "scoring": {"fusion": "bonus"}},
    "ratio": {**RATIO, "scoring": {"fusion": "ratio", "neighbours": 3}},
    "ratio, colocated": {**RATIO, "scoring": {"fusion": "ratio", "neighbours": 0, "pairing": "colocated"}},
    "ratio, nearest": {**RATIO, "scoring": {"fusion": "ratio", "neighbours": 3, "pairing": "min"}},
}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return made_images(tmp_path_factory.mktemp("made"))


def fitted(given, images, folder):
    features = {"resize": [SIDE, SIDE], **given.get("features", {})}
    config = PatchBankConfig.model_validate({**given, "features": features})
    learnt = training_images(config, images)
    return fit_patch_bank(config, learnt.train, Embedder(Store(folder), config.features, images), 0), learnt.test


def prepared(rows, features):
    return torch.from_numpy(np.stack([prepare_image(read_image(row.image), features) for row in rows]))


@pytest.mark.parametrize("given", CASES.values(), ids=CASES)
def test_a_graph_scores_as_the_detector_does(given, images, tmp_path):
    detector, test = fitted(given, images, tmp_path)
    wanted = detector.predict(test)
    with torch.inference_mode():
        scores, maps = PatchBankGraph(detector).eval()(prepared(wanted.rows, detector.config.features))
    np.testing.assert_allclose(scores, wanted.scores, rtol=1e-5)
    drawn = wanted.draw.many(wanted.patch_maps)
    np.testing.assert_allclose(maps, drawn, rtol=1e-5, atol=1e-5 * np.abs(drawn).max())


@pytest.mark.parametrize("name", ["single", "pooled", "evidence", "ratio"])
def test_a_graph_is_written_and_read_for_any_number_of_images(name, images, tmp_path):
    detector, test = fitted(CASES[name], images, tmp_path / "store")
    wanted = detector.predict(test)
    write_graph(tmp_path, traced(PatchBankGraph(detector), detector.config.features.input_size))
    assert (tmp_path / "graph.pt2").stat().st_size < 1_000_000, "the weights are in a file of their own"
    module, given = read_graph(tmp_path), prepared(wanted.rows, detector.config.features)
    for count in (1, 2, len(given)):
        np.testing.assert_allclose(module(given[:count])[0], wanted.scores[:count], rtol=1e-5)


def test_what_a_graph_cannot_do_is_refused(images, tmp_path):
    blurred = {**SINGLE, "scoring": {"blur": "pillow8", "blur_radius": 2.0}}
    with pytest.raises(ConfigError, match="scoring.blur=pillow8 cannot be exported"):
        PatchBankGraph(fitted(blurred, images, tmp_path)[0])
    with pytest.raises(ConfigError, match="search.index=flat cannot be exported"):
        PatchBankGraph(fitted({**SINGLE, "search": {"index": "flat"}}, images, tmp_path)[0])


def test_the_nearest_is_found_among_vectors_that_are_nearly_alike_and_far_from_the_origin():
    """Products of such vectors lose the digits that tell them apart; in chunks, too."""
    rng = np.random.default_rng(0)
    bank = (1000 + rng.normal(size=(5000, 16))).astype(np.float32)
    given = bank[rng.permutation(5000)[:50]] + rng.normal(0, 1e-2, (50, 16)).astype(np.float32)
    distances, places = Nearest(bank)(torch.from_numpy(given))
    apart = np.linalg.norm(given[:, None].astype(np.float64) - bank[None].astype(np.float64), axis=2)
    np.testing.assert_array_equal(places, apart.argmin(axis=1))
    np.testing.assert_allclose(distances, apart.min(axis=1), rtol=1e-5)
