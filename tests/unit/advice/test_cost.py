"""The command that goes on with a candidate."""

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from exdd_ray.advice.candidates import Facts, as_sweep, candidates, read_advice_config
from exdd_ray.advice.cost import command
from exdd_ray.config.bundled import configs_folder
from exdd_ray.experiment.config import ExperimentConfig
from exdd_ray.experiment.space import load_run, points_ahead

FACTS = Facts(normal=60, defects=20, masked=20, split=False)
ALL = candidates(read_advice_config(), FACTS)
ROOT = Path("/tmp/parts")


def experiment(line: str) -> ExperimentConfig:
    """What a command line runs."""
    program, run, name, *overrides = shlex.split(line)
    assert (program, run) == ("exdd", "run")
    (point,) = points_ahead(load_run(configs_folder() / "experiments" / f"{name}.yaml", overrides))
    ((_, trial),) = point.trials
    return trial.config


@pytest.mark.parametrize("masked", [20, 12])
def test_every_candidate_is_run_as_it_was_compared(masked):
    facts = replace(FACTS, masked=masked)
    given = candidates(read_advice_config(), facts)
    points = points_ahead(as_sweep(ROOT, facts, given, 1))
    for candidate, point in zip(given, points, strict=True):
        ((_, compared),) = point.trials
        found = experiment(command(ROOT, candidate))
        assert found.detector == compared.config.detector
        assert found.synthesizer == compared.config.synthesizer
        assert (found.dataset.split.defects or 0) == candidate.defects
        assert not candidate.defects or found.dataset.split.draw == compared.config.dataset.split.draw


@pytest.mark.parametrize("root", ["/tmp/a b/parts", "/tmp/it's #1: {x}", "/tmp/größe=1"])
def test_any_root_is_read_back_from_the_shell(root):
    assert experiment(command(Path(root), ALL[0])).dataset.root == Path(root)
