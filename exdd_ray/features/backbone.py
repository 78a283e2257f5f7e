"""Pretrained backbones, cut after the last layer that is taken."""

import difflib
import os
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.fx.experimental.optimization import fuse

from exdd_ray.errors import ConfigError, UserError
from exdd_ray.features.config import FeaturesConfig
from exdd_ray.features.resnet import RESNETS, STAGES, make_resnet
from exdd_ray.features.timm_models import (
    TIMM,
    Channels,
    cut_timm_model,
    download_timm,
    fitted_weights,
    is_held,
    published_normalisation,
    require_known,
)
from exdd_ray.store.contents import content_digest

BUNDLED = "surface_resnet18"
_BUNDLED_FILE = Path(__file__).parents[1] / "weights" / BUNDLED / f"{BUNDLED}.safetensors"
_BUNDLED_ARCHITECTURE = "resnet18"
_ENDINGS = (".safetensors", ".pth", ".pt")
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_SWIN = "swin"  # torchvision's only family whose maps have their channels last
_TRANSFORMED = {"googlenet", "inception_v3"}  # their networks normalise once more, but only where asked


class Backbone(nn.Module):
    """A frozen network that gives the feature maps of some layers, shallow first.

    Attributes:
        name: of the backbone, for messages.
        channels_last: whether the body's maps are [B x H' x W' x C].
    """

    def __init__(
        self, body: nn.Module, layers: tuple[str, ...], name: str = "", *, channels_last: bool = False
    ) -> None:
        super().__init__()
        self.body = body
        self.layers = layers
        self.name = name
        self.channels_last = channels_last

    def forward(self, images: Tensor) -> list[Tensor]:
        """Feature maps, each [B x C x H' x W'], of normalised images [B x 3 x H x W].

        Raises ConfigError for images of a size that the network does not take, and a layer that gives no map.
        """
        try:
            found = self.body(images)
        except torch.OutOfMemoryError:
            raise
        except (AssertionError, RuntimeError) as error:  # how networks refuse a size, or fail at it
            height, width = images.shape[-2:]
            why = " ".join(str(error).split())
            raise ConfigError(f"{self.name} cannot read images of {height} x {width} pixels: {why}") from error
        maps = [found[layer] for layer in self.layers] if isinstance(found, dict) else list(found)
        for layer, one in zip(self.layers, maps, strict=True):
            if one.dim() != 4:
                shape = " x ".join(map(str, one.shape))
                raise ConfigError(f"{self.name}: layer {layer} gives {shape} values, no feature map [B x C x h x w]")
        return [one.permute(0, 3, 1, 2) for one in maps] if self.channels_last else maps


def load_backbone(config: FeaturesConfig, device: str = "cpu") -> Backbone:
    """The configured backbone with its pretrained weights, in eval mode.

    Raises ConfigError for an unknown backbone or layer, UserError where its weights are not to be found or do not fit.
    """
    body, channels_last = _truncated(config)
    _load_weights(body, config)
    backbone = Backbone(body, config.layers, config.backbone, channels_last=channels_last).eval().requires_grad_(False)
    return backbone.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def folded(backbone: Backbone) -> Backbone:
    """The backbone with batch norms folded into the convolutions before them, where it is a traced one.

    The same function but for rounding, a tenth faster; for inference alone.
    """
    body = backbone.body
    if not isinstance(body, GraphModule):
        return backbone
    fused = fuse(GraphModule(body, body.graph).eval())
    whole = Backbone(fused, backbone.layers, backbone.name, channels_last=backbone.channels_last)
    return whole.eval().to(memory_format=torch.channels_last)


def weights_file(config: FeaturesConfig) -> Path:
    """The weights' file: the config's path, the bundled one, EXDD_WEIGHTS, or the framework's download, in this order.

    Raises UserError naming all ways where none works; there is never a random initialisation.
    """
    if config.weights is not None:
        if not config.weights.is_file():
            raise UserError(f"{config.weights}: no such weights file (features.weights)")
        return config.weights
    if config.backbone == BUNDLED:
        return _BUNDLED_FILE
    known = require_known if config.backbone.startswith(TIMM) else _known_name
    known(config.backbone)
    return _from_environment(config.backbone) or _download(config.backbone)


def weights_digest(config: FeaturesConfig) -> str:
    """Content hash of the weights' file."""
    return content_digest(weights_file(config))


