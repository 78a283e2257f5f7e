import json
import struct
from pathlib import Path
from typing import Any

import pytest
from tracking_inputs import ERROR, REMARK, make_sweep

from exdd_ray.tracking.tensorboard import hyperparameters, log_sweep
from exdd_ray.tracking.tracked import TrialRow, tracked_sweep


def values(run: Path) -> dict[str, Any]:
    """All of an event file by tag; a record is a length, its checksum, an event, its checksum."""
    from tensorboardX.proto.event_pb2 import Event

    (file,) = run.iterdir()
    content, at, found = file.read_bytes(), 0, {}
    while at < len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        event = Event.FromString(content[at + 12 : at + 12 + length])
        found |= {value.tag: value for value in event.summary.value}
        at += 16 + length
    return found


def plugin(found: dict[str, Any], name: str) -> Any:
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

    data = found[f"_hparams_/{name}"].metadata.plugin_data
    assert data.plugin_name == "hparams"
    return getattr(HParamsPluginData.FromString(data.content), name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_sweep(tmp_path_factory.mktemp("sweep"))
    log_sweep(tracked_sweep(folder))
    return folder


def test_every_trial_is_a_run_with_its_metrics(folder: Path) -> None:
    runs, trials = sorted((folder / "tensorboard").iterdir()), tracked_sweep(folder).trials
    assert runs[0].name == "0000_count=10_wood_seed_0"
    for run, row in zip(runs, trials, strict=True):
        found = values(run)
        scalars = {tag: value.simple_value for tag, value in found.items() if value.HasField("simple_value")}
        assert scalars == pytest.approx(dict(row.metrics))
        (text,) = [value.tensor.string_val[0].decode() for tag, value in found.items() if "text_summary" in tag]
        assert text == (ERROR if row.artifact is None else REMARK)


def test_hparams_tab_compares_the_settings(folder: Path) -> None:
    sweep = tracked_sweep(folder)
    experiments, statuses = set(), []
    for run, row in zip(sorted((folder / "tensorboard").iterdir()), sweep.trials, strict=True):
        found = values(run)
        session = plugin(found, "session_start_info").hparams
        assert session["synthesizer.count"].number_value == row.settings["synthesizer.count"]
        assert session["seed"].number_value == row.seed
        assert session["category"].string_value == row.category
        assert session["purify"].bool_value == row.settings["purify"]
        assert json.loads(session["layers"].string_value) == ["layer2", "layer3"]
        experiments.add(plugin(found, "experiment").SerializeToString())
        statuses.append(plugin(found, "session_end_info").status)
    assert len(experiments) == 1  # whichever run TensorBoard reads it from
    experiment = plugin(values(run), "experiment")
    assert {info.name.tag for info in experiment.metric_infos} == set(sweep.metrics)
    assert [info.name for info in experiment.hparam_infos][:2] == ["variant", "synthesizer.count"]
    assert statuses == [1] * 7 + [2]  # the last trial failed


def test_logging_again_replaces(folder: Path) -> None:
    before = {path.name for path in (folder / "tensorboard").iterdir()}
    log_sweep(tracked_sweep(folder))
    assert {path.name for path in (folder / "tensorboard").iterdir()} == before
    assert all(len(list(run.iterdir())) == 1 for run in (folder / "tensorboard").iterdir())


def test_a_hyperparameter_has_one_type_in_all_trials() -> None:
    def trial(**settings: Any) -> TrialRow:
        return TrialRow(0, "a", settings, 0, "d", "c", "", None, {}, "")

    trials = (trial(a=1, b=True, c="x", d=None), trial(a=0.5, b=False, c=2, d=3), trial(a=1, b=True, c=None, d=True))
    found = [{key: mine[key] for key in "abcd" if key in mine} for mine in hyperparameters(trials)]
    assert found == [
        {"a": 1.0, "b": True, "c": "x"},
        {"a": 0.5, "b": False, "c": "2", "d": "3"},
        {"a": 1.0, "b": True, "d": "true"},
    ]
