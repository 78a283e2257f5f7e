"""`exdd`: the entry point; users' mistakes end in one line and exit code 2."""

import argparse
import sys
from collections.abc import Callable
from typing import Any

from exdd_ray import __version__
from exdd_ray.cli.compare import add_compare_parser
from exdd_ray.cli.completion import add_completion_parser
from exdd_ray.cli.config import add_config_parser, add_init_parser
from exdd_ray.cli.data import add_data_parser
from exdd_ray.cli.parser import Parser, leave_unread
from exdd_ray.cli.report import add_report_parser
from exdd_ray.cli.run import add_run_parser
from exdd_ray.cli.sweep import add_sweep_parser
from exdd_ray.cli.synth import add_synth_parser
from exdd_ray.cli.track import add_track_parser
from exdd_ray.errors import UserError

USER_MISTAKE = 2
INTERRUPTED = 130


def build_parser() -> Parser:
    """The parser of all commands."""
    parser = Parser(prog="exdd", description="Surface-defect detection: make defects, model both, find out what works.")
    parser.add_argument("--version", action="version", version=f"exdd_ray {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    subparsers: argparse._SubParsersAction[Any] = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND"
    )
    add_run_parser(subparsers)
    add_report_parser(subparsers)
    add_compare_parser(subparsers)
    add_synth_parser(subparsers)
    add_sweep_parser(subparsers)
    add_track_parser(subparsers)
    add_config_parser(subparsers)
    add_init_parser(subparsers)
    add_data_parser(subparsers)
    add_completion_parser(subparsers)
    for name, command in subparsers.choices.items():
        if name != "data":
            command.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run a command; the exit code is 0, the command's own, 2 for a user's mistake, 130 when interrupted."""
    arguments = build_parser().parse_args(argv)
    return run_command(lambda: arguments.run(arguments), debug=arguments.debug)


def run_command(command: Callable[[], int], *, debug: bool = False) -> int:
    """A command's exit code, or that of its error, which is told in one line."""
    try:
        return int(command())
    except UserError as error:
        if debug:
            print(error.trace, file=sys.stderr)
            raise
        print(f"exdd: {error}{' (--debug shows the traceback)' * bool(error.trace)}", file=sys.stderr)
        return USER_MISTAKE
    except KeyboardInterrupt:
        print("exdd: interrupted; what was finished is in the store", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        leave_unread()
        return 0


if __name__ == "__main__":
    sys.exit(main())
