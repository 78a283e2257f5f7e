"""`exdd score`: scores and verdicts of images by an exported detector."""

import argparse
import csv
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from exdd_ray.line.score import Scored

_COLUMNS = ("file", "score", "defective", "margin", "map", "error")


def add_score_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `score` to the command line."""
    parser = subparsers.add_parser("score", help="score images with an exported detector")
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGES", help="files, and folders of them")
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="what `exdd export` wrote")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="where scores go (default: standard output)")
    parser.add_argument("--maps", type=Path, metavar="DIR", help="where anomaly maps go, as PNG")
    parser.set_defaults(run=run_score)


def run_score(arguments: argparse.Namespace) -> int:
    """Score file by file; 1 where one could not be read, 0 otherwise."""
    from exdd_ray.cli.progress import terminal_progress
    from exdd_ray.errors import UserError
    from exdd_ray.line.detector import Detector
    from exdd_ray.line.score import image_files, score_files

    detector, files = Detector.load(arguments.model), image_files(arguments.images)
    maps: Path | None = arguments.maps
    unread = 0
    try:
        if maps is not None:
            maps.mkdir(parents=True, exist_ok=True)
        with _opened(arguments.csv) as out, terminal_progress("scoring", len(files)) as advance:
            lines = csv.writer(out)
            lines.writerow(_COLUMNS)
            for number, one in enumerate(score_files(detector, files)):
                file = maps / f"{number:06d}_{one.file.stem}.png" if maps and one.prediction else None
                if file is not None and one.prediction is not None:
                    detector.picture(one.prediction).save(file)
                lines.writerow(_row(one, file))
                unread += one.prediction is None
                advance(1)
    except OSError as error:
        raise UserError(f"{error.filename or arguments.csv}: cannot be written: {error.strerror}") from error
    if unread:
        print(f"{unread} of {len(files)} files could not be read: the column error says why", file=sys.stderr)
    return int(unread > 0)


def _opened(file: Path | None) -> "AbstractContextManager[TextIO]":
    return nullcontext(sys.stdout) if file is None else file.open("w", newline="", encoding="utf-8")


def _row(one: "Scored", picture: Path | None) -> tuple[object, ...]:
    found = one.prediction
    if found is None:
        return one.file, "", "", "", "", one.error
    return one.file, found.score, found.defective, found.margin, picture or "", ""
