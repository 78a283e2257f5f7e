"""The folder of an exported detector: what is in it, and whether it is whole."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from exdd_ray.errors import UserError
from exdd_ray.line.geometry import Geometry

FORMAT = 1
MANIFEST, GRAPH, WEIGHTS, ONNX = "manifest.json", "graph.pt2", "weights.safetensors", "model.onnx"


class ModelError(UserError):
    """A folder that is no exported detector, or one that was altered, cut short, or written by a newer version."""


@dataclass(frozen=True)
class Threshold:
    """From which score on an image is defective.

    Attributes:
        value: of the score.
        rule: how it was chosen, in words.
    """

    value: float
    rule: str


@dataclass(frozen=True)
class Manifest:
    """What an exported detector says of itself.

    Attributes:
        detector: its method's kind.
        geometry: from decoded pixels to the network's input.
        bit_depth: of grey values in 16-bit files; None is all 16.
        map_scale: values of anomaly maps that are black and white in pictures.
        threshold: None where none was chosen: verdicts are then not given.
        lineage: what it was made of and by: versions, the experiment's config, keys.
        metrics: as they were evaluated; `<metric>_low` and `_high` are the ends of 95 % intervals.
        proof: how far the scores of written graphs are from those that were evaluated.
        files: name -> SHA-256 of the folder's other files.
        format: of the folder.
    """

    detector: str
    geometry: Geometry
    bit_depth: int | None
    map_scale: tuple[float, float]
    threshold: Threshold | None
    lineage: Mapping[str, Any]
    metrics: Mapping[str, Any]
    proof: Mapping[str, Any]
    files: Mapping[str, str] = field(default_factory=dict)
    format: int = FORMAT


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write a manifest, with the checksums of what is beside it."""
    files = {path.name: checksum(path) for path in sorted(folder.iterdir()) if path.name != MANIFEST}
    text = json.dumps({**asdict(manifest), "files": files}, indent=1)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder whose files are as they were written.

    Raises ModelError naming the folder or the file, and the reason.
    """
    given = _parsed(folder)
    if (found := given.get("format")) != FORMAT:
        newer = f"format {found} is newer than {FORMAT}, which this version reads: update exdd-ray"
        raise ModelError(f"{folder}: {newer if isinstance(found, int) and found > FORMAT else 'no exported detector'}")
    try:
        geometry = Geometry(**{name: _sized(value) for name, value in given.pop("geometry").items()})
        threshold = given.pop("threshold")
        scale = _sized(given.pop("map_scale"))
        manifest = Manifest(**given, geometry=geometry, map_scale=scale, threshold=threshold and Threshold(**threshold))
    except (TypeError, KeyError) as error:
        raise ModelError(f"{folder / MANIFEST}: altered or cut short ({error})") from error
    for name, known in manifest.files.items():
        if not (folder / name).is_file():
            raise ModelError(f"{folder}: {name} is missing")
        if checksum(folder / name) != known:
            raise ModelError(f"{folder / name}: altered or cut short since it was exported (its checksum differs)")
    return manifest


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _parsed(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{folder}: no exported detector ({MANIFEST}: {error.strerror})") from error
    except ValueError as error:
        raise ModelError(f"{path}: altered or cut short (not valid JSON)") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path}: altered or cut short (no JSON object)")
    return found


def _sized(value: Any) -> Any:
    """Lists of JSON as the tuples that they were."""
    return tuple(value) if isinstance(value, list) else value
