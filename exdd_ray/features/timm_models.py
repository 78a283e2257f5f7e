"""timm's models as backbones: found by name, cut after a layer, at any size that they can be given."""

import difflib
import hashlib
import os
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from exdd_ray.config.base import Size
from exdd_ray.errors import ConfigError, UserError
from exdd_ray.extras import require
from exdd_ray.features.config import FeaturesConfig

TIMM = "timm/"

Channels = tuple[float, float, float]


def require_known(backbone: str) -> None:
    """Raise ConfigError for a `timm/<name>` that timm does not have."""
    name = backbone.removeprefix(TIMM)
    architectures = _timm(backbone).list_models()
    if ":" not in name and name.split(".")[0] not in architectures:  # a hub's models are named hf-hub:owner/name
        near = difflib.get_close_matches(name, architectures, n=1)
        hint = f": did you mean {TIMM + near[0]!r}?" if near else ""
        raise ConfigError(f"timm has no backbone {name!r}{hint}")


def published_normalisation(backbone: str) -> tuple[Channels, Channels] | None:
    """Mean and standard deviation of the channels, of pixels in 0..1; None where nothing is published.

    Raises UserError where timm is not installed, or the config of a hub's model cannot be had.
    """
    timm, name = _timm(backbone), backbone.removeprefix(TIMM)
    try:
        published = timm.get_pretrained_cfg(name)
        if published is None and ":" in name:  # a hub's or a folder's model says it in a config of its own
            with torch.device("meta"):
                own = timm.create_model(name, pretrained=False).pretrained_cfg
            return tuple(own["mean"]), tuple(own["std"])
    except Exception as error:  # of whichever HTTP client the hub's library uses
        raise UserError(f"timm/{name}: its config cannot be had ({' '.join(str(error).split())[:200]})") from error
    return None if published is None else (tuple(published.mean), tuple(published.std))


def cut_timm_model(config: FeaturesConfig) -> tuple[nn.Module, bool]:
    """The network, to be filled, up to its last layer that is taken, and whether its maps have channels last.

    A network whose weights belong to a size is made for the config's: a vision transformer's position embeddings.

    Raises ConfigError for a model without feature maps, unknown layers or ones not shallow first, a size of which the
    patches are no whole ones, a final norm that is not there, and padding to patches that are not.
    """
    timm, name = _timm(config.backbone), config.backbone
    try:
        with torch.device("meta"):  # its random numbers would be overwritten
            outline: Any = timm.create_model(name.removeprefix(TIMM), pretrained=False, features_only=True)
    except RuntimeError as error:
        raise ConfigError(f"timm has no backbone {name.removeprefix(TIMM)!r} that gives features: {error}") from error
    indices = _indices(name, [str(one["module"]) for one in outline.feature_info.info], config.layers)
    axes: Any = getattr(outline, "output_fmt", "NCHW")
    last = {"NCHW": False, "NHWC": True}
    if axes not in last:
        raise ConfigError(f"{name} gives features as {axes.value}, and no maps")
    padded_size(config)
    if not is_held(outline):
        if config.final_norm:
            raise ConfigError(f"{name} has no final norm for its layers: unset features.final_norm")
        return _made(config, features_only=True, out_indices=indices).eval(), last[axes]
    _require_whole_patches(config)
    whole = _outline(config)
    if any(True for _ in whole.buffers()):  # computed, and in no weights, as rotary embeddings
        whole = _made(config)
    if config.final_norm:
        _require_final_norm(name, whole, {one["num_chs"] for one in outline.feature_info.info})
    return type(outline)(whole, out_indices=indices, norm=config.final_norm).eval(), last[axes]


def is_held(body: nn.Module) -> bool:
    """Whether a cut network holds timm's own one, as transformers do, under whose names its weights are."""
    return isinstance(getattr(body, "model", None), nn.Module)


