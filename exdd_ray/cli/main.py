"""`exdd`: the entry point; users' mistakes end in one line and exit code 2."""

import argparse
import sys
from typing import Any

from exdd_ray import __version__
from exdd_ray.cli.advise import add_advise_parser
from exdd_ray.cli.command import run_command
from exdd_ray.cli.compare import add_compare_parser
from exdd_ray.cli.completion import add_completion_parser
from exdd_ray.cli.config import add_config_parser, add_init_parser
from exdd_ray.cli.data import add_data_parser
from exdd_ray.cli.export import add_export_parser
from exdd_ray.cli.parser import Parser
from exdd_ray.cli.report import add_report_parser
from exdd_ray.cli.run import add_run_parser
from exdd_ray.cli.score import add_score_parser
from exdd_ray.cli.sweep import add_sweep_parser
from exdd_ray.cli.synth import add_synth_parser
from exdd_ray.cli.track import add_track_parser


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
    add_advise_parser(subparsers)
    add_export_parser(subparsers)
    add_score_parser(subparsers)
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


if __name__ == "__main__":
    sys.exit(main())
