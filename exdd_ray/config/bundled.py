"""The configs that come with the package: `configs/` of the repository, and of the wheel."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path

from exdd_ray.errors import ConfigError

EXPERIMENTS, SWEEPS, SYNTHESIZERS, DATASETS, DETECTORS = (
    "experiments",
    "sweeps",
    "synthesizers",
    "datasets",
    "detectors",
)
ADVICE, GRIDS = "advice", "grids"  # of commands of their own
_KINDS = (EXPERIMENTS, SWEEPS, SYNTHESIZERS, DATASETS, DETECTORS)
_PACKAGE = Path(__file__).resolve().parents[1]


def configs_folder() -> Path:
    """Where the bundled configs are. Raises ConfigError where they are not installed."""
    places = [_PACKAGE / "configs", _PACKAGE.parent / "configs"]
    for place in places:
        if (place / EXPERIMENTS / "demo.yaml").is_file():
            return place
    raise ConfigError(f"the configs of exdd_ray are not installed: looked in {', '.join(map(str, places))}")


def bundled_names(kind: str) -> list[str]:
    """The names of the bundled configs of a kind, as `experiments`."""
    return sorted(path.stem for path in (configs_folder() / kind).glob("*.yaml"))


def find_config(given: str, kinds: Sequence[str] = _KINDS, beside: Path | None = None) -> Path:
    """A config by its path (from `beside`, or from here), or the bundled one of a name or of a path in `configs/`.

    Raises ConfigError for an unknown name (the nearest is suggested), and for a folder.
    """
    path = (beside or Path()) / Path(given).expanduser()
    if path.is_file():
        return path
    configs, is_name = configs_folder(), not path.suffix and len(Path(given).parts) == 1
    bundled = [configs / kind / f"{given}.yaml" for kind in kinds] if is_name else [configs.parent / given]
    if (is_name or given.startswith("configs/")) and (found := next(filter(Path.is_file, bundled), None)):
        return found
    if path.is_dir():
        raise ConfigError(f"{given} is a folder, not a config; its images are those of `folder dataset.root={given}`")
    if is_name:
        raise ConfigError(_unknown(given, kinds))
    return path


def find_bundled(name: str) -> Path:
    """The bundled config of a name. Raises ConfigError where there is none; the nearest is suggested."""
    found = (configs_folder() / kind / f"{name}.yaml" for kind in _KINDS)
    if (path := next(filter(Path.is_file, found), None)) is None:
        raise ConfigError(_unknown(name, _KINDS))
    return path


def first_sentence(path: Path) -> str:
    """What a config says of itself: the first sentence of the comment that it begins with."""
    comment = re.match(r"(?:#.*\n)*", path.read_text(encoding="utf-8"))
    words = comment[0].replace("#", " ").split() if comment else []
    return re.split(r"(?<=[.?!])\s+(?=[A-Z(])", " ".join(words))[0]


def standing_alone(path: Path) -> str:
    """The text of a bundled config whose `base:` is found from any folder."""

    def whole(match: re.Match[str]) -> str:
        place = (path.parent / match[0]).resolve()
        return f"configs/{place.relative_to(configs_folder().resolve()).as_posix()}"

    text = path.read_text(encoding="utf-8")
    return re.sub(r"^base: .*$", lambda line: re.sub(r"[\w./-]+\.yaml", whole, line[0]), text, flags=re.MULTILINE)


def _unknown(given: str, kinds: Sequence[str]) -> str:
    names = {name: kind for kind in reversed(kinds) for name in bundled_names(kind)}
    near = sorted((name for name in names if given and given in name), key=len)[:3] or difflib.get_close_matches(
        given, names, n=1
    )
    guess = (
        f": did you mean {' or '.join(map(repr, near))}?"
        if near
        else f" (bundled: {', '.join(bundled_names(kinds[0]))})"
    )
    return f"{given!r} is no YAML file, and no bundled config has this name{guess}"
