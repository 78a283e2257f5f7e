"""A sweep: an experiment, the space of its variations, how they are searched, compared and chosen."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from exdd_ray.config.base import Frozen
from exdd_ray.experiment.config import RunConfig
from exdd_ray.metrics.table import COMPARED, COSTS


def _comparable(key: str) -> str:
    known = [metric.key for metric in (*COMPARED, *COSTS)]
    if key not in known:
        raise ValueError(f"no objective is called {key!r}; there are {', '.join(known)}")
    return key


Objective = Annotated[str, AfterValidator(_comparable)]


class RangeConfig(Frozen):
    """Numbers to draw from: whole ones where both limits are.

    Attributes:
        low, high: limits, both included.
        log: drawn evenly over the orders of magnitude.
    """

    low: int | float
    high: int | float
    log: bool = False

    @model_validator(mode="after")
    def _rising(self) -> "RangeConfig":
        if not self.low < self.high:
            raise ValueError(f"low={self.low} is not below high={self.high}")
        if self.log and self.low <= 0:
            raise ValueError("log needs low above 0")
        return self


class FidelityConfig(Frozen):
    """What a trial begins with little of, and gets more of while it is among the best (successive halving).

    Attributes:
        key: dotted key of the experiment, as `detector.epochs` or `synthesizer.count`.
        rungs: its values, from cheap to full.
    """

    key: str
    rungs: tuple[int | float, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _rising(self) -> "FidelityConfig":
        if list(self.rungs) != sorted(set(self.rungs)):
            raise ValueError(f"rungs rise, and these do not: {', '.join(map(str, self.rungs))}")
        return self


class TunerConfig(Frozen):
    """Which points of the space are tried.

    Attributes:
        kind: `grid` all; `random` some; `tpe` Optuna's tree-structured Parzen estimator, over one objective or several;
            `asha` random ones of which the worse are stopped on rungs.
        points: how many of the space are tried; `grid` takes all.
        at_once: trials at the same time; None is one a CPU.
        fidelity: the rungs of `asha`.
        seed: of what is drawn.
    """

    kind: Literal["grid", "random", "tpe", "asha"] = "grid"
    points: int | None = Field(None, ge=1)
    at_once: int | None = Field(None, ge=1)
    fidelity: FidelityConfig | None = None
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _complete(self) -> "TunerConfig":
        if (self.kind == "grid") != (self.points is None):
            raise ValueError("tuner.points is needed by random, tpe and asha, and not known to grid")
        if (self.kind == "asha") != (self.fidelity is not None):
            raise ValueError("tuner.fidelity is needed by asha, and known to no other")
        return self


class TrackingConfig(Frozen):
    """Where a sweep is shown beside its own report.

    Attributes:
        wandb: project; None logs nothing there. The entity is that of WANDB_ENTITY, the key that of WANDB_API_KEY.
        tensorboard: write event files into the results' folder.
        mlflow: tracking URI (a server, or a local `sqlite:///` file); None logs nothing there.
    """

    wandb: str | None = None
    tensorboard: bool = False
    mlflow: str | None = None


class SweepConfig(RunConfig):
    """What `exdd sweep` runs: an experiment (and its variants) at points of a space, each with every seed.

    Attributes:
        space: dotted key -> values, or a range to draw from.
        datasets: name -> dotted keys and values; every point is run on each, and compared dataset by dataset. None is
            the base's own.
        tuner: which points are tried.
        objectives: metrics by key (image_auroc, image_ap, pixel_auroc, pixel_ap, aupro, bank_vectors, milliseconds and
            so on); the best trial is chosen by the first, several make a Pareto front.
        select: on which images the best trial is chosen: the `validation` ones, held out of training, or (what the
            report then says in red) the `test` ones.
        baseline: what distinguishes the trial that the others are compared with: values of keys of the space, and
            `variant`; None is the first.
        tracking: trackers that the sweep is logged to.
    """

    name: str = "sweep"
    space: dict[str, RangeConfig | tuple[Any, ...]] = Field(default_factory=dict)
    datasets: dict[str, dict[str, Any]] = Field(default_factory=dict)
    tuner: TunerConfig = TunerConfig()
    objectives: tuple[Objective, ...] = Field(("image_auroc",), min_length=1)
    select: Literal["validation", "test"] = "validation"
    baseline: dict[str, Any] | None = None
    tracking: TrackingConfig = TrackingConfig()

    @field_validator("space", mode="before")
    @classmethod
    def _lists_or_ranges(cls, given: Any) -> Any:
        for key, values in given.items() if isinstance(given, Mapping) else ():
            if not isinstance(values, list | tuple | Mapping | RangeConfig):
                raise ValueError(f"{key}: give a list of values, or a range (low, high)")
        return given

    @model_validator(mode="after")
    def _consistent(self) -> "SweepConfig":
        if self.grid:
            raise ValueError("grid is a run's: a sweep's values are in space")
        if len(set(self.seeds or ())) < len(self.seeds or ()):
            raise ValueError("a seed is named twice: runs with one seed are one run")
        patches = [*self.variants.values(), *self.datasets.values()]
        if any(key == "seed" for patch in (self.space, *patches) for key in patch or {}):
            raise ValueError("seed is no setting: the seeds of every point are in seeds")
        if empty := [key for key, values in self.space.items() if not values]:
            raise ValueError(f"space.{empty[0]} has no value")
        ranges = [key for key, values in self.space.items() if isinstance(values, RangeConfig)]
        if ranges and self.tuner.kind == "grid":
            raise ValueError(f"space.{ranges[0]} is a range: draw from it with tuner.kind=random, tpe or asha")
        if len(self.objectives) > 1 and self.tuner.kind == "asha":
            raise ValueError("tuner.kind=asha goes by one objective")
        return self
