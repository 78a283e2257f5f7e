"""`--help` of commands that take keys: short by itself, and the keys below one with `--help KEY`."""

import argparse
import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from exdd_ray.cli.parser import leave_unread

if TYPE_CHECKING:
    from exdd_ray.config.keys import Key
    from exdd_ray.experiment.config import RunConfig

_WIDTH = 110


def add_help(parser: argparse.ArgumentParser, kinds: Sequence[str], *, sweep: bool = False) -> None:
    """Add `--help [KEY]` to a command, the bundled configs of whose kinds are listed."""
    parser.set_defaults(kinds=tuple(kinds), sweep=sweep)
    parser.add_argument(
        "-h",
        "--help",
        nargs="?",
        action=_Help,
        metavar="KEY",
        help="show this, or the keys below one (or `all`)",
    )


class _Help(argparse.Action):
    """Prints, and ends the process."""

    def __call__(self, parser: argparse.ArgumentParser, _: object, key: object, __: str | None = None) -> None:
        from exdd_ray.errors import ConfigError

        try:
            text = _keys_below(parser, str(key)) if key else _overview(parser)
        except ConfigError as error:
            parser.error(str(error))
        try:
            print(text, flush=True)
        except BrokenPipeError:
            leave_unread()
        parser.exit()


def config_model(parser: argparse.ArgumentParser) -> "type[RunConfig]":
    """What a command's keys are of."""
    from exdd_ray.experiment.config import RunConfig
    from exdd_ray.experiment.sweep_config import SweepConfig

    return SweepConfig if parser.get_default("sweep") else RunConfig


def _overview(parser: argparse.ArgumentParser) -> str:
    from exdd_ray.config.bundled import bundled_names
    from exdd_ray.config.keys import list_groups, list_keys

    model = config_model(parser)
    bundled = ", ".join(name for kind in parser.get_default("kinds") for name in bundled_names(kind))
    groups = _together(key for key in list_groups(model) if key.path.count(".") < 2)
    single = [(key.path, "", key.meaning) for key in list_keys(model) if "." not in key.path]
    rows = [f"  {path + kind:<38}{_short(text, _WIDTH - 40)}" for path, kind, text in [*groups, *_new(single, groups)]]
    return "\n".join(
        [
            parser.format_help(),
            textwrap.fill(f"bundled configs: {bundled}", _WIDTH, subsequent_indent="  "),
            "",
            f"keys (an unambiguous ending will do, values are YAML; `{parser.prog} --help KEY` explains them):",
            *rows,
        ]
    )


def _new(single: Sequence[tuple[str, str, str]], groups: Iterable[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    there = {path for path, _, _ in groups}
    return [row for row in single if row[0] not in there]


def _together(groups: "Iterable[Key]") -> list[tuple[str, str, str]]:
    """Path, kind and meaning of each group; one line for all kinds that have the same."""
    kinds: dict[tuple[str, str], list[str]] = {}
    for key in groups:
        kinds.setdefault((key.path, key.meaning), []).append(key.kind)
    return [(path, _of_kinds(those), meaning) for (path, meaning), those in kinds.items()]


def _of_kinds(kinds: Sequence[str]) -> str:
    named = list(filter(None, kinds))
    return f" ({named[0] if len(named) == 1 else f'{len(named)} kinds'})" if named else ""


def _short(text: str, width: int) -> str:
    return textwrap.shorten(text, width, placeholder=" ...")


def _keys_below(parser: argparse.ArgumentParser, asked: str) -> str:
    """Each key below one, or it alone: its default, what it may be, and what it means.

    Raises ConfigError for an unknown key.
    """
    from exdd_ray.config.keys import list_keys, resolve_key

    model = config_model(parser)
    path = "" if asked == "all" else resolve_key(asked.rstrip("."), model)
    path = re.sub(r"\.\d+(\..*)?$", "", path)  # the list's keys are explained together
    found: dict[tuple[str, str, str, str], list[str]] = {}
    for key in list_keys(model):
        if not path or key.path == path or key.path.startswith(f"{path}."):
            found.setdefault((key.path, key.default, key.type, key.meaning), []).append(key.kind)
    return "\n".join(_explained(*key, ", ".join(filter(None, kinds))) for key, kinds in found.items())


def _explained(path: str, default: str, type_name: str, meaning: str, kinds: str) -> str:
    about = "; ".join(filter(None, [kinds, type_name]))
    indent = "      "
    body = textwrap.fill(meaning, _WIDTH, initial_indent=indent, subsequent_indent=indent)
    return f"{path}={default}  ({about})\n{body}"
