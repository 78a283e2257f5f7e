"""Training images held out, none of them made from what is trained on."""

from dataclasses import replace

import classifier_inputs
import numpy as np
import pytest
from classifier_inputs import config

from exdd_ray.data.catalog import CatalogRow, build_catalog, catalog_rows, select_rows
from exdd_ray.errors import DataError
from exdd_ray.methods.classifier.classifier import fit_classifier
from exdd_ray.store.artifact import Store
from exdd_ray.training.holdout import hold_out, same_file

pytestmark = pytest.mark.usefixtures("one_thread")
surfaces = classifier_inputs.surfaces


def test_hold_out_takes_a_share_of_each_class_and_origin(surfaces):
    rows = catalog_rows(select_rows(surfaces, split="train"))
    rows = [replace(row, origin="real") if row.id.startswith("train-1-1") else row for row in rows]
    kept, held = hold_out(rows, 0.25, 3)
    assert sorted([*kept, *held]) == list(range(len(rows)))
    groups = [(rows[at].label, rows[at].origin) for at in held]
    assert (groups.count((0, "real")), groups.count((1, "real")), groups.count((1, "synthesis-x"))) == (4, 1, 2)
    assert not np.array_equal(hold_out(rows, 0.25, 4)[1], held)
    single = [row for row in rows if not row.label] + [row for row in rows if row.label][:1]
    with pytest.raises(DataError, match="no defective image can be held out"):
        hold_out(single, 0.25, 0)


def made_from(rows, at: int, image: int, mask: str = "blob") -> tuple[CatalogRow, tuple[str, ...]]:
    row = replace(rows[0], id=f"made-{at}", label=1, image=f"made-{at}.png", mask=f"made-{at}_mask.png", origin="s")
    return row, (rows[image].image, mask)


@pytest.mark.parametrize("seed", range(8))
def test_what_is_held_out_shares_no_source_with_what_is_trained_on(surfaces, seed):
    rows = catalog_rows(select_rows(surfaces, split="train", label=0))
    defects = catalog_rows(select_rows(surfaces, split="train", label=1))[:5]
    defects = [replace(row, origin="real") for row in defects]
    made = [made_from(rows, at, at % 16, defects[at % 5].mask) for at in range(40)]
    synthetic, sources = [row for row, _ in made], {row.id: files for row, files in made}
    everything = [*rows, *defects, *synthetic]
    kept, held = hold_out(everything, 0.25, seed, sources)

    def files(part):
        chosen = [everything[at] for at in part]
        real = {file for row in chosen if row.origin == "real" for file in (row.image, row.mask) if file}
        return real | {file for row in chosen for file in sources.get(row.id, ())}

    assert not files(kept) & files(held)
    assert not set(kept) & set(held)
    assert sum(everything[at].id in sources for at in held) >= 1
    torn = [at for at in range(len(everything)) if at not in {*kept, *held}]
    real_held = {file for at in held for file in (everything[at].image, everything[at].mask)}
    assert torn
    assert all(len(set(sources[everything[at].id]) & real_held) == 1 for at in torn)


def test_a_single_background_of_all_defects_leaves_none_to_train_on(surfaces):
    rows = catalog_rows(select_rows(surfaces, split="train", label=0))
    made = [made_from(rows, at, 3) for at in range(6)]
    with pytest.raises(DataError, match="no defective image can be left to train on"):
        hold_out([*rows, *(row for row, _ in made)], 0.25, 0, {row.id: files for row, files in made})


def test_sources_are_part_of_what_is_trained_and_torn_images_are_said(surfaces, tmp_path):
    rows = catalog_rows(select_rows(surfaces, split="train"))
    rows = [replace(row, origin="real") if row.label and row.id < "train-1-5" else row for row in rows]
    normal, real = ([row for row in rows if row.label == label and row.origin == "real"] for label in (0, 1))
    sources = {
        row.id: (normal[at].image, real[at].mask) for at, row in enumerate(r for r in rows if r.origin != "real")
    }
    chosen = config(epochs=1, holdout=0.3)
    store, train = Store(tmp_path), build_catalog(rows)
    apart = fit_classifier(chosen, train, store, 0, sources=sources)
    assert sum(apart.train) + apart.held_out < len(rows)
    torn = len(rows) - sum(apart.train) - apart.held_out
    assert apart.remarks[0].startswith(f"{torn} synthetic images were made from a held-out image and from another")
    fit_classifier(chosen, train, store, 0)
    assert len(store.made) == 2
    fit_classifier(chosen, train, store, 0, sources=sources)
    assert len(store.made) == 2


def test_a_file_is_found_again_where_its_dataset_was_moved():
    among = ["/new/mvtec/train/good/000.png", "/new/mvtec/test/hole/000.png", "/new/mvtec/train/good/001.png"]
    assert same_file("/old/train/good/000.png", among) == (among[0],)
    assert same_file(among[1], among) == (among[1],)
    assert same_file("/old/000.png", among) == (among[0], among[1])
    assert same_file("perlin", among) == ()
