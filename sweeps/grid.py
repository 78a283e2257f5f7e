"""Does synthesis help, which way, and with which detector? Every detector x number of real defects x synthesizer.

What is crossed is in configs/grids/default.yaml; to cross other things, copy it and give --grid FILE. A dataset is NAME
(all categories), NAME/CATEGORY, or a folder of your own; where its own split trains on defects, all rows of the table
are tested on the same images:
    python sweeps/grid.py --datasets parts ksdd2 --detectors ExDD SuperSimpleNet --counts 0 5 all
"""

import argparse
import sys
from typing import TYPE_CHECKING

from exdd_ray.cli.parser import Parser
from exdd_ray.cli.sweep import add_script_options, named_dataset, run_script

if TYPE_CHECKING:
    from exdd_ray.experiment.sweep_results import SweepResults


def count(text: str) -> int | str:
    """A number of defects, or `all`."""
    if text == "all":
        return text
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of defects, nor `all`")
    return int(text)


parser = Parser(add_help=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--datasets", nargs="+", metavar="DATASET", default=["procedural/ceramic"])
parser.add_argument(
    "--grid", metavar="FILE", default="default", help="what is crossed: a file, or a name in configs/grids"
)
parser.add_argument("--detectors", nargs="+", metavar="NAME", help="of the file (default: all)")
parser.add_argument("--synthesizers", nargs="*", metavar="NAME", help="of the file (default: all)")
parser.add_argument("--counts", type=count, nargs="+", metavar="N", help="real defects (default: the file's)")
add_script_options(parser, "grid")


def main(arguments: argparse.Namespace) -> int:
    """Run the sweep, then print a table a dataset. Raises ConfigError for what the grid does not have."""
    from exdd_ray.experiment.crossed import chosen, combinations, read_grid

    config = chosen(read_grid(arguments.grid), arguments.detectors, arguments.synthesizers, arguments.counts)
    compared = combinations(config)

    def print_tables(results: "SweepResults") -> None:
        from exdd_ray.cli.printing import print_grid

        print_grid(results, compared, config.published)

    over = {
        "datasets": {name: named_dataset(name) for name in arguments.datasets},
        "variants": {one.name: dict(one.changes) for one in compared},
    }
    return run_script(arguments, over, print_tables)


if __name__ == "__main__":
    from exdd_ray.cli.command import run_command

    arguments = parser.parse_args()
    sys.exit(run_command(lambda: main(arguments), debug=arguments.debug))
