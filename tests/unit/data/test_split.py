from dataclasses import replace

import pyarrow as pa
import pytest
from pydantic import ValidationError

from exdd_ray.data.catalog import UNSPLIT, CatalogRow, build_catalog, catalog_rows, select_rows
from exdd_ray.data.config import SplitConfig
from exdd_ray.data.split import positives_from_test, split_catalog
from exdd_ray.errors import DataError


def rows(split: str, label: int, count: int, category: str = "tile") -> list[CatalogRow]:
    defect = "dent" if label else "good"
    return [
        CatalogRow(
            id=f"{category}/{split}/{defect}/{i:04}",
            dataset="d",
            category=category,
            split=split,
            label=label,
            defect=defect,
            image=f"{i}.png",
        )
        for i in range(count)
    ]


def ids(catalog: pa.Table, split: str, label: int) -> set[str]:
    return set(select_rows(catalog, split=split, label=label)["id"].to_pylist())


UNSPLIT_CATALOG = build_catalog(rows(UNSPLIT, 0, 952) + rows(UNSPLIT, 1, 392))
OFFICIAL_CATALOG = build_catalog(
    rows("train", 0, 50) + rows("train", 1, 30) + rows("test", 0, 20) + rows("test", 1, 10)
)


def test_unsplit_rows_follow_the_magnetic_tile_protocol() -> None:
    split = split_catalog(UNSPLIT_CATALOG, train_fraction=0.8, defects=None, seed=0)
    assert split.num_rows == 1344
    assert [len(ids(split, *part)) for part in (("train", 0), ("test", 0), ("train", 1), ("test", 1))] == [
        761,
        191,
        0,
        392,
    ]


def test_fraction_is_of_decimal_numbers() -> None:
    catalog = build_catalog(rows(UNSPLIT, 0, 100))
    assert 0.29 * 100 < 29
    assert len(ids(split_catalog(catalog, train_fraction=0.29, defects=None, seed=0), "train", 0)) == 29


def test_split_depends_on_the_seed_and_not_on_the_row_order() -> None:
    first = split_catalog(UNSPLIT_CATALOG, train_fraction=0.8, defects=5, seed=1)
    shuffled = UNSPLIT_CATALOG.take(pa.array(range(UNSPLIT_CATALOG.num_rows - 1, -1, -1)))
    assert split_catalog(shuffled, train_fraction=0.8, defects=5, seed=1).equals(first)
    other = split_catalog(UNSPLIT_CATALOG, train_fraction=0.8, defects=5, seed=2)
    assert ids(other, "train", 0) != ids(first, "train", 0)
    assert ids(other, "train", 1) != ids(first, "train", 1)


def test_draws_of_defects_are_nested_and_leave_the_normal_images_alone() -> None:
    splits = {k: split_catalog(UNSPLIT_CATALOG, train_fraction=0.8, defects=k, seed=3) for k in (0, 5, 20)}
    assert [len(ids(splits[k], "train", 1)) for k in (0, 5, 20)] == [0, 5, 20]
    assert ids(splits[5], "train", 1) < ids(splits[20], "train", 1)
    assert len({frozenset(ids(split, "train", 0)) for split in splits.values()}) == 1
    assert len(ids(splits[20], "test", 1)) == 372
    assert positives_from_test(UNSPLIT_CATALOG, splits[20]) == 20


def test_official_train_defects_are_thinned_out_and_test_is_untouched() -> None:
    splits = {k: split_catalog(OFFICIAL_CATALOG, train_fraction=0.8, defects=k, seed=0) for k in (None, 0, 5, 20)}
    assert [len(ids(splits[k], "train", 1)) for k in (None, 0, 5, 20)] == [30, 0, 5, 20]
    assert ids(splits[5], "train", 1) < ids(splits[20], "train", 1)
    for split in splits.values():
        assert ids(split, "test", 1) == ids(OFFICIAL_CATALOG, "test", 1)
        assert ids(split, "train", 0) == ids(OFFICIAL_CATALOG, "train", 0)
        assert positives_from_test(OFFICIAL_CATALOG, split) == 0


