"""Checkpoints of a training run: safetensors and JSON, written beside and renamed, so whole or not there."""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from exdd_ray.training.learner import Learner, Sample, TrainingError, Value

WEIGHTS, AVERAGED = "weights.safetensors", "averaged.safetensors"
_OPTIMIZERS, _STATE = "optimizers.safetensors", "state.json"
_PREFIX = "step-"

Averages = Mapping[str, AveragedModel]


@dataclass(frozen=True)
class TrainingProgress:
    """How far a run is.

    Attributes:
        steps: done.
        losses: of each of them.
        micro_batch: in use.
        best_step: steps done at the best validation; None before the first.
        best_value: what it gave.
        threads: of torch; 0 where it is not known.
    """

    steps: int
    losses: tuple[float, ...]
    micro_batch: int
    best_step: int | None = None
    best_value: Value | None = None
    threads: int = 0


def checkpoint_folder(checkpoints: Path, steps: int) -> Path:
    """Where the checkpoint after so many steps lies."""
    return checkpoints / f"{_PREFIX}{steps:08d}"


def latest_checkpoint(checkpoints: Path) -> Path | None:
    """The checkpoint of the most steps."""
    return max(checkpoints.glob(f"{_PREFIX}*"), default=None)


def save_checkpoint(
    checkpoints: Path,
    learner: Learner[Sample],
    averages: Averages,
    reached: TrainingProgress,
    *,
    keep_all: bool = False,
) -> None:
    """Write a checkpoint; of the older ones only that of the best validation is kept, or all."""
    folder = checkpoint_folder(checkpoints, reached.steps)
    if folder.is_dir():
        return
    unfinished = checkpoints / f"unfinished-{os.getpid()}"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    write_modules(unfinished / WEIGHTS, learner.modules)
    if averages:
        write_modules(unfinished / AVERAGED, averages)
    tensors, scalars = _optimizer_states(learner)
    save_file(tensors, unfinished / _OPTIMIZERS)
    schedules = [None if schedule is None else schedule.state_dict() for schedule in learner.schedulers]
    state = {"reached": asdict(reached), "optimizers": scalars, "schedulers": schedules}
    (unfinished / _STATE).write_text(json.dumps(state), encoding="utf-8")
    unfinished.rename(folder)
    if keep_all:
        return
    for other in checkpoints.glob(f"{_PREFIX}*"):
        if other not in (folder, checkpoint_folder(checkpoints, reached.best_step or reached.steps)):
            shutil.rmtree(other)


def load_checkpoint(folder: Path, learner: Learner[Sample], averages: Averages) -> TrainingProgress:
    """Put networks, averages, optimisers and schedules where a checkpoint has them.

    Raises TrainingError for a damaged checkpoint, and for one of another architecture or of other optimisers.
    """
    try:
        state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        tensors = load_file(folder / _OPTIMIZERS)
    except (OSError, ValueError, SafetensorError) as error:
        raise TrainingError(f"{folder}: damaged checkpoint ({error}): remove it to train anew") from error
    read_modules(folder / WEIGHTS, learner.modules)
    if averages:
        read_modules(folder / AVERAGED, averages)
    if (len(state["optimizers"]), len(state["schedulers"])) != (len(learner.optimizers), len(learner.schedulers)):
        raise TrainingError(f"{folder}: a checkpoint with other optimisers")
    for number, (optimizer, scalars) in enumerate(zip(learner.optimizers, state["optimizers"], strict=True)):
        _restore(folder, optimizer, scalars, _under(tensors, f"{number}."))
    for schedule, saved in zip(learner.schedulers, state["schedulers"], strict=True):
        if schedule is not None:
            schedule.load_state_dict(saved)
    reached = state["reached"]
    return TrainingProgress(**{**reached, "losses": tuple(reached["losses"])})


def write_modules(path: Path, modules: Mapping[str, nn.Module]) -> None:
    """Parameters and buffers of networks as one safetensors file."""
    states = ((name, module.state_dict()) for name, module in modules.items())
    tensors = {f"{name}.{key}": _plain(value) for name, state in states for key, value in state.items()}
    save_file(tensors, path)


def infinite_tensor(modules: Mapping[str, nn.Module]) -> str:
    """The first parameter or buffer that has a value that is not finite; empty where all are."""
    for name, module in modules.items():
        for key, value in module.state_dict().items():
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                return f"{name}.{key}"
    return ""


def read_modules(path: Path, modules: Mapping[str, nn.Module]) -> None:
    """Fill networks from a file of `write_modules`.

    Raises TrainingError naming the first difference where it is of another architecture, or not readable.
    """
    try:
        given = load_file(path)
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"{path}: not a readable checkpoint ({error})") from error
    wanted = {f"{name}.{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    for key in sorted(wanted.keys() ^ given.keys()):
        raise TrainingError(f"{path}: a checkpoint of another architecture: it {_has(key in given)} {key!r}")
    for key, value in wanted.items():
        if given[key].shape != value.shape:
            found, here = tuple(given[key].shape), tuple(value.shape)
            raise TrainingError(f"{path}: a checkpoint of another architecture: {key!r} is {found}, here {here}")
    for name, module in modules.items():
        module.load_state_dict(_under(given, f"{name}."))


def _has(there: bool) -> str:
    return "has" if there else "lacks"


def _plain(value: Tensor) -> Tensor:
    return value.detach().to("cpu", copy=True).contiguous()  # copied: tied weights may not share memory in the file


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _optimizer_states(learner: Learner[Sample]) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Tensors by `optimizer.parameter.name`, and the rest as JSON values."""
    tensors: dict[str, Tensor] = {}
    scalars: list[dict[str, Any]] = []
    for number, optimizer in enumerate(learner.optimizers):
        state = optimizer.state_dict()
        rest: dict[str, dict[str, Any]] = {}
        for at, values in state["state"].items():
            named = {name: value for name, value in values.items() if isinstance(value, Tensor)}
            tensors |= {f"{number}.{at}.{name}": _plain(value) for name, value in named.items()}
            rest[str(at)] = {name: value for name, value in values.items() if name not in named}
        scalars.append({"state": rest, "groups": state["param_groups"]})
    return tensors, scalars


def _restore(folder: Path, optimizer: Optimizer, scalars: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Any]] = {int(at): dict(values) for at, values in scalars["state"].items()}
    try:
        for key, value in tensors.items():
            at, _, name = key.partition(".")
            state[int(at)][name] = _laid_out(value, parameters[int(at)])
        optimizer.load_state_dict({"state": state, "param_groups": scalars["groups"]})
    except (ValueError, IndexError, KeyError) as error:
        raise TrainingError(f"{folder}: a checkpoint with other optimisers ({error})") from error


def _laid_out(value: Tensor, parameter: Tensor) -> Tensor:
    """The value in the parameter's memory layout: another one may round differently."""
    if value.shape != parameter.shape:
        return value
    return torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)
