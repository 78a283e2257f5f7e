"""The published score's settings: neighbourhood b of Eq. 7, where s_P is read, and epsilon of the ratio.

The presets of ExDD side by side: --presets paper released best.
"""

import sys

from exdd_ray.cli.parser import Parser
from exdd_ray.cli.sweep import add_script_options, run_script

parser = Parser(add_help=False, description=__doc__)
parser.add_argument("--neighbours", type=int, nargs="+", metavar="B", default=[0, 3, 9])
parser.add_argument("--pairings", nargs="+", default=["independent", "colocated", "min"])
parser.add_argument("--epsilons", type=float, nargs="+", metavar="EPSILON", default=[1e-6, 0.1, 1.0])
parser.add_argument("--presets", nargs="+", metavar="PRESET", help="compare these too (default: the config's)")
add_script_options(parser, "neighborhood")

if __name__ == "__main__":
    arguments = parser.parse_args()
    space = {
        "scoring.neighbours": arguments.neighbours,
        "scoring.pairing": arguments.pairings,
        "scoring.epsilon": arguments.epsilons,
    }
    if arguments.presets:
        space["detector.preset"] = arguments.presets
    baseline = {key: values[0] for key, values in space.items()}
    sys.exit(run_script(arguments, {"space": space, "baseline": baseline}))
