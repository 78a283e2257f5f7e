"""What a run hands to a cluster comes back as one process would have made it, to the bit."""

import time
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import ray
from PIL import Image

from exdd_ray.banks.config import CoresetConfig
from exdd_ray.banks.memory_bank import Points, make_bank
from exdd_ray.data.catalog import build_catalog, catalog_rows
from exdd_ray.errors import ConfigError, DataError, UserError
from exdd_ray.features.embed import embed
from exdd_ray.features.embedder import Embedder
from exdd_ray.methods.patch_bank.config import PatchBankConfig
from exdd_ray.methods.patch_bank.fit import fit_patch_bank
from exdd_ray.methods.patch_bank.nested import prepare_patch_banks
from exdd_ray.on_ray.bank import RaySearch
from exdd_ray.on_ray.cluster import cluster_device
from exdd_ray.on_ray.embed import RaySlices
from exdd_ray.on_ray.orders import RayOrders
from exdd_ray.progress import silent
from exdd_ray.store.artifact import Store


def free_cpus():
    return ray.available_resources().get("CPU", 0)


def require_free_again(cpus):
    """Actors that were ended are gone, after a while."""
    until = time.monotonic() + 30
    while free_cpus() < cpus and time.monotonic() < until:
        time.sleep(0.1)
    assert free_cpus() >= cpus


def test_a_search_that_is_refused_ends_its_actors(catalog, features, tmp_path):
    embedding, before = embed(catalog.slice(0, 4), features, Store(tmp_path)), free_cpus()
    vectors = embedding.vectors(np.arange(4))
    points = Points(lambda: vectors, len(vectors), ("some",), embedding.space, "normal")
    bank = make_bank(points, CoresetConfig(rate=0.1), 0, embedding.store, silent)
    with pytest.raises(DataError, match="other features"):
        RaySearch(1)(embedding.store, bank.key, "another space", vectors, print)
    with pytest.raises(ConfigError, match="replicas"):
        RaySearch(replicas=0)(embedding.store, bank.key, embedding.space, vectors, print)
    require_free_again(before)


def test_the_cluster_decides_where_slices_are_computed(catalog, features, tmp_path, monkeypatch):
    assert cluster_device() == "cpu"
    monkeypatch.setenv("EXDD_DEVICE", "cuda")
    with pytest.raises(UserError, match="cuda, and the Ray cluster has no GPU"):
        embed(catalog, features, Store(tmp_path), run=RaySlices(), device=cluster_device())


@pytest.fixture(scope="module")
def with_defects(catalog, tmp_path_factory):
    """The catalog, its last ten images with a black square and its mask."""
    folder, rows = tmp_path_factory.mktemp("defects"), catalog_rows(catalog)
    made = []
    for i, row in enumerate(rows[-10:]):
        pixels = np.array(Image.open(row.image))
        mask = np.zeros(pixels.shape[:2], dtype=np.uint8)
        mask[20 + i : 36 + i, 12:30] = 255
        pixels[mask > 0] = 0
        image, drawn = folder / f"{i}.png", folder / f"{i}_mask.png"
        Image.fromarray(pixels).save(image)
        Image.fromarray(mask).save(drawn)
        made.append(replace(row, image=str(image), mask=str(drawn), label=1, defect="hole"))
    return build_catalog([*rows[:-10], *made])


def test_a_detector_fitted_on_ray_is_the_detector(with_defects, features, tmp_path):
    config = PatchBankConfig(
        features=features,
        bank={"negative": {"rate": 0.1, "projection": 32}, "positive": {"rate": 0.5, "projection": 32}},
        positives={"source": "crop", "crop_size": (64, 64)},
        scoring={"fusion": "bonus"},
    )
    train = pa.concat_tables([with_defects.slice(0, 40), with_defects.slice(60, 5)])
    test = pa.concat_tables([with_defects.slice(40, 20), with_defects.slice(65, 5)])
    orders, searches, held_out, before = [], [], [], free_cpus()

    def order(*arguments):
        orders.append(arguments[2])
        return RayOrders(1)(*arguments)

    def find(*arguments):
        searches.append(arguments[1])
        held_out.append(arguments[6] is not None)
        return RaySearch(1)(*arguments)

    stores = [Store(tmp_path / "here"), Store(tmp_path / "ray")]
    embedders = [Embedder(stores[0], features), Embedder(stores[1], features, order=order, search=find)]
    here, there = (fit_patch_bank(config, train, embedder, 0) for embedder in embedders)
    for one, other in ((here.negative, there.negative), (here.positive, there.positive)):
        assert one.key == other.key
        for name in ("vectors", "points", "radii", "batch"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    wanted, found = here.predict(test), there.predict(test)
    np.testing.assert_array_equal(found.scores, wanted.scores)
    np.testing.assert_array_equal(found.patch_maps, wanted.patch_maps)
    assert len(orders) == 2
    assert {here.negative.key, here.positive.key} == set(searches)
    assert held_out.count(True) == 1
    assert sorted(stores[0].made) == sorted(stores[1].made)
    for key in stores[0].made:
        for file in stores[0].folder(key).glob("*.arrow"):
            assert file.read_bytes() == (stores[1].folder(key) / file.name).read_bytes()
    require_free_again(before)


def test_nested_banks_are_searched_on_ray_in_one_pass(catalog, features, tmp_path):
    configs = [
        PatchBankConfig.model_validate({"features": features, "bank": {"negative": {"rate": rate}}})
        for rate in (0.02, 0.05)
    ]
    train, asked = catalog.slice(0, 30), []

    def find(*arguments):
        asked.append(arguments[5])
        return RaySearch(1)(*arguments)

    stores = [Store(tmp_path / "here"), Store(tmp_path / "ray")]
    embedders = [Embedder(stores[0], features, catalog), Embedder(stores[1], features, catalog, search=find)]
    for embedder in embedders:
        prepare_patch_banks(configs, train, embedder, 0)
    assert [len(sizes) for sizes in asked] == [2, 2]  # the test images, and the held-out ones
    assert sorted(stores[0].made) == sorted(stores[1].made)
    for key in stores[0].made:
        for file in stores[0].folder(key).glob("*.arrow"):
            assert file.read_bytes() == (stores[1].folder(key) / file.name).read_bytes()


@pytest.mark.parametrize("rotations", [(), (90,)])
def test_a_bank_a_layer_on_ray_is_the_bank(rotations, catalog, features, tmp_path):
    apart = features.model_copy(update={"layers_apart": True})
    bank, scoring = {"negative": {"rate": 0.1}, "rotations": rotations}, {"top": 0.1}
    config = PatchBankConfig.model_validate(
        {"system": "patchcore", "features": apart, "bank": bank, "scoring": scoring}
    )
    stores = [Store(tmp_path / "here"), Store(tmp_path / "ray")]
    embedders = [
        Embedder(stores[0], apart, catalog),
        Embedder(stores[1], apart, catalog, run=RaySlices(1), order=RayOrders(1), search=RaySearch(1)),
    ]
    wanted, found = (fit_patch_bank(config, catalog.slice(0, 20), embedder, 0) for embedder in embedders)
    np.testing.assert_array_equal(found.predict(catalog).scores, wanted.predict(catalog).scores)
    keys = [[bank.key for bank in (one.negative, *one.deeper)] for one in (found, wanted)]
    assert keys[0] == keys[1]
    assert len(keys[0]) == len(features.layers)
