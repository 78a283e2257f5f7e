"""A small sweep's results folder, with its store, for the tests of the trackers; and readers of what W&B writes."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from PIL import Image

from exdd_ray.data.procedural.defects import add_defect
from exdd_ray.data.procedural.surfaces import make_surface
from exdd_ray.experiment.config import ExperimentConfig
from exdd_ray.store.arrays import write_arrays
from exdd_ray.store.artifact import Recipe, Store

KEY = "0123456789abcdef" * 2 + "01234567"
NAME = "how many's best"
CATEGORIES, SEEDS, COUNTS = ("wood", "ceramic"), (0, 1), (10, 50)
ERROR = "wood/3.png: the file is empty"
REMARK = "leakage: training defects were taken from the test split"
SCORES = {"good": (0.1, 0.2, 0.8), "scratch": (0.9, 0.4, 0.15)}  # good/2 above two scratches, scratch/2 below two goods
NAMES = {count: f"count={count}" for count in COUNTS}
CHOSEN = NAMES[50]


def make_sweep(folder: Path, name: str = NAME, **tracking: Any) -> Path:
    """Four trials a point, of which the last one failed."""
    store, results = Store(folder / "store"), folder / "results"
    results.mkdir(parents=True)
    made = {count: _made_from(store, count) for count in COUNTS}
    images = {category: _images(folder / category, category) for category in CATEGORIES}
    rows = [
        _row(store, number, count, seed, category, made[count], images[category])
        for number, count in enumerate(COUNTS)
        for seed in SEEDS
        for category in CATEGORIES
    ]
    pq.write_table(pa.Table.from_pylist(rows), results / "trials.parquet")
    pq.write_table(pa.Table.from_pylist([_point(number) for number in range(len(COUNTS))]), results / "summary.parquet")
    config = {"name": name, "store": str(folder / "store"), "seeds": list(SEEDS), "tracking": tracking}
    config |= {
        "objectives": ["image_auroc", "bank_vectors"],
        "space": {"synthesizer.count": list(COUNTS)},
        "synthesizer": {"kind": "per_region"},
    }
    (results / "sweep.yaml").write_text(yaml.safe_dump(config))
    (results / "resolved.yaml").write_text("seed: 0\n---\nseed: 1\n")
    (results / "report.html").write_text("<p>a report</p>")
    (results / "plan.json").write_text(json.dumps(_plan()))
    (results / "summary.json").write_text(json.dumps(_facts()))
    return results


def _made_from(store: Store, count: int) -> list[str]:
    def build(folder: Path) -> None:
        (folder / "vectors.bin").write_bytes(bytes(count * 1000))

    stages = {"embed": {}, "synthesis": {"count": count}, "bank": {"count": count}}
    return [store.make(Recipe(stage, 1, how), build).key for stage, how in stages.items()]


def _images(folder: Path, category: str) -> list[dict[str, Any]]:
    folder.mkdir()
    found = []
    for kind, scores in SCORES.items():
        for i, score in enumerate(scores):
            rng = np.random.default_rng([i, len(kind)])
            image, mask, path = make_surface(category, (40, 48), rng), None, folder / f"{kind}{i}.png"
            if kind != "good":
                image, pixels = add_defect(image, kind, rng)
                mask = str(folder / f"{kind}{i}-mask.png")
                Image.fromarray(pixels.astype(np.uint8) * 255).save(mask)
            Image.fromarray(image).save(path)
            about = {"id": path.name, "label": int(kind != "good"), "defect": kind, "image": str(path)}
            found.append({**about, "mask": mask, "mask_threshold": 127, "score": score})
    return found


def _row(
    store: Store, number: int, count: int, seed: int, category: str, made: list[str], images: list[dict[str, Any]]
) -> dict[str, Any]:
    failed = (count, seed, category) == (COUNTS[-1], SEEDS[-1], CATEGORIES[-1])
    metrics = {"image_auroc": 0.5 + count / 1000 + seed / 10, "aupro": None, "bank_vectors": count * 2}
    metrics |= {"validation_image_auroc": 0.6 + count / 1000, "milliseconds": float("nan")}
    settings = {"variant": "DIAG", "synthesizer.count": count, "layers": ["layer2", "layer3"], "purify": count > 20}

    def build(folder: Path) -> dict[str, Any]:
        config = {"synthesizer": {"kind": "per_region", "count": count}, "seed": seed}
        (folder / "config.json").write_text(ExperimentConfig.model_validate(config).model_dump_json())
        splits = [{**image, "split": split} for split in ("test", "validation") for image in images]
        pq.write_table(pa.Table.from_pylist(splits), folder / "predictions.parquet")
        steps = np.linspace(0, 1, 20)
        curves = {"image_roc_x": steps, "image_roc_y": np.sqrt(steps), "image_pr_x": steps, "image_pr_y": 1 - steps / 2}
        write_arrays(folder / "curves.arrow", curves)
        heat = np.linspace(0, 1, len(images) * 12, dtype=np.float32).reshape(len(images), 3, 4)
        write_arrays(folder / "maps.arrow", {"row": np.arange(len(images), dtype=np.int32), "map": heat})
        return {**metrics, "milliseconds": None, "stages": made, "seconds": 1.5}

    recipe = Recipe("trial", 1, {"count": count, "seed": seed, "category": category})
    return {
        "number": number,
        "name": NAMES[count],
        "settings": json.dumps(settings),
        "seed": seed,
        "dataset": "procedural",
        "category": category,
        "state": "failed" if failed else "done",
        "error": ERROR if failed else "",
        "artifact": "" if failed else store.make(recipe, build).key,
        **(dict.fromkeys(metrics) if failed else metrics),
        "remarks": "" if failed else REMARK,
    }


def _point(number: int) -> dict[str, Any]:
    about = {"number": number, "name": NAMES[COUNTS[number]], "settings": json.dumps({"synthesizer.count": number})}
    about |= {"runs": 4 - number, "failed": number, "baseline": number == 0, "chosen": number == 1, "pareto": True}
    noise = {"difference": 0.0, "difference_half": None, "p": None, "within_noise": None}
    means = {"image_auroc": 0.56 + number / 25, "image_auroc_half": 0.1}
    return {**about, **means, **{f"image_auroc_{key}": value for key, value in noise.items()}}


def _plan() -> dict[str, Any]:
    stage = {"stage": "embedding", "what": "images", "distinct": 1, "in_store": 0, "uses": 8, "seconds": 30.5}
    other = {"stage": "synthesis", "what": "chunks", "distinct": 2, "in_store": 0, "uses": 8, "seconds": None}
    return {"trials": 8, "stages": [stage, other], "seconds": 40.0, "cores": 2, "host": "here", "written": "now"}


def _facts() -> dict[str, Any]:
    about = {"name": NAME, "objectives": ["image_auroc", "bank_vectors"], "select": "validation", "trials": 8}
    return {**about, "baseline": NAMES[10], "chosen": CHOSEN, "failed": 1, "remarks": [REMARK], "reasons": {ERROR: 1}}


_BLOCK = 32768


def records(run: str) -> list[Any]:
    """What an offline run of W&B holds: records in LevelDB's log format behind a header of seven bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = Path(run).glob("*.wandb")
    content, at, part = file.read_bytes(), 7, b""
    found = []
    while at + 7 <= len(content):
        if (room := _BLOCK - at % _BLOCK) < 7:
            at += room
            continue
        _, length, kind = struct.unpack_from("<IHB", content, at)
        part += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or its last part
            found.append(Record.FromString(part))
            part = b""
    return found


def of_kind(run: str, kind: str) -> list[Any]:
    return [getattr(record, kind) for record in records(run) if record.WhichOneof("record_type") == kind]


def summary(run: str) -> dict[str, Any]:
    updates = [u for r in of_kind(run, "summary") for u in r.update]
    return {"/".join(update.nested_key) or update.key: json.loads(update.value_json) for update in updates}


def artifacts(run: str, kind: str) -> dict[str, dict[str, Path]]:
    """Files of a run's artifacts of a type, by artifact and name."""
    found = [artifact for artifact in of_kind(run, "artifact") if artifact.type == kind]
    return {one.name: {entry.path: Path(entry.local_path) for entry in one.manifest.contents} for one in found}