def test_official_split_without_train_defects_takes_them_from_test() -> None:
    catalog = build_catalog(rows("train", 0, 10) + rows("test", 0, 5) + rows("test", 1, 8))
    split = split_catalog(catalog, train_fraction=0.5, defects=3, seed=0)
    assert len(ids(split, "train", 1)) == 3
    assert len(ids(split, "test", 1)) == 5
    assert len(ids(split, "train", 0)) == 10
    assert positives_from_test(catalog, split) == 3


def test_categories_are_split_as_if_alone() -> None:
    tile, nut = rows(UNSPLIT, 0, 40) + rows(UNSPLIT, 1, 9), rows(UNSPLIT, 0, 20, "nut") + rows(UNSPLIT, 1, 9, "nut")
    together = split_catalog(build_catalog(tile + nut), train_fraction=0.5, defects=4, seed=7)
    alone = split_catalog(build_catalog(nut), train_fraction=0.5, defects=4, seed=7)
    assert [row for row in catalog_rows(together) if row.category == "nut"] == catalog_rows(alone)
    assert len(ids(together, "train", 1)) == 8


def test_more_defects_than_there_are() -> None:
    with pytest.raises(DataError, match="31 defects to train on, but the train split has 30"):
        split_catalog(OFFICIAL_CATALOG, train_fraction=0.8, defects=31, seed=0)
    with pytest.raises(DataError, match="393 defects to train on, but the test split has 392"):
        split_catalog(UNSPLIT_CATALOG, train_fraction=0.8, defects=393, seed=0)


def test_no_normal_image_to_train_on() -> None:
    with pytest.raises(DataError, match="no normal image to train on"):
        split_catalog(build_catalog(rows(UNSPLIT, 0, 1)), train_fraction=0.8, defects=None, seed=0)


def validated(catalog, seed=0, **wanted):
    return split_catalog(catalog, train_fraction=0.8, seed=seed, validation_fraction=0.25, **wanted)


