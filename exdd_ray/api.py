"""What `from exdd_ray import ...` gives beside configs, datasets and stores: to run experiments from Python.

>>> from exdd_ray import Dataset, Experiment, detector, run
>>> parts = Dataset(name="folder", root="path/to/images")
>>> results = run(Experiment(dataset=parts, detector=detector("patch_bank", system="patchcore")))  # doctest: +SKIP
>>> results.table.to_pandas()  # doctest: +SKIP
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from exdd_ray.cli.progress import terminal_progress
from exdd_ray.config.bundled import EXPERIMENTS, SWEEPS, SYNTHESIZERS, find_config
from exdd_ray.errors import ConfigError
from exdd_ray.experiment.config import ExperimentConfig
from exdd_ray.experiment.load import Raw, validate
from exdd_ray.experiment.session import Session
from exdd_ray.experiment.space import LoadedSweep, load_raw_run, load_raw_sweep, load_run
from exdd_ray.experiment.space import load_sweep as load_sweep_file
from exdd_ray.experiment.sweep import plan_sweep, run_sweep
from exdd_ray.experiment.sweep_results import results_folder, write_results
from exdd_ray.experiment.trial import prepare_trial
from exdd_ray.methods.config import DetectorConfig
from exdd_ray.methods.method import Fitted
from exdd_ray.methods.table import method_of
from exdd_ray.report.results import Results, read_results
from exdd_ray.report.sweep_page import write_sweep_report
from exdd_ray.report.write import write_run
from exdd_ray.runs import mark_latest, new_folder, require_free
from exdd_ray.store.artifact import open_store
from exdd_ray.synthesizers.config import SynthesizerConfig

_HERE = Path("exdd_ray")  # what messages name where there is no file
_FILLING = ("kind", "preset", "system")  # keys that fill others, which stand in an experiment that was made
Experiments = ExperimentConfig | Mapping[str, ExperimentConfig]


def detector(kind: str, **settings: Any) -> DetectorConfig:
    """The config of a detector; its preset fills what is not given.

        >>> detector("patch_bank", system="exdd", bank={"negative": {"rate": 0.02}}).preset
        'best'

    Args:
        kind: as `detector.kind` of a file; `exdd run --help detector` lists them.
        settings: the keys below `detector`, as a file has them.

    Raises ConfigError for a kind, key or value that there is not, with the nearest one.
    """
    return validate(ExperimentConfig, {"detector": {"kind": kind, **settings}}, _HERE).detector


def synthesizer(kind: str, **settings: Any) -> SynthesizerConfig:
    """The config of a synthesizer of defects.

        >>> synthesizer("inpaint", prompts=["scratch", "hole"], count=50).count
        50

    Raises ConfigError as `detector`.
    """
    made = validate(ExperimentConfig, {"synthesizer": {"kind": kind, **settings}}, _HERE).synthesizer
    assert made is not None
    return made


def load_config(config: str | Path, *overrides: str) -> LoadedSweep:
    """An experiment's file, or the bundled one of a name, as `exdd run` reads it.

        >>> [trial.name for trial in load_config("demo", "seed=1").trials][0]
        'single bank'

    Args:
        overrides: `key=value`, as on the command line.

    Raises ConfigError for a file or override that is not valid, naming file, key and reason.
    """
    return load_run(find_config(str(config), [EXPERIMENTS, SYNTHESIZERS]), overrides)


def load_sweep(config: str | Path, *overrides: str) -> LoadedSweep:
    """A sweep's file, or the bundled one of a name, as `exdd sweep` reads it.

        >>> list(load_sweep("synth_count").axes)
        ['count']

    Raises ConfigError as `load_config`.
    """
    return load_sweep_file(find_config(str(config), [SWEEPS]), overrides)


def run(
    experiments: Experiments | LoadedSweep,
    *,
    name: str = "experiment",
    seeds: Sequence[int] | None = None,
    store: str = "store",
    output: Path | None = None,
) -> Results:
    """Run an experiment, or several by name, and write the report; what the store has is not made again.

        >>> one, two = (Experiment(detector=detector("patch_bank", system=s)) for s in ("patchcore", "exdd"))
        >>> run({"one bank": one, "two banks": two}, name="banks", seeds=[0, 1, 2])  # doctest: +SKIP

    Args:
        experiments: or what `load_config` gives, which says the others itself.
        name: of the folder in `runs/`.
        seeds: each experiment is run with each; None takes its own.
        store: folder of what is made, or a URI.
        output: folder of the results; None is a new one, `runs/<name>/<time>`.

    Raises UserError for data, settings and places that cannot be used.
    """
    if isinstance(experiments, LoadedSweep):
        loaded = experiments
    else:
        places = {"name": name, "store": store, **({"output": str(output)} if output else {})}
        loaded = load_raw_run({**_raw(experiments, seeds), **places}, _HERE)
    folder = new_folder(loaded.sweep.name, loaded.overrides, loaded.sweep.output)
    require_free(folder)
    session = _session(loaded.sweep.store)
    return read_results(write_run(folder, run_sweep(loaded, plan_sweep(loaded, session), session)))


def sweep(experiments: Experiments | LoadedSweep, space: Mapping[str, Any] | None = None, **settings: Any) -> Results:
    """Run experiments at every point of a space, one after another, and say which differences are more than noise.

        >>> sweep(Experiment(), {"bank.negative.rate": [0.01, 0.02]}, seeds=[0, 1], select="test")  # doctest: +SKIP

    Args:
        experiments: or what `load_sweep` gives, which says the others itself.
        space: key -> values.
        settings: the other keys of a sweep's file: `name`, `seeds`, `objectives`, `select`, `baseline`, `store`, ...

    Raises:
        ConfigError: settings that are not valid; a space over a key that fills others, as a preset does.
        UserError: data and places that cannot be used.
    """
    if isinstance(experiments, LoadedSweep):
        loaded = experiments
    else:
        if filling := [key for key in space or {} if key.rpartition(".")[2] in _FILLING]:
            raise ConfigError(f"{filling[0]} fills other keys: compare experiments by name, as {{'a': ..., 'b': ...}}")
        raw = {**_raw(experiments, settings.get("seeds")), "space": dict(space or {}), **settings}
        loaded = load_raw_sweep(raw, _HERE)
    session = _session(loaded.sweep.store)
    plan = plan_sweep(loaded, session)
    folder = results_folder(loaded)
    write_results(folder, run_sweep(loaded, plan, session))
    write_sweep_report(folder)
    mark_latest(folder)
    return read_results(folder)


def fit(experiment: ExperimentConfig, *, category: str | None = None, store: str = "store") -> Fitted:
    """The detector of an experiment, fitted to its training images, or read from the store: it scores any images.

        >>> fitted = fit(Experiment(dataset=Dataset(name="folder", root="path/to/images")))  # doctest: +SKIP
        >>> fitted.predict(load_dataset("folder", "tuesday")).scores  # doctest: +SKIP

    Args:
        category: of a dataset that has several.

    Raises UserError as `run`.
    """
    session = _session(store)
    categories = session.categories(experiment.dataset)
    if (category is None and len(categories) > 1) or (category is not None and category not in categories):
        raise ConfigError(f"{experiment.dataset.name}: say which category: {', '.join(categories)}")
    universe = categories[category or next(iter(categories))]
    images = prepare_trial(experiment, universe, session).images
    return method_of(experiment.detector).fit(experiment.detector, images, session, experiment.seed)


def _raw(experiments: Experiments, seeds: Sequence[int] | None) -> Raw:
    """Experiments as a file would have them: one, or variants."""
    named = experiments if isinstance(experiments, Mapping) else {"": experiments}
    if not named or not all(isinstance(one, ExperimentConfig) for one in named.values()):
        raise ConfigError(
            "an Experiment is run, or several by name, as {'a': ..., 'b': ...}; load_config('demo') reads a file's"
        )
    if seeds is not None and not isinstance(seeds, Sequence):
        raise ConfigError(f"seeds are a list, as [0, 1, 2], not {seeds!r}")
    own = {"seed"} if seeds is not None else set()
    common = {} if seeds is None else {"seeds": list(seeds)}
    if isinstance(experiments, ExperimentConfig):
        return {**experiments.model_dump(mode="json", exclude=own), **common}
    dumped = {name: one.model_dump(mode="json", exclude=own) for name, one in experiments.items()}
    return {"variants": dumped, **common}


def _session(store: str) -> Session:
    return Session(open_store(store), terminal_progress)
