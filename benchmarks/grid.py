"""Every detector x number of real defects x synthesizer (sweeps/grid.py), on made, magnetic and solar surfaces.

Of each dataset 100 normal images and 40 defective ones are for training, 80 and 80 others are tested, always the same.
Banks and heads are on ImageNet's ResNet-18. What is in the store is not made again, so it can be cut off and gone on
with, seed by seed (`--seeds 0`, then `--seeds 0 1`); the time of all calls is added up. Then each detector alone, and
each synthesizer with the dual bank, is run once as a user would: a process of its own, an empty store. Prints Markdown
tables, then the JSON line. `--elpv` is the folder of labels.csv, as `pip download elpv-dataset` has it.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from common import CACHE, SHARED, copy_images, report, tiles

from exdd_ray.config.base import merge
from exdd_ray.data.catalog import CatalogRow, catalog_rows
from exdd_ray.data.datasets import load_dataset
from exdd_ray.data.procedural.dataset import ProceduralSpec, write_procedural_dataset
from exdd_ray.experiment.crossed import Combination, GridConfig, combinations, read_grid
from exdd_ray.experiment.sweep_config import SweepConfig
from exdd_ray.report.grid_table import as_markdown, cells_of, failures, rows_across, rows_of
from exdd_ray.report.results import Results, read_results

FOLDER = CACHE.resolve() / "grid"
SCRIPT = Path(__file__).parents[1] / "sweeps/grid.py"
TRAINED, TESTED = (100, 40), (80, 80)  # normal and defective images
ALONE = 20  # real defects of a single run
IMAGENET = SHARED.resolve() / "weights"
BACKBONES = {
    "supersimplenet": {"backbone": "resnet18", "weights": f"{IMAGENET}/resnet18_in1k_conv1-layer3.safetensors"},
    "classifier": {
        "backbone": "squeezenet1_1",
        "weights": f"{IMAGENET}/squeezenet1_1_in1k.safetensors",
        "layers": ["features"],
    },
}
BACKBONES |= dict.fromkeys(("patch_bank", "padim"), BACKBONES["supersimplenet"])
MATERIAL = "textile"


class Alone(NamedTuple):
    """A run by itself: seconds, and the most memory that it had in GiB."""

    seconds: float
    memory: float


def folders(elpv: Path | None) -> Iterator[Path]:
    """The datasets, as folders with a split of their own; made where they are not there."""
    made = FOLDER / "made"
    if not made.is_dir():
        spec = ProceduralSpec(
            size=(160, 160),
            materials=(MATERIAL,),
            normal_train=TRAINED[0],
            normal_test=TESTED[0],
            per_kind=30,
        )
        write_procedural_dataset(made, spec)
    yield _split(catalog_rows(load_dataset("folder", made / MATERIAL)), "procedural")
    yield _split(catalog_rows(tiles()), "magnetic tile")
    if elpv is not None:
        yield _split([row for row in catalog_rows(load_dataset("elpv", elpv)) if row.category == "mono"], "elpv")


def _split(rows: Sequence[CatalogRow], name: str) -> Path:
    folder, rng = FOLDER / name, np.random.default_rng(0)
    if folder.is_dir():
        return folder
    unfinished = FOLDER / f".{name}"
    shutil.rmtree(unfinished, ignore_errors=True)
    for label, kind in enumerate(("good", "defect")):
        pool = [row for row in rows if row.label == label]
        order = [pool[at] for at in rng.permutation(len(pool))]
        cut = TRAINED[label]
        for split, chosen in (("train", order[:cut]), ("test", order[cut : cut + TESTED[label]])):
            copy_images(chosen, unfinished / split / kind, unfinished / "ground_truth" / kind)
    return unfinished.rename(folder)


def grid() -> GridConfig:
    """The bundled grid on ImageNet's features."""
    config = read_grid()
    detectors = {name: _on_imagenet(given) for name, given in config.detectors.items()}
    return config.model_copy(update={"detectors": detectors})


def _on_imagenet(given: dict[str, Any]) -> dict[str, Any]:
    backbone = BACKBONES.get(given.get("kind", "patch_bank"))
    return merge({"features": backbone}, given) if backbone else given