def test_validation_images_are_held_out_of_training_and_of_the_test():
    split = validated(UNSPLIT_CATALOG, defects=5, validation_defects=3)
    plain = split_catalog(UNSPLIT_CATALOG, train_fraction=0.8, defects=5, seed=0)
    normal, defects = ids(split, "validation", 0), ids(split, "validation", 1)
    assert normal | ids(split, "train", 0) == ids(plain, "train", 0)
    assert len(normal) == -(-len(ids(plain, "train", 0)) // 4)
    assert len(defects) == 3
    assert ids(split, "train", 1) == ids(plain, "train", 1)
    assert not defects & (ids(split, "train", 1) | ids(split, "test", 1))


def test_validation_defects_are_the_same_for_every_number_to_train_on():
    few, many = (validated(UNSPLIT_CATALOG, defects=n, validation_defects=3) for n in (1, 7))
    assert ids(few, "validation", 1) == ids(many, "validation", 1)


def test_official_training_defects_are_what_is_validated_on():
    official = ids(OFFICIAL_CATALOG, "train", 1)
    split = validated(OFFICIAL_CATALOG, defects=None, validation_defects=2)
    assert len(ids(split, "validation", 1)) == 2
    assert ids(split, "validation", 1) | ids(split, "train", 1) == official
    assert ids(split, "test", 1) == ids(OFFICIAL_CATALOG, "test", 1)


def test_normal_validation_images_of_the_dataset_are_the_only_ones():
    published = build_catalog(
        [*rows("train", 0, 20), *rows("validation", 0, 4), *rows("test", 0, 5), *rows("test", 1, 9)]
    )
    split = validated(published, defects=None, validation_defects=2)
    assert ids(split, "validation", 0) == ids(published, "validation", 0)
    assert ids(split, "train", 0) == ids(published, "train", 0)
    assert len(ids(split, "validation", 1)) == 2
    assert ids(split, "validation", 1) | ids(split, "test", 1) == ids(published, "test", 1)


def test_more_defects_than_there_are_to_train_and_validate_on():
    with pytest.raises(DataError, match=r"defects to train on and 3 to validate on, but the train split has"):
        validated(OFFICIAL_CATALOG, defects=len(ids(OFFICIAL_CATALOG, "train", 1)) - 2, validation_defects=3)


def test_the_first_third_of_each_kind_trains_and_the_others_are_tested():
    defects = [
        replace(row, id=row.id.replace("dent", kind), defect=kind)
        for kind, count in (("dent", 10), ("cut", 3), ("hole", 2))
        for row in rows("test", 1, count)
    ]
    catalog = build_catalog([*rows("train", 0, 10), *rows("test", 0, 5), *defects])
    first, other = (
        split_catalog(catalog, train_fraction=0.5, defects=None, seed=seed, draw="first_third", **held)
        for seed, held in ((0, {}), (1, {"validation_fraction": 0.2, "validation_defects": 4}))
    )
    expected = {f"tile/test/dent/{i:04}" for i in range(3)} | {"tile/test/cut/0000"}
    assert ids(first, "train", 1) == ids(other, "train", 1) == expected
    assert ids(first, "test", 1) == ids(catalog, "test", 1) - expected
    assert len(ids(other, "validation", 1)) == 4
    assert len(ids(other, "test", 1)) == 7
    assert ids(first, "train", 0) == ids(catalog, "train", 0)
    official = split_catalog(OFFICIAL_CATALOG, train_fraction=0.5, defects=None, seed=0, draw="first_third")
    assert len(ids(official, "train", 1)) == 10
    assert ids(official, "test", 1) == ids(OFFICIAL_CATALOG, "test", 1)


def partly_masked(masked: int, others: int):
    defects = rows("test", 1, masked + others)
    marked = [replace(row, mask=f"{row.id}.png" if number < masked else None) for number, row in enumerate(defects)]
    return build_catalog([*rows("train", 0, 8), *rows("test", 0, 4), *marked])


def of_masks(catalog, split: str, *, there: bool) -> set[str]:
    return {
        row.id for row in catalog_rows(catalog) if row.split == split and row.label and (row.mask is not None) is there
    }


def test_defects_without_a_mask_are_not_trained_on_and_validate_by_their_share():
    catalog = partly_masked(12, 8)
    found = {n: validated(catalog, seed=3, defects=n, validation_defects=5, draw="masked") for n in (0, 2, 4, 9)}
    assert {len(of_masks(split, "train", there=True)) for split in found.values()} == set(found)
    for split in found.values():
        assert not of_masks(split, "train", there=False)
        assert ids(split, "validation", 1) == ids(found[0], "validation", 1)
        assert len(of_masks(split, "validation", there=True)) == 3
        assert len(of_masks(split, "validation", there=False)) == 2
    assert ids(found[2], "train", 1) < ids(found[4], "train", 1)
    assert ids(found[4], "train", 1) != ids(validated(catalog, seed=4, defects=4, draw="masked"), "train", 1)


def test_where_all_have_masks_the_draw_of_masked_ones_is_that_of_all():
    given = {"defects": 4, "validation_defects": 5}
    assert validated(partly_masked(20, 0), draw="masked", **given).equals(validated(partly_masked(20, 0), **given))


def test_more_defects_with_a_mask_than_there_are():
    told = "category tile: 10 defects with a mask to train on, but there are 9, beside those of 5 to validate on"
    with pytest.raises(DataError, match=told):
        validated(partly_masked(12, 8), defects=10, validation_defects=5, draw="masked")


def test_a_category_without_defects_has_none_with_a_mask_to_draw():
    catalog = build_catalog([*rows("train", 0, 8), *rows("test", 0, 4)])
    assert not ids(split_catalog(catalog, train_fraction=0.8, defects=0, seed=0, draw="masked"), "train", 1)


def test_a_draw_of_masked_defects_must_say_how_many():
    with pytest.raises(ValidationError, match="draw=masked takes as many defects as asked for: set defects"):
        SplitConfig(draw="masked")
