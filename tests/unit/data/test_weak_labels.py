import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from exdd_ray.data.catalog import CatalogRow, build_catalog, catalog_rows
from exdd_ray.data.weak_labels import apply_weak_labels, read_split_file
from exdd_ray.errors import DataError

TRAIN = [(10000, True), (10301, False), (10302, True)]
TEST = [(20000, True)]


class Evil:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.path,)


def write(path: Path, value: object, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    return path


def train_row(name: str, label: int) -> CatalogRow:
    return CatalogRow(
        id=f"train/{name}.png",
        dataset="ksdd2",
        category="ksdd2",
        split="train",
        label=label,
        defect="defect" if label else "good",
        image=f"{name}.png",
        mask=f"{name}_GT.png" if label else None,
    )


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_split_file_of_every_pickle_protocol(tmp_path: Path, protocol: int) -> None:
    names = [(f"part {i}", i % 2 == 0) for i in range(1200)]
    path = write(tmp_path / "s.pyb", (TRAIN, names), protocol)
    assert read_split_file(path) == ([("10000", True), ("10301", False), ("10302", True)], names)


def test_shared_objects_and_lists_for_tuples(tmp_path: Path) -> None:
    sample = ["10000", True]
    path = write(tmp_path / "s.pyb", [[sample, sample, (2**70, False)], []])
    assert read_split_file(path) == ([("10000", True), ("10000", True), (str(2**70), False)], [])


def test_a_pickle_that_would_run_code_does_not(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        path = write(tmp_path / "s.pyb", (TRAIN, Evil(str(victim))), protocol)
        with pytest.raises(DataError, match=r"s\.pyb: not a split file \(pickle opcode \w+ at byte \d+ is not allowed"):
            read_split_file(path)
    assert not victim.exists()
    pickle.loads(path.read_bytes())  # the same bytes do run code where they are unpickled
    assert victim.exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"train": [], "test": []}, "EMPTY_DICT"),
        ([], "expected a list of training and a list of test samples"),
        ((TRAIN, 3), "expected a list of samples"),
        ((TRAIN, [(1, 2, 3)]), "expected samples"),
        (([(None, True)], TEST), "expected samples"),
        ((TRAIN, [(np.int64(3), True)]), "not allowed"),
    ],
)
def test_other_pickles_are_refused(tmp_path: Path, value: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_split_file(write(tmp_path / "s.pyb", value))


def test_damaged_bytes_never_raise_anything_but_data_error(tmp_path: Path) -> None:
    intact = pickle.dumps((TRAIN, TEST), protocol=4)
    rng = np.random.default_rng(0)
    path, refused = tmp_path / "s.pyb", 0
    for _ in range(150):
        damaged = bytearray(intact)
        for position in rng.integers(0, len(intact), 3):
            damaged[position] = rng.integers(0, 256)
        path.write_bytes(bytes(damaged))
        try:
            read_split_file(path)
        except DataError:
            refused += 1
    assert refused > 75
    path.write_bytes(intact[:-1])
    with pytest.raises(DataError, match="not a split file"):
        read_split_file(path)
    with pytest.raises(DataError, match="No such file"):
        read_split_file(tmp_path / "none.pyb")


def test_unsegmented_training_defects_lose_their_mask(tmp_path: Path) -> None:
    test = CatalogRow(**{**train_row("20000", 1).__dict__, "id": "test/20000.png", "split": "test"})
    rows = [train_row("10000", 0), train_row("10301", 1), train_row("10302", 1), test]
    weak = apply_weak_labels(build_catalog(rows), write(tmp_path / "s.pyb", (TRAIN, TEST)))
    assert {row.id: row.mask for row in catalog_rows(weak)} == {
        "test/20000.png": "20000_GT.png",
        "train/10000.png": None,
        "train/10301.png": None,
        "train/10302.png": "10302_GT.png",
    }
    assert weak["label"].to_pylist() == build_catalog(rows)["label"].to_pylist()


def test_split_file_of_another_dataset(tmp_path: Path) -> None:
    table = build_catalog([train_row("10302", 1), train_row("99999", 1)])
    with pytest.raises(DataError, match=r"training defect 99999 is not listed \(1 of 2\)"):
        apply_weak_labels(table, write(tmp_path / "s.pyb", (TRAIN, TEST)))