def sweep(config: GridConfig, datasets: Sequence[Path], seeds: Sequence[int]) -> float:
    """Run what the store lacks; seconds of all calls so far."""
    file, spent = FOLDER / "grid.yaml", FOLDER / "seconds.json"
    file.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    places = [f"store={FOLDER / 'store'}", f"output={FOLDER / 'results'}", f"seeds={list(seeds)}"]
    earlier = json.loads(spent.read_text()) if spent.is_file() else []
    started = time.perf_counter()
    try:
        subprocess.run([sys.executable, SCRIPT, "--grid", file, "--datasets", *datasets, *places], check=True)
    finally:  # what it made stays in the store when it is cut off
        calls = [*earlier, time.perf_counter() - started]
        spent.write_text(json.dumps(calls))
    return sum(calls)


def alone(one: Combination, dataset: Path) -> Alone:
    """One combination as a run of its own, with an empty store."""
    place = FOLDER / "alone"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    given = {"dataset": {"name": "folder", "root": str(dataset)}, "evaluation": {"bootstrap": 0}}  # as in the grid
    (place / "run.yaml").write_text(yaml.safe_dump({**given, "variants": {"it": dict(one.changes)}}))
    words = [sys.executable, "-m", "exdd_ray.cli.main", "run", f"{place / 'run.yaml'}", f"store={place / 'store'}"]
    with (place / "log").open("w") as log:
        started = time.perf_counter()
        child = subprocess.Popen([*words, f"output={place / 'out'}"], stdout=log, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(child.pid, 0)
    if status:
        sys.exit(f"{one.name}: {(place / 'log').read_text()[-2000:]}")
    return Alone(time.perf_counter() - started, used.ru_maxrss / 2**20)


def each_alone(config: GridConfig, dataset: Path) -> dict[str, Alone]:
    """Each detector without synthetic defects, and each synthesizer with the first detector that takes all of them."""
    config = config.model_copy(update={"counts": (ALONE,)})
    compared = combinations(config)
    painted = next(one.detector for one in compared if one.synthesizer)
    runs = [one for one in compared if not one.synthesizer or one.detector == painted]
    return {one.synthesizer or one.detector: alone(one, dataset) for one in runs}


def tables(config: GridConfig, single: dict[str, Alone], found: Results) -> Iterator[str]:
    """As Markdown: of each dataset, across them, and what a run alone takes."""
    swept = SweepConfig(objectives=("image_auroc",), select="test")
    cells = cells_of(found.table, found.predictions, swept, combinations(config))
    for dataset in dict.fromkeys(place for place, _ in cells):
        yield f"## {Path(dataset).name}\n\n{as_markdown(*rows_of(cells, dataset))}"
    header, rows = rows_across(cells, ALONE)
    header = tuple(Path(name).name for name in header)
    yield f"## With {ALONE} real defects\n\n{as_markdown(header, rows)}"
    yield "\n".join(f"- {reason}" for reason in failures(cells))
    published = config.published
    told = [(name, f"{run.seconds:.0f}", f"{run.memory:.1f}", published.get(name, "")) for name, run in single.items()]
    yield f"## Alone\n\n{as_markdown(('run alone', 'seconds', 'GiB', 'published, on its own data'), told)}"


def main() -> int:
    """Sweep, single runs, tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--elpv", type=Path, help="folder of elpv's labels.csv")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    config, datasets = grid(), list(folders(options.elpv))
    seconds = sweep(config, datasets, options.seeds)
    single = each_alone(config, datasets[1])
    found = read_results(FOLDER / "results")
    for table in tables(config, single, found):
        print(f"{table}\n")
    reasons = Counter(reason for reason in found.table["error"].to_pylist() if reason)
    together = sum(one.seconds for one in single.values())
    figures = {
        "trials": found.table.num_rows,
        "failed": sum(reasons.values()),
        "reasons": dict(reasons),
        "over_single": round(seconds / together, 2),
        "grid_seconds": round(seconds),
        "single_seconds": round(together),
        "seeds": options.seeds,
    }
    report("The grid", ("", ""), [(name, str(value)) for name, value in figures.items()], figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
