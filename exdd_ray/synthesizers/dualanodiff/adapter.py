"""The adapter of a kind of defect as a file: all that is trained, the settings of the training, and its base."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from exdd_ray.errors import UserError
from exdd_ray.synthesizers.dualanodiff.boxes import Box
from exdd_ray.synthesizers.dualanodiff.config import DualTuningConfig
from exdd_ray.synthesizers.dualanodiff.network import DualLayers, add_branches, ready_to_paint
from exdd_ray.synthesizers.painting.adapter import BASE, BASE_NAME, read_metadata
from exdd_ray.synthesizers.synthesizer import Model

FILE = "dualanodiff.safetensors"
_TUNING, _BOXES = "exdd_tuning", "exdd_boxes"  # in a file's metadata


def write_adapter(layers: DualLayers, tuning: DualTuningConfig, boxes: Sequence[Box], model: Model, file: Path) -> None:
    """Write what was trained, with its settings, the boxes that it knows and its base in the metadata."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in layers.state_dict().items()}
    described = {
        _TUNING: tuning.model_dump_json(),
        _BOXES: json.dumps(boxes),
        BASE: model.digest,
        BASE_NAME: model.name,
    }
    save_file(tensors, file, {"format": "pt", **described})


def tuning_of(file: Path) -> DualTuningConfig:
    """The settings that an adapter was trained with. Raises UserError for a file that is no adapter of DualAnoDiff."""
    try:
        return DualTuningConfig.model_validate_json(read_metadata(file).get(_TUNING, ""))
    except ValidationError as error:
        raise UserError(f"{file}: not an adapter of synthesizer.kind=dualanodiff") from error


def load_adapter(pipeline: Any, file: Path, base: str, model: str) -> tuple[DualTuningConfig, list[Box]]:
    """Have a pipeline denoise with an adapter; gives the settings and the boxes that it was trained with.

    Args:
        base: digest of the pipeline's model.
        model: its name.

    Raises:
        UserError: a file that is no safetensors file (a pickle runs code), no adapter, one of another base, or one from
            before boxes were kept.
    """
    tuning, metadata = tuning_of(file), read_metadata(file)
    layers, given = add_branches(pipeline, tuning, seed=0), load_file(file)
    wanted = layers.state_dict()
    for name in sorted(wanted.keys() | given.keys()):
        shapes = [tuple(tensors[name].shape) if name in tensors else None for tensors in (given, wanted)]
        if shapes[0] != shapes[1]:
            raise UserError(
                f"{file}: an adapter of a base of another size than {model}: its {name.replace('|', '.')} is "
                f"{shapes[0]}, the model takes {shapes[1]}"
            )
    if metadata.get(BASE) != base:
        raise UserError(f"{file}: an adapter of {metadata.get(BASE_NAME, 'another model')}, not of {model}")
    if _BOXES not in metadata:
        raise UserError(f"{file}: an adapter that does not say in which boxes it has learnt to paint: train it again")
    layers.load_state_dict(given)
    ready_to_paint(pipeline, layers)
    return tuning, [(top, bottom, left, right) for top, bottom, left, right in json.loads(metadata[_BOXES])]
