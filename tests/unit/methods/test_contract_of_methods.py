"""What holds for every method of the table."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from method_contract import fit, made_images, small, training_images

from exdd_ray.data.catalog import build_catalog, catalog_rows
from exdd_ray.errors import DataError
from exdd_ray.experiment.session import Session
from exdd_ray.methods.method import Fitted, PlannedFit
from exdd_ray.methods.table import methods
from exdd_ray.store.artifact import Store

pytestmark = pytest.mark.usefixtures("one_thread")
KINDS = tuple(methods())


@pytest.fixture(scope="module")
def universe(tmp_path_factory) -> pa.Table:
    return made_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module", params=KINDS)
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def store(kind, tmp_path_factory) -> Store:
    return Store(tmp_path_factory.mktemp(kind))


@pytest.fixture(scope="module")
def fitted(kind, universe, store) -> Fitted:
    config = small(kind)
    return fit(config, training_images(config, universe), store)


@pytest.fixture
def images(kind, universe):
    return training_images(small(kind), universe)


def same(one, other) -> bool:
    """Whether two predictions are the same to the bit."""
    return np.array_equal(one.scores, other.scores) and np.array_equal(one.patch_maps, other.patch_maps)


def test_the_folder_is_named_as_the_method(kind):
    assert methods()[kind].kind == kind == small(kind).kind


def test_it_says_what_it_was_trained_on(fitted, images):
    normal, real, synthetic = fitted.train
    assert 0 < normal <= 12
    assert (real > 0, synthetic) == (images.train.num_rows > 12, 0)


def test_scores_and_maps_are_finite_and_one_an_image(fitted, images):
    found = fitted.predict(images.test)
    assert found.scores.shape == (8,)
    assert np.isfinite(found.scores).all()
    assert np.isfinite(found.patch_maps).all()
    drawn = found.draw(found.patch_maps[0])
    assert drawn.ndim == 2
    assert np.isfinite(drawn).all()


def test_scores_are_in_the_order_of_the_images(fitted, images):
    found = fitted.predict(images.test)
    assert [row.id for row in found.rows] == images.test["id"].to_pylist()
    order = [5, 2, 7, 0]
    other = fitted.predict(images.test.take(order))
    assert [row.id for row in other.rows] == images.test["id"].take(order).to_pylist()
    np.testing.assert_allclose(other.scores, found.scores[order], rtol=1e-4, atol=1e-6)  # batches of others


def test_a_single_image_scores_as_among_others(fitted, images):
    found, alone = fitted.predict(images.test), fitted.predict(images.test.slice(3, 1))
    np.testing.assert_allclose(alone.scores, found.scores[3:4], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(alone.patch_maps, found.patch_maps[3:4], rtol=1e-4, atol=1e-4)


def test_scores_from_files_are_the_stores(fitted, images):
    assert same(fitted.predict_from_files(images.test), fitted.predict(images.test))


def test_a_second_fit_takes_all_from_the_store_to_the_bit(kind, fitted, images, store):
    first, again = fitted.predict(images.test), Store(store.root)
    second = fit(small(kind), images, again)
    assert same(second.predict(images.test), first)
    assert again.made == []
    assert (second.train, second.threshold, second.bank_sizes, second.remarks) == (
        fitted.train,
        fitted.threshold,
        fitted.bank_sizes,
        fitted.remarks,
    )


def test_another_store_gets_the_same_bits(kind, fitted, images, tmp_path):
    assert methods()[kind].repeats(small(kind))
    found = fit(small(kind), images, Store(tmp_path))
    assert same(found.predict(images.test), fitted.predict(images.test))


def test_what_it_needs_is_what_it_asks_of_the_store(kind, fitted, images, universe, store):
    session, config = Session(Store(store.root)), small(kind)
    needs = list(methods()[kind].needs(config, PlannedFit(universe, images.train, (), 0), session))
    assert bool(needs) == any(store.root.rglob("manifest.json"))  # what needs nothing has kept nothing
    assert all(need.keys and len(set(need.keys)) == len(need.keys) for need in needs)
    assert all(session.store.peek(key) is not None for need in needs if need.in_store for key in need.keys)
    assert session.store.made == []


def test_a_killed_training_goes_on_to_the_same_bits(kind, fitted, images, tmp_path):
    config = small(kind)
    if methods()[kind].training(config) is None:
        pytest.skip(f"{kind} trains no networks")

    @contextmanager
    def killed(label: str, total: int) -> Iterator:
        done = []

        def advance(steps: int) -> None:
            done.append(steps)
            if label == "training" and sum(done) >= 3:
                raise KeyboardInterrupt

        yield advance

    with pytest.raises(KeyboardInterrupt):
        fit(config, images, Store(tmp_path), killed)
    assert list((tmp_path / "unfinished").rglob("step-00000002"))
    assert not list(tmp_path.glob("train-*/*/*/manifest.json"))
    assert same(fit(config, images, Store(tmp_path)).predict(images.test), fitted.predict(images.test))


def test_no_image_to_train_on_is_refused_in_a_line(kind, images, tmp_path):
    with pytest.raises(DataError, match=r"\A[^\n]+\Z"):
        fit(small(kind), replace(images, train=images.train.slice(0, 0)), Store(tmp_path))


def test_only_unreadable_images_are_refused_in_a_line(fitted, images, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    broken = replace(catalog_rows(images.test)[0], id="broken", image=str(tmp_path / "broken.png"), mask=None)
    with pytest.raises(DataError, match=r"\A[^\n]+\Z"):
        fitted.predict(build_catalog([broken]))


def test_an_unreadable_image_is_named_beforehand(kind, universe, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    broken = replace(catalog_rows(universe)[0], id="broken", image=str(tmp_path / "broken.png"), mask=None)
    with_it = build_catalog([*catalog_rows(universe), broken])
    faults = methods()[kind].faults(small(kind), with_it, Session(Store(tmp_path / "store")))
    assert list(faults) == ["broken"]
    assert "\n" not in faults["broken"]
