"""How many synthetic defects help? Image and pixel metrics against their number, seed by seed."""

import sys

from exdd_ray.cli.parser import Parser
from exdd_ray.cli.sweep import add_script_options, run_script

parser = Parser(add_help=False, description=__doc__)
parser.add_argument("--counts", type=int, nargs="+", metavar="N", default=[0, 50, 100, 150])
add_script_options(parser, "synth_count")

if __name__ == "__main__":
    arguments = parser.parse_args()
    counts = {"synthesizer.count": arguments.counts}
    sys.exit(run_script(arguments, {"space": counts, "baseline": {"synthesizer.count": arguments.counts[0]}}))
