"""Finished runs and sweeps as their folders hold them: metrics, scores of every test image, and resolved configs."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from exdd_ray.errors import ArtifactError, ConfigError
from exdd_ray.experiment.beside import Beside
from exdd_ray.experiment.sweep_results import DIGEST, PREDICTIONS, RESOLVED, TRIALS
from exdd_ray.metrics.difference import Measured, Run
from exdd_ray.metrics.influence import Scored
from exdd_ray.metrics.table import influence_on

_TIME = re.compile(r"^[\d-]+_[\d-]+_(?=.)")  # before the overrides
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Entry:
    """A trial of a run, with all of its seeds and categories.

    Attributes:
        name: tells it from the other trials that it is compared with.
        config: dotted key -> value, of the first seed.
        rows: of the table of results.
        images: the scored test images of each row, known by their contents.
        published: figures of others beside it.
    """

    name: str
    config: Mapping[str, Any]
    rows: tuple[Row, ...]
    images: tuple[Scored, ...]
    published: tuple[Beside, ...] = ()

    @property
    def seeds(self) -> tuple[int, ...]:
        """In ascending order."""
        return tuple(sorted({row["seed"] for row in self.rows}))

    @property
    def tested(self) -> tuple[int, int]:
        """Normal and defective test images of the first seed, over all categories."""
        first = [row for row in self.rows if row["seed"] == self.seeds[0]]
        return sum(row["test_normal"] for row in first), sum(row["test_defects"] for row in first)

    @property
    def contents(self) -> frozenset[str]:
        """The test images of all seeds and categories."""
        return frozenset(image for images in self.images for image in images.images)

    def measured(self, metric: str) -> dict[Run, Measured]:
        """A metric of each seed and category that has it; what was tested on the same images goes together."""
        found = {}
        for row, images in zip(self.rows, self.images, strict=True):
            if row.get(metric) is not None:  # runs of older versions have fewer
                found[_run(row, images)] = Measured(row[metric], influence_on(metric, images))
        return found

    @property
    def runs(self) -> frozenset[Run]:
        """What its metrics are paired by."""
        return frozenset(_run(row, images) for row, images in zip(self.rows, self.images, strict=True))

    @property
    def categories(self) -> dict[str, str]:
        """What a run's `tested` says -> the category that this is of."""
        rows = zip(self.rows, self.images, strict=True)
        return {_run(row, images).tested: row["category"] for row, images in rows}


def _run(row: Row, images: Scored) -> Run:
    return Run(row["seed"], images.key, images.key)


def read_runs(folders: Sequence[Path]) -> list[Entry]:
    """The trials of runs' folders, named by the folder (its overrides, where these tell them apart), and by trial where
    a folder has several.

    Raises:
        ConfigError: a folder is no run's.
        ArtifactError: a file is damaged.
    """
    resolved = [folder.resolve() for folder in folders]
    titles = [_TIME.sub("", folder.name) for folder in resolved]
    if len(set(titles)) < len(titles):
        titles = [folder.name for folder in resolved]
    if len(set(titles)) < len(titles):
        titles = [f"{folder.parent.name}/{folder.name}" for folder in resolved]
    return [entry for folder, title in zip(resolved, titles, strict=True) for entry in _entries(folder, title)]


def _entries(folder: Path, title: str) -> list[Entry]:
    if missing := [name for name in (TRIALS, PREDICTIONS, RESOLVED, DIGEST) if not (folder / name).is_file()]:
        raise ConfigError(f"{folder}: not the results of a run or a sweep (it has no {missing[0]})")
    try:
        rows = pq.read_table(folder / TRIALS, filters=[("state", "=", "done")]).to_pylist()
        images = _images(pq.read_table(folder / PREDICTIONS))
        documents = list(yaml.load_all((folder / RESOLVED).read_text(encoding="utf-8"), yaml.CSafeLoader))
        configs = {config["name"]: _flat(config) for config in reversed(documents)}
        names = list(dict.fromkeys(row["name"] for row in rows))
        titles = {name: title if len(names) == 1 else f"{title} · {name}" for name in names}
        found = [_entry(titles[name], configs[name], name, rows, images) for name in names]
        digest = json.loads((folder / DIGEST).read_text(encoding="utf-8"))
        beside = [Beside(**one) for one in digest.get("published", ())]
        return [
            replace(entry, published=tuple(replace(one, point=entry.name) for one in beside if one.point == name))
            for name, entry in zip(names, found, strict=True)
        ]
    except (pa.ArrowInvalid, OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise ArtifactError(f"{folder}: damaged results ({' '.join(str(error).split())})") from error


_Key = tuple[str, str, str, int]  # name of a trial, dataset, category, seed


def _entry(title: str, config: Row, name: str, rows: Sequence[Row], images: Mapping[_Key, Scored]) -> Entry:
    mine = tuple(row for row in rows if row["name"] == name)
    return Entry(title, config, mine, tuple(images[_key(row)] for row in mine))


def _key(row: Row) -> _Key:
    return row["name"], row["dataset"], row["category"], row["seed"]


def _images(predictions: pa.Table) -> dict[_Key, Scored]:
    groups: dict[_Key, list[Row]] = {}
    for row in predictions.to_pylist():
        groups.setdefault(_key(row), []).append(row)
    return {
        key: Scored(
            tuple(row["content"] for row in rows),
            np.array([row["label"] for row in rows]),
            np.array([row["score"] for row in rows]),
        )
        for key, rows in groups.items()
    }


def _flat(config: Row, above: str = "") -> dict[str, Any]:
    """A nested config by dotted keys; lists stay whole."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        found |= _flat(value, f"{above}{key}.") if isinstance(value, Mapping) else {f"{above}{key}": value}
    return found
