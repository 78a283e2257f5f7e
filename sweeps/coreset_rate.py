"""How large need the memory banks be? Every negative coreset rate with every positive one."""

import sys

from exdd_ray.cli.parser import Parser
from exdd_ray.cli.sweep import add_script_options, run_script

parser = Parser(add_help=False, description=__doc__)
parser.add_argument("--negative", type=float, nargs="+", metavar="RATE", default=[0.001, 0.0025, 0.005, 0.01, 0.02])
parser.add_argument("--positive", type=float, nargs="+", metavar="RATE", default=[0.02, 0.1, 0.5])
add_script_options(parser, "coreset_rate")

if __name__ == "__main__":
    arguments = parser.parse_args()
    space = {"bank.negative.rate": arguments.negative, "bank.positive.rate": arguments.positive}
    sys.exit(run_script(arguments, {"space": space, "baseline": {key: rates[-1] for key, rates in space.items()}}))
