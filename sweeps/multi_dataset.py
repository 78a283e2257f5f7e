"""Any other sweep across datasets: every point is run on each, and compared dataset by dataset.

A dataset is NAME (all categories), NAME/CATEGORY, or a folder of your own:
    python sweeps/multi_dataset.py --datasets ksdd2 mvtec_ad/bottle /data/parts --config prompts
"""

import argparse
import sys
from pathlib import Path

from exdd_ray.cli.parser import Parser
from exdd_ray.cli.sweep import add_script_options, run_script

parser = Parser(add_help=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--datasets", nargs="+", metavar="DATASET", default=["procedural/ceramic", "procedural/wood"])
add_script_options(parser, "synth_count")


def dataset(name: str) -> dict[str, str]:
    """Dotted keys of a dataset as it is named on the command line."""
    if Path(name).is_dir():
        return {"dataset.name": "folder", "dataset.root": str(Path(name).resolve())}
    known, _, category = name.partition("/")
    return {"dataset.name": known, **({"dataset.category": category} if category else {})}


if __name__ == "__main__":
    arguments = parser.parse_args()
    sys.exit(run_script(arguments, {"name": "multi_dataset", "datasets": {n: dataset(n) for n in arguments.datasets}}))