def fitted_weights(config: FeaturesConfig, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights under the names, and with the position embeddings, of timm's network at the config's size.

    timm's own conversion: position embeddings of another grid are resampled (bicubic, antialiased).

    Raises UserError for weights that it cannot read.
    """
    whole = _outline(config)
    convert = getattr(sys.modules[type(whole).__module__], "checkpoint_filter_fn", None)
    full = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    if convert is None:
        return full
    try:
        converted: dict[str, Tensor] = convert(full, whole)
    except Exception as error:  # of whatever it stumbles over
        raise UserError(f"not weights of {config.backbone}: {' '.join(str(error).split())[:200]}") from error
    return converted


def download_timm(backbone: str, ways: str) -> Path:
    """The file of a model's weights, downloaded once. Raises UserError, naming other ways, where that fails."""
    import timm
    from safetensors.torch import save_file

    name = backbone.removeprefix(TIMM)
    label = hashlib.blake2b(name.encode(), digest_size=4).hexdigest()
    file = Path(torch.hub.get_dir()) / "checkpoints" / f"timm-{name.replace('/', '-')}-{label}.safetensors"
    if file.is_file():
        return file
    try:
        state = timm.create_model(name, pretrained=True).state_dict()
    except Exception as error:
        raise UserError(f"no weights for timm/{name}: {ways}, or allow timm's download ({error})") from error
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(f".{os.getpid()}.part")
    save_file({key: value.contiguous() for key, value in state.items()}, unfinished)
    unfinished.replace(file)
    return file


def _timm(backbone: str) -> Any:
    require("timm", f"backbone {backbone}")
    import timm

    return timm


def _indices(name: str, known: list[str], layers: tuple[str, ...]) -> list[int]:
    unknown = [layer for layer in layers if layer not in known]
    if unknown:
        raise ConfigError(f"{name} has no layer {unknown[0]!r}: it has {len(known)}: {', '.join(known)}")
    indices = sorted(known.index(layer) for layer in layers)
    if [known[i] for i in indices] != list(layers):
        raise ConfigError(f"layers of {name} go shallow first: {', '.join(known[i] for i in indices)}")
    return indices


def _made(config: FeaturesConfig, **options: Any) -> Any:
    """The network of random weights, for the config's size where it is made for one."""
    timm, name = _timm(config.backbone), config.backbone.removeprefix(TIMM)
    with torch.device("meta"):
        published = timm.create_model(name, pretrained=False).pretrained_cfg
    size = {"img_size": _network_size(config)} if published.get("fixed_input_size") else {}
    try:
        return timm.create_model(name, pretrained=False, **size, **options)
    except AssertionError as error:  # how timm refuses a size
        height, width = _network_size(config)
        raise ConfigError(f"timm/{name} cannot be made for images of {height} x {width} pixels: {error}") from error


def _outline(config: FeaturesConfig) -> Any:
    """The network without values."""
    with torch.device("meta"):
        return _made(config)


def padded_size(config: FeaturesConfig) -> Size:
    """(height, width) of images as a network gets them: padded to whole patches where asked.

    Raises ConfigError for a model that reads no patches.
    """
    if not config.pad:
        return config.input_size
    patch = _patch_size(config.backbone)
    if patch is None:
        raise ConfigError(f"{config.backbone} reads no patches that images are padded to: unset features.pad")
    height, width = (-(-side // step) * step for side, step in zip(config.input_size, patch, strict=True))
    return height, width


def _network_size(config: FeaturesConfig) -> Size:
    """(height, width) of what a network sees at a time: a tile, or a whole image."""
    return padded_size(config) if config.tiles is None else (config.tiles.size, config.tiles.size)


@lru_cache(maxsize=16)
def _patch_size(backbone: str) -> Size | None:
    """(height, width) of a model's patches; None where it reads none."""
    with torch.device("meta"):
        whole: Any = _timm(backbone).create_model(backbone.removeprefix(TIMM), pretrained=False)
    ratio = getattr(getattr(whole, "patch_embed", None), "feat_ratio", None)
    return None if ratio is None else ratio(as_scalar=False)


def _require_whole_patches(config: FeaturesConfig) -> None:
    _require_whole("images", padded_size(config), config.backbone, ", or set features.pad=true")
    if config.tiles is not None:
        _require_whole("tiles", _network_size(config), config.backbone)


def _require_whole(what: str, size: Size, name: str, otherwise: str = "") -> None:
    patch = _patch_size(name)
    if patch is None or all(side % step == 0 for side, step in zip(size, patch, strict=True)):
        return
    below = [max(side // step, 1) * step for side, step in zip(size, patch, strict=True)]
    above = [-(-side // step) * step for side, step in zip(size, patch, strict=True)]
    near = " or ".join(f"{height} x {width}" for height, width in dict.fromkeys(((*below,), (*above,))))
    raise ConfigError(
        f"{name} reads patches of {patch[0]} x {patch[1]} pixels, and {what} of {size[0]} x {size[1]} are no whole "
        f"ones: give {near}{otherwise}"
    )


def _require_final_norm(name: str, network: nn.Module, widths: set[int]) -> None:
    norm = getattr(network, "norm", None)
    if len(widths) > 1 or norm is None or isinstance(norm, nn.Identity):
        raise ConfigError(f"{name} has no final norm for its layers: unset features.final_norm")
