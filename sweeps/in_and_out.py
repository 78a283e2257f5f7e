"""In&Out's tables on KSDD2: setting x number x source of synthetic defects, beside the published figures.

Settings are zero-, few- (5) and full-shot; sources none, per_region, lora and mixture (half of each). To take another
synthesizer for lora: --painter '{kind: inpaint}'. Images of one's own, without published figures:
    python sweeps/in_and_out.py --settings few --painter '{kind: lora}' dataset.name=folder dataset.root=parts
"""

import argparse
import sys
from collections.abc import Iterator
from typing import Any

import yaml

from exdd_ray.cli.parser import Parser
from exdd_ray.cli.sweep import add_script_options, run_script
from exdd_ray.config.bundled import find_config
from exdd_ray.experiment.load import read_raw

COUNTS = (80, 100, 120)
PUBLISHED = {  # AP and its standard deviation over four seeds, of each of COUNTS
    "zero per_region": ((0.514, 0.026), (0.388, 0.066), (0.511, 0.050)),
    "zero lora": ((0.547, 0.086), (0.532, 0.028), (0.445, 0.186)),
    "zero mixture": ((0.556, 0.085), (0.626, 0.059), (0.536, 0.023)),
    "few per_region": ((0.582, 0.018), (0.511, 0.086), (0.593, 0.044)),
    "few lora": ((0.580, 0.045), (0.526, 0.075), (0.535, 0.063)),
    "few mixture": ((0.531, 0.041), (0.578, 0.041), (0.575, 0.025)),
    "full per_region": ((0.744, 0.007), (0.774, 0.016), (0.734, 0.032)),
    "full lora": ((0.758, 0.007), (0.763, 0.008), (0.772, 0.034)),
    "full mixture": ((0.747, 0.022), (0.775, 0.013), (0.782, 0.030)),
}
QUOTED = {  # precision and recall at each of COUNTS, which DIAG's table has of these rows
    "zero per_region": ((0.733, 0.436), (0.633, 0.432), (0.683, 0.470)),
    "zero mixture": ((0.530, 0.655), (0.742, 0.568), (0.699, 0.534)),
    "full per_region": ((0.851, 0.691), (0.814, 0.752), (0.772, 0.707)),
    "full mixture": ((0.764, 0.734), (0.868, 0.720), (0.906, 0.689)),
}
ROWS = {"per_region": "MemSeg", "lora": "DDPM", "mixture": "In&Out"}  # as the paper calls them


def synthesizer(text: str) -> dict[str, Any]:
    """The keys of a synthesizer as YAML."""
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError:
        found = None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is no synthesizer, as '{{kind: inpaint}}'")
    return found


parser = Parser(add_help=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--settings", nargs="+", choices=("zero", "few", "full"), default=["zero", "few", "full"])
parser.add_argument("--counts", type=int, nargs="+", metavar="N", default=list(COUNTS))
parser.add_argument("--sources", nargs="+", choices=("none", *ROWS), default=["none", *ROWS])
parser.add_argument("--painter", type=synthesizer, metavar="YAML", help="a synthesizer to take for lora")
parser.add_argument("--textures", metavar="FOLDER", help="of per_region: DTD's images (exdd data get dtd)")
add_script_options(parser, "in_and_out")


def variants(arguments: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """What is compared, by name; the classifier alone has no defect to learn from in zero-shot, and no count."""
    for setting in arguments.settings:
        raw = read_raw(find_config(f"in_and_out_ksdd2_{setting}"))
        split, (painted, blended) = {"dataset.split.defects": raw["dataset"]["split"]["defects"]}, parts(raw, arguments)
        mixture = {"kind": "mixture", "parts": [painted, blended]}
        made = {"per_region": blended["synthesizer"], "lora": painted["synthesizer"], "mixture": mixture}
        for source in arguments.sources:
            if source == "none" and setting != "zero":
                yield f"{setting} none", {**split, "synthesizer": None}
            for count in arguments.counts if source in made else ():
                yield f"{setting} {source} {count}", {**split, "synthesizer": {**made[source], "count": count}}


def parts(raw: dict[str, Any], arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The halves of a setting's mixture, the painted one first."""
    painted, blended = raw["synthesizer"]["parts"]
    textures = {"textures": arguments.textures} if arguments.textures else {}
    return [
        {**painted, "synthesizer": arguments.painter or painted["synthesizer"]},
        {**blended, "synthesizer": {**blended["synthesizer"], **textures}},
    ]


def published(names: list[str]) -> Iterator[dict[str, Any]]:
    """The published figures of the variants that have one."""
    for row, figures in PUBLISHED.items():
        setting, source = row.split()
        quoted = QUOTED.get(row, ((),) * len(COUNTS))
        for count, (value, std), others in zip(COUNTS, figures, quoted, strict=True):
            of = {"variant": f"{row} {count}", "dataset.name": "ksdd2"}
            if of["variant"] in names:
                told = f"row {ROWS[source]}, {setting}-shot, N_aug {count}"
                paper, diag = f"In&Out, {told} (arXiv 2406.00501)", f"DIAG, {told} (arXiv 2407.03961)"
                yield {"metric": "image_ap", "value": value, "std": std, "source": paper, "of": of}
                for metric, other in zip(("image_precision", "image_recall"), others, strict=False):
                    yield {"metric": metric, "value": other, "source": diag, "of": of}


if __name__ == "__main__":
    arguments = parser.parse_args()
    if not (compared := dict(variants(arguments))):
        parser.error("nothing to compare: without defects there is no zero-shot (--sources)")
    baseline = next((name for name in compared if name.endswith("none")), next(iter(compared)))
    alone = read_raw(find_config("in_and_out", ["sweeps"]))["published"]
    over = {"variants": compared, "baseline": {"variant": baseline}, "published": [*alone, *published(list(compared))]}
    sys.exit(run_script(arguments, over))
