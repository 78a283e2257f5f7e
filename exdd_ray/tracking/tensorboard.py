"""A sweep in TensorBoard: an event file for each trial, with what its HPARAMS tab compares them by."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from exdd_ray.tracking.tracked import TrackedSweep, TrialRow, plain

FOLDER = "tensorboard"
_EVENTS = "events.out.tfevents.*"
_NOT_IN_NAMES = re.compile(r"[^\w.=+-]+")
_LONGEST_NAME = 150
Hyperparameter = str | float | bool


def log_sweep(sweep: TrackedSweep) -> Path:
    """Write one run a trial; what earlier calls wrote is replaced, runs of trials that are no longer there too.

    Returns:
        The folder, `tensorboard` in the results', as for `tensorboard --logdir`.
    """
    folder = sweep.folder / FOLDER
    found = hyperparameters(sweep.trials)
    every = {key: value for mine in found for key, value in mine.items()}
    for old in folder.glob(f"*/{_EVENTS}"):
        old.unlink()
    for number, (row, mine) in enumerate(zip(sweep.trials, found, strict=True)):
        name = _NOT_IN_NAMES.sub("_", f"{number:04d} {row.title}")[:_LONGEST_NAME]
        _write(folder / name, row, mine, _compared(every, sweep.metrics))
    return folder


def hyperparameters(trials: tuple[TrialRow, ...]) -> list[dict[str, Hyperparameter]]:
    """Each trial's settings, category, dataset and seed.

    A key has one type in all of them: text where its values are neither all numbers nor all booleans. A setting of None
    is left out.
    """
    found = [{**row.settings, "dataset": row.dataset, "category": row.category, "seed": row.seed} for row in trials]
    kinds = {key: {_type(mine[key]) for mine in found if mine.get(key) is not None} for mine in found for key in mine}
    return [
        {key: _typed(value, kinds[key]) for key, value in mine.items() if value is not None}  # one a line
        for mine in found
    ]


def _type(value: Any) -> type:
    return bool if isinstance(value, bool) else float if isinstance(value, int | float) else str


def _typed(value: Any, kinds: set[type]) -> Hyperparameter:
    if kinds == {bool} or kinds == {float}:
        return bool(value) if kinds == {bool} else float(value)
    scalar = plain(value)
    return scalar if isinstance(scalar, str) else json.dumps(scalar)


def _compared(every: Mapping[str, Hyperparameter], metrics: tuple[str, ...]) -> Any:
    """What there is to compare, as TensorBoard reads it from the first run that it finds: the same in each."""
    from tensorboardX.summary import hparams

    return hparams(dict(every), dict.fromkeys(metrics))[0]


def _write(folder: Path, row: TrialRow, mine: Mapping[str, Hyperparameter], compared: Any) -> None:
    from tensorboardX import SummaryWriter
    from tensorboardX.summary import hparams

    _, start, end = hparams(dict(mine), {})
    with SummaryWriter(str(folder)) as writer:
        for part in (compared, start, end if row.artifact is not None else _failed(end)):
            writer.file_writer.add_summary(part)
        for name, value in row.metrics.items():
            writer.add_scalar(name, value, 0)
        if text := row.error or row.remarks:
            writer.add_text("error" if row.error else "remarks", text.replace("\n", "\n\n"), 0)  # Markdown


def _failed(end: Any) -> Any:
    """The end of a session, with the status of a failed one."""
    from tensorboardX.proto.api_pb2 import Status
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

    plugin = end.value[0].metadata.plugin_data
    content = HParamsPluginData.FromString(plugin.content)
    content.session_end_info.status = Status.Value("STATUS_FAILURE")
    plugin.content = content.SerializeToString()
    return end
