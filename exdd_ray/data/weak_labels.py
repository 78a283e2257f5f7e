"""Split files of mixed supervision: which training defects have a pixel mask. Pickles, read without running them."""

import pickletools
import reprlib
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from exdd_ray.data.catalog import build_catalog, catalog_rows
from exdd_ray.errors import DataError

Sample = tuple[str, bool]

_MARK = object()
_VALUES = frozenset(
    {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "STRING", "BINSTRING", "SHORT_BINSTRING"}
    | {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})


def apply_weak_labels(catalog: pa.Table, split_file: str | Path) -> pa.Table:
    """Catalog in which the training defects that the split file calls not segmented have no mask.

    Args:
        catalog: of KSDD2; an image's name in the split file is its file name without extension.
        split_file: official `split_weakly_<N>.pyb`.

    Raises:
        DataError: unreadable split file, or one that does not list every training defect of the catalog.
    """
    segmented = dict(read_split_file(split_file)[0])
    rows = catalog_rows(catalog)
    names = {row.id: PurePosixPath(row.id).stem for row in rows if row.split == "train" and row.label == 1}
    unknown = [name for name in names.values() if name not in segmented]
    if unknown:
        raise DataError(f"{split_file}: training defect {unknown[0]} is not listed ({len(unknown)} of {len(names)})")
    return build_catalog(
        replace(row, mask=None) if row.id in names and not segmented[names[row.id]] else row for row in rows
    )


def read_split_file(path: str | Path) -> tuple[list[Sample], list[Sample]]:
    """(name, is segmented) of the training and of the test samples in a split file.

    The file is a pickle of two lists of pairs (mixed-segdec-net, Bozic et al. 2021). It is interpreted here opcode by
    opcode; whatever could run code is refused.

    Raises:
        DataError: no such file, not such a pickle, other contents.
    """
    train, test = _splits(path)
    return _samples(path, train), _samples(path, test)


def read_fold_file(path: str | Path) -> list[list[Sample]]:
    """(name, is segmented) of the test samples of each fold in a split file of several folds, as KolektorSDD has.

    Raises DataError as read_split_file.
    """
    _, folds = _splits(path)
    if not isinstance(folds, (list, tuple)):
        raise DataError(f"{path}: expected a list of folds")
    return [_samples(path, fold) for fold in folds]


def _splits(path: str | Path) -> tuple[object, object]:
    """What a split file holds for training and for the test."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    try:
        splits = _literal(content)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: not a split file ({' '.join(str(error).split())})") from error
    if not isinstance(splits, (list, tuple)) or len(splits) != 2:
        raise DataError(f"{path}: expected a list of training and a list of test samples")
    return splits[0], splits[1]


def _samples(path: str | Path, entries: object) -> list[Sample]:
    if not isinstance(entries, (list, tuple)):
        raise DataError(f"{path}: expected a list of samples")
    for entry in entries:
        is_pair = isinstance(entry, (list, tuple)) and len(entry) == 2
        if not is_pair or not isinstance(entry[0], (str, int)) or not isinstance(entry[1], (bool, int)):
            raise DataError(f"{path}: expected samples (name, is segmented), found {reprlib.repr(entry)}")
    return [(str(name), bool(is_segmented)) for name, is_segmented in entries]


def _literal(content: bytes) -> object:
    """Value of a pickle that builds lists, tuples, text, whole numbers and truth values only."""
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    for opcode, argument, position in pickletools.genops(content):
        name = opcode.name
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name == "MARK":
            stack.append(_MARK)
        elif name in {"EMPTY_LIST", "EMPTY_TUPLE"}:
            stack.append([] if name == "EMPTY_LIST" else ())
        elif name in _TUPLES:
            stack[-_TUPLES[name] :] = [tuple(stack[-_TUPLES[name] :])]
        elif name in {"LIST", "TUPLE"}:
            items = _pop_to_mark(stack)
            stack.append(items if name == "LIST" else tuple(items))
        elif name in {"APPEND", "APPENDS"}:
            items = [stack.pop()] if name == "APPEND" else _pop_to_mark(stack)
            stack[-1].extend(items)
        elif name in _PUTS or name == "MEMOIZE":
            memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name in _GETS:
            stack.append(memo[argument])
        elif name == "STOP":
            return stack.pop()
        elif name not in {"PROTO", "FRAME"}:
            raise ValueError(f"pickle opcode {name} at byte {position} is not allowed")
    raise ValueError("the pickle has no end")


def _pop_to_mark(stack: list[Any]) -> list[Any]:
    items: list[Any] = []
    while (item := stack.pop()) is not _MARK:
        items.append(item)
    return items[::-1]
