"""Any other sweep across datasets: every point is run on each, and compared dataset by dataset.

A dataset is NAME (all categories), NAME/CATEGORY, or a folder of your own:
    python sweeps/multi_dataset.py --datasets ksdd2 mvtec_ad/bottle /data/parts --config prompts
"""

import argparse
import sys

from exdd_ray.cli.parser import Parser
from exdd_ray.cli.sweep import add_script_options, named_dataset, run_script

parser = Parser(add_help=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--datasets", nargs="+", metavar="DATASET", default=["procedural/ceramic", "procedural/wood"])
add_script_options(parser, "synth_count")

if __name__ == "__main__":
    arguments = parser.parse_args()
    sys.exit(
        run_script(arguments, {"name": "multi_dataset", "datasets": {n: named_dataset(n) for n in arguments.datasets}})
    )
