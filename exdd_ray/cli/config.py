"""`exdd config` and `exdd init`: the configs that are bundled, what one would use, and a copy of one to edit."""

import argparse
import shutil
import textwrap
from pathlib import Path

from exdd_ray.cli.run import add_experiment, config_and_overrides
from exdd_ray.config.bundled import DATASETS, DETECTORS, EXPERIMENTS, SWEEPS, SYNTHESIZERS

_SHOWN = {  # kind -> the line above its names
    EXPERIMENTS: "experiments: exdd run NAME",
    SWEEPS: "sweeps: exdd sweep NAME",
    SYNTHESIZERS: "synthesizers: exdd synth NAME",
    DATASETS: "datasets, to build on: base: configs/datasets/NAME.yaml",
    DETECTORS: "detectors, to build on: base: configs/detectors/NAME.yaml",
}
_NAMES, _WIDTH = 32, 120
_COMMANDS = {EXPERIMENTS: "run", SWEEPS: "sweep", SYNTHESIZERS: "synth"}


def add_config_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `config` to the command line."""
    parser = subparsers.add_parser("config", help="print the resolved config of an experiment", add_help=False)
    add_experiment(parser)
    parser.add_argument("--list", action="store_true", help="list the bundled configs instead, a line each")
    parser.set_defaults(run=lambda arguments: list_configs() if arguments.list else print_config(arguments))


def add_init_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `init` to the command line."""
    parser = subparsers.add_parser("init", help="write a bundled config here, to edit")
    parser.add_argument("name", metavar="NAME", help="of a bundled config (exdd config --list)")
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="to write (default: NAME.yaml)")
    parser.set_defaults(run=write_config, offered=tuple(_SHOWN))


def print_config(arguments: argparse.Namespace) -> int:
    """Print every trial of the config as YAML: what a run of it would use, presets filled in."""
    from exdd_ray.experiment.space import load_run, resolved_yaml

    print(resolved_yaml(load_run(*config_and_overrides(arguments)).trials), end="")
    return 0


def list_configs() -> int:
    """Print the bundled configs, kind by kind, each with the first sentence of its file."""
    from exdd_ray.config.bundled import bundled_names, configs_folder, first_sentence

    width = shutil.get_terminal_size((_WIDTH, 0)).columns - _NAMES - 2
    for kind, title in _SHOWN.items():
        print(title)
        for name in bundled_names(kind):
            said = first_sentence(configs_folder() / kind / f"{name}.yaml")
            print(f"  {name:<{_NAMES}}{textwrap.shorten(said, max(width, _NAMES), placeholder=' ...')}")
    return 0


def write_config(arguments: argparse.Namespace) -> int:
    """Write a copy of a bundled config, and say how it is run. Raises ConfigError where the file is there already."""
    from exdd_ray.config.bundled import find_bundled, standing_alone
    from exdd_ray.errors import ConfigError

    found = find_bundled(arguments.name)
    path = arguments.file or Path(f"{arguments.name}.yaml")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(standing_alone(found))
    except FileExistsError as error:
        raise ConfigError(
            f"{path} is there already, and nothing is overwritten: exdd init {arguments.name} FILE"
        ) from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error
    command = _COMMANDS.get(found.parent.name)
    print(f"{path}: {f'exdd {command} {path}' if command else 'for the base: of an experiment beside it'}")
    return 0
