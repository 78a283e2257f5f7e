"""Which words make defects that help? Prompt sets, negative prompts and guidance of an inpainting model.

A prompt set is given as one argument with commas: --prompts scratch stain "scratch,stain,hole".
"""

import sys

from exdd_ray.cli.parser import Parser
from exdd_ray.cli.sweep import add_script_options, run_script

parser = Parser(add_help=False, description=__doc__)
parser.add_argument("--prompts", nargs="+", metavar="SET", default=["scratch", "stain", "scratch,stain,hole,crack"])
parser.add_argument("--negative", nargs="+", metavar="PROMPT", default=["", "smooth"])
parser.add_argument("--guidance", type=float, nargs="+", metavar="WEIGHT", default=[1.5, 3.0, 6.0])
add_script_options(parser, "prompts")

if __name__ == "__main__":
    arguments = parser.parse_args()
    space = {
        "synthesizer.prompts": [[word.strip() for word in words.split(",")] for words in arguments.prompts],
        "synthesizer.negative_prompt": arguments.negative,
        "synthesizer.guidance": arguments.guidance,
    }
    sys.exit(run_script(arguments, {"space": space}))
