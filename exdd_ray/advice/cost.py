"""What an advised candidate costs on this machine, and the command that goes on with it."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from exdd_ray.advice.candidates import Candidate
from exdd_ray.advice.within import Ran
from exdd_ray.device import compute_device
from exdd_ray.experiment.session import Session
from exdd_ray.experiment.speed import milliseconds
from exdd_ray.experiment.sweep_config import SweepConfig


@dataclass(frozen=True)
class Cost:
    """Of one candidate, as measured.

    Attributes:
        seconds: of its longest trial, beyond what the store had.
        normal, defects, synthetic: images that a trial learnt from.
        milliseconds: an image, of decoding, network, search and score.
        device: that these are of.
    """

    seconds: float
    normal: int
    defects: int
    synthetic: int
    milliseconds: float
    device: str


def cost_of(chosen: Candidate, ran: Ran, sweep: SweepConfig, session: Session) -> Cost:
    """What a candidate that was run costs; its milliseconds are measured here where the store has none."""
    outcomes = [one for one in ran.outcomes if one.planned.point.name == chosen.name and one.artifact is not None]
    records = [one.artifact.metadata for one in outcomes if one.artifact is not None]
    timed = sweep.model_copy(update={"objectives": (*sweep.objectives, "milliseconds")})
    (each,) = milliseconds(timed, outcomes[:1], session).values()
    learnt = records[0]
    return Cost(
        seconds=max(ran.longest[chosen.name], *(record["seconds"] for record in records)),
        normal=learnt["train_normal"],
        defects=learnt["train_defects"],
        synthetic=learnt["train_synthetic"],
        milliseconds=each,
        device=compute_device(),
    )


def command(root: Path, chosen: Candidate) -> str:
    """What runs a candidate on the folder, as a line for a shell; the defects that it does not learn are tested."""
    given = {"dataset.root": str(root), **chosen.changes}
    words = [f"{key}={_as_yaml(value)}" for key, value in given.items() if value is not None]
    return shlex.join(["exdd", "run", "folder", *words])


def _as_yaml(value: Any) -> str:
    """On one line, as an override has it."""
    return (
        yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
        .removesuffix("...\n")
        .strip()
    )