@lru_cache(maxsize=16)
def normalisation(backbone: str) -> tuple[Channels, Channels]:
    """Mean and standard deviation of the channels, of pixels in 0..1, that a backbone was trained with.

    Raises UserError where timm is needed and not installed, or the config of a hub's model cannot be had.
    """
    if backbone == BUNDLED or backbone in RESNETS:
        return _IMAGENET
    if backbone.startswith(TIMM):
        return published_normalisation(backbone) or _IMAGENET
    from torchvision.models import get_model_weights, list_models

    known = get_model_weights(backbone).__members__ if backbone in list_models() else {}
    if "IMAGENET1K_V1" not in known:
        return _IMAGENET
    published = known["IMAGENET1K_V1"].transforms()
    mean, std = tuple(published.mean), tuple(published.std)
    return mean, std


def _truncated(config: FeaturesConfig) -> tuple[nn.Module, bool]:
    """The network up to its last layer that is taken, and whether its maps have their channels last."""
    if config.backbone.startswith(TIMM):
        return cut_timm_model(config)
    name = _BUNDLED_ARCHITECTURE if config.backbone == BUNDLED else config.backbone
    if name in RESNETS and set(config.layers) <= set(STAGES):
        with torch.device("meta"):  # its random numbers would be overwritten
            return make_resnet(name, config.layers), False
    from torchvision.models import get_model
    from torchvision.models.feature_extraction import create_feature_extractor

    _known_name(name)
    options = {"transform_input": True} if name in _TRANSFORMED else {}
    with torch.device("meta"):  # its random numbers would be overwritten
        network = get_model(name, weights=None, **options).eval()
    try:
        body = create_feature_extractor(network, return_nodes={layer: layer for layer in config.layers})
        return body, name.startswith(_SWIN)
    except ValueError as error:
        children = ", ".join(child for child, _ in network.named_children())
        raise ConfigError(f"{name} has not all of the layers {', '.join(config.layers)}: it has {children}") from error


def _known_name(name: str) -> None:
    if name in RESNETS:
        return
    from torchvision.models import list_models

    if name not in list_models():
        near = difflib.get_close_matches(name, [BUNDLED, *list_models()], n=1)
        hint = f": did you mean {near[0]!r}?" if near else " (timm's are named timm/<name>)"
        raise ConfigError(f"unknown backbone {name!r}{hint}")


def _load_weights(body: Any, config: FeaturesConfig) -> None:
    """Fill the cut network; what the file has beyond it is left out, what it lacks is an error."""
    path = weights_file(config)
    state = {key: value for key, value in _read_state(path).items() if isinstance(value, Tensor)}
    if is_held(body):
        body, state = body.model, fitted_weights(config, state)
    given = {_flat(key): value for key, value in state.items()}
    wanted = {key: value for key, value in body.state_dict().items() if not key.endswith("num_batches_tracked")}
    missing = [key for key in wanted if _flat(key) not in given]
    if missing:
        raise UserError(f"{path}: not this backbone's weights: {missing[0]!r} is missing (and {len(missing) - 1} more)")
    for key, value in wanted.items():
        if given[_flat(key)].shape != value.shape:
            raise UserError(f"{path}: {key!r} is {tuple(given[_flat(key)].shape)}, not {tuple(value.shape)}")
    filled = {key: given[_flat(key)].to(value.dtype) for key, value in wanted.items()}
    body.load_state_dict(filled, strict=False, assign=True)


def _flat(key: str) -> str:
    return key.replace(".", "_")  # timm's cut networks join nested names so


def _read_state(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"{path}: not a readable weights file ({type(error).__name__})") from error
    if not isinstance(state, dict):
        raise UserError(f"{path}: expected a state dict, found {type(state).__name__}")
    return state.get("state_dict", state)


def _from_environment(backbone: str) -> Path | None:
    place = os.environ.get("EXDD_WEIGHTS")
    if not place:
        return None
    if Path(place).is_file():
        return Path(place)
    name = backbone.rpartition("/")[2]
    found = sorted(path for path in Path(place).glob(f"{name}*") if path.suffix in _ENDINGS)
    if len(found) > 1:
        raise UserError(f"EXDD_WEIGHTS={place} has several files for {name}: {', '.join(path.name for path in found)}")
    return found[0] if found else None


def _download(backbone: str) -> Path:
    ways = f"give features.weights=PATH, put {backbone.rpartition('/')[2]}.safetensors into the folder EXDD_WEIGHTS"
    if backbone.startswith(TIMM):
        return download_timm(backbone, ways)
    from torchvision.models import get_model_weights

    weights = get_model_weights(backbone)["IMAGENET1K_V1"]
    file = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]
    if file.is_file():
        return file
    try:
        weights.get_state_dict(check_hash=True, progress=True)
    except (URLError, OSError, RuntimeError) as error:
        raise UserError(
            f"no weights for {backbone}: {ways}, or allow the download of {weights.url} ({error})"
        ) from error
    return file
