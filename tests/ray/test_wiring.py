"""What a run hands to a cluster comes back as one process would have made it, to the bit."""

import time
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import ray
from PIL import Image

from exdd_ray.banks.config import CoresetConfig
from exdd_ray.banks.coreset import greedy_order
from exdd_ray.banks.memory_bank import Points, make_bank
from exdd_ray.banks.projection import project, projection_matrix
from exdd_ray.banks.search import search
from exdd_ray.data.catalog import build_catalog, catalog_rows
from exdd_ray.errors import ConfigError, DataError, UserError
from exdd_ray.features.embed import embed
from exdd_ray.features.embedder import Embedder
from exdd_ray.methods.patch_bank.config import PatchBankConfig
from exdd_ray.methods.patch_bank.detector import fit_patch_bank
from exdd_ray.methods.patch_bank.nested import prepare_patch_banks
from exdd_ray.on_ray.bank import RaySearch
from exdd_ray.on_ray.cluster import cluster_device
from exdd_ray.on_ray.embed import RaySlices
from exdd_ray.on_ray.orders import RayOrders
from exdd_ray.progress import silent
from exdd_ray.store.artifact import Store


@pytest.fixture(scope="module")
def embedding(catalog, features, tmp_path_factory):
    return embed(catalog, features, Store(tmp_path_factory.mktemp("store")))


def free_cpus():
    return ray.available_resources().get("CPU", 0)


def test_an_order_on_ray_is_the_order(embedding):
    at, steps = np.arange(2, 50), []
    wanted = greedy_order(embedding.vectors(at), 200, first=9)
    found = RayOrders()(embedding, at, 200, 9, lambda made, wanted: steps.append((made, wanted)))
    np.testing.assert_array_equal(found.indices, wanted.indices)
    np.testing.assert_array_equal(found.radii, wanted.radii)
    assert steps[-1] == (200, 200)


def test_an_order_of_projected_vectors_on_ray_is_the_order(embedding):
    at, matrix = np.arange(2, 50), projection_matrix(embedding.dim, 32, 0)
    wanted = greedy_order(project(embedding.vectors(at), matrix), 200, first=9)
    found = RayOrders(3)(embedding, at, 200, 9, matrix=matrix)
    np.testing.assert_array_equal(found.indices, wanted.indices)
    np.testing.assert_array_equal(found.radii, wanted.radii)


@pytest.mark.parametrize("picks", [200, 3])  # with 3, every shard is of one image alone
def test_a_search_that_holds_images_out_on_ray_is_the_search(embedding, picks):
    at = np.arange(30)
    points = Points(lambda: embedding.vectors(at), 30 * embedding.patches, ("held",), embedding.space, "normal")
    bank = make_bank(points, CoresetConfig(rate=1e-9, minimum=picks), 0, embedding.store, silent)
    queries = embedding.vectors(at)
    exclude = np.repeat(at, embedding.patches), at[bank.points // embedding.patches]
    wanted = search(queries, bank.vectors, 1, exclude=exclude)
    found = RaySearch(3)(embedding.store, bank.key, embedding.space, queries, lambda _: None, exclude=exclude)
    for name in ("distances", "squares", "indices"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
    alone = exclude[0] * 0, exclude[1] * 0
    with pytest.raises(DataError, match="fewer than 1 bank vectors outside of its own group"):
        RaySearch()(embedding.store, bank.key, embedding.space, queries, lambda _: None, exclude=alone)


def test_a_search_on_ray_is_the_search_and_ends_its_actors(embedding):
    at, steps = np.arange(30), []
    points = Points(lambda: embedding.vectors(at), 30 * embedding.patches, ("some",), embedding.space, "normal")
    bank = make_bank(points, CoresetConfig(rate=0.1), 0, embedding.store, silent)
    queries = embedding.vectors(np.arange(30, 70))
    wanted, before = search(queries, bank.vectors, 1), free_cpus()
    found = RaySearch()(embedding.store, bank.key, embedding.space, queries, steps.append)
    for name in ("distances", "squares", "indices"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
    assert sum(steps) == len(queries)
    with pytest.raises(DataError, match="other features"):
        RaySearch()(embedding.store, bank.key, "another space", queries, steps.append)
    with pytest.raises(ConfigError, match="replicas"):
        RaySearch(replicas=0)(embedding.store, bank.key, embedding.space, queries, steps.append)
    until = time.monotonic() + 30
    while free_cpus() < before and time.monotonic() < until:
        time.sleep(0.1)
    assert free_cpus() >= before


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


@pytest.mark.parametrize(("source", "projection"), [("mask", None), ("crop", 32)])
def test_a_detector_fitted_on_ray_is_the_detector(with_defects, features, tmp_path, source, projection):
    config = PatchBankConfig(
        features=features,
        bank={"negative": {"rate": 0.1, "projection": projection}, "positive": {"rate": 0.5, "projection": projection}},
        positives={"source": source, "crop_size": (64, 64)},
    )
    train = pa.concat_tables([with_defects.slice(0, 40), with_defects.slice(60, 5)])
    test = pa.concat_tables([with_defects.slice(40, 20), with_defects.slice(65, 5)])
    orders, searches, held_out = [], [], []

    def order(*arguments):
        orders.append(arguments[2])
        return RayOrders()(*arguments)

    def find(*arguments):
        searches.append(arguments[1])
        held_out.append(arguments[6] is not None)
        return RaySearch()(*arguments)

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
    # the positive bank of masked patches is not one of whole images, and is ordered in this process
    assert len(orders) == {"mask": 1, "crop": 2}[source]
    assert {here.negative.key, here.positive.key} == set(searches)
    assert held_out.count(True) == 1
    assert sorted(stores[0].made) == sorted(stores[1].made)
    for key in stores[0].made:
        for file in stores[0].folder(key).glob("*.arrow"):
            assert file.read_bytes() == (stores[1].folder(key) / file.name).read_bytes()


def test_nested_banks_are_searched_on_ray_in_one_pass(catalog, features, tmp_path):
    configs = [
        PatchBankConfig.model_validate({"features": features, "bank": {"negative": {"rate": rate}}})
        for rate in (0.02, 0.05)
    ]
    train, asked = catalog.slice(0, 30), []

    def find(*arguments):
        asked.append(arguments[5])
        return RaySearch(shards=2)(*arguments)

    stores = [Store(tmp_path / "here"), Store(tmp_path / "ray")]
    embedders = [Embedder(stores[0], features, catalog), Embedder(stores[1], features, catalog, search=find)]
    for embedder in embedders:
        prepare_patch_banks(configs, train, embedder, 0)
    assert [len(sizes) for sizes in asked] == [2, 2]  # the test images, and the held-out ones
    assert sorted(stores[0].made) == sorted(stores[1].made)
    for key in stores[0].made:
        for file in stores[0].folder(key).glob("*.arrow"):
            assert file.read_bytes() == (stores[1].folder(key) / file.name).read_bytes()
