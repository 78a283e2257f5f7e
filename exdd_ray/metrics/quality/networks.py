"""Feature networks: a picture becomes one vector, pooled over all positions, and class scores where it has classes."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

import numpy as np
import torch
from torch import Tensor

from exdd_ray.errors import UserError
from exdd_ray.features.backbone import Backbone, load_backbone, weights_digest
from exdd_ray.features.config import FeaturesConfig
from exdd_ray.features.prepare import prepare_image
from exdd_ray.metrics.quality.config import QualityConfig
from exdd_ray.metrics.quality.pictures import PictureSet
from exdd_ray.store.hashes import file_digest

_BATCH = 32
# The layers whose outputs are pooled: features, then class scores. layer3 of ResNet-18 has 256 channels, few enough
# for the covariance of a few hundred images, and is less bound to ImageNet's classes than layer4.
_LAYERS = {
    "surface_resnet18": ("surface_resnet18", ("layer3",)),
    "resnet18": ("resnet18", ("layer3",)),
    "squeezenet": ("squeezenet1_1", ("features", "classifier")),
}
INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"


@dataclass(frozen=True)
class Features:
    """Vectors [N x D] and, of a classifier, class scores before the softmax [N x C]; both float64."""

    vectors: np.ndarray
    logits: np.ndarray | None


@dataclass(frozen=True)
class FeatureNetwork:
    """A frozen network.

    Attributes:
        name: as it stands in the name of every figure.
        description: network, what is taken of it, its input, and the content hash of its weights.
        embed: pictures uint8 [H x W x 3] -> vectors [B x D], and class scores [B x C] where it is a classifier.
    """

    name: str
    description: str
    embed: Callable[[Sequence[np.ndarray]], tuple[Tensor, Tensor | None]]


def load_network(config: QualityConfig, device: str = "cpu") -> FeatureNetwork:
    """The configured feature network.

    `inception` is torch-fidelity's: the network, weights and TensorFlow-like resize to 299 x 299 of the published FID,
    2048 features. The others see the image at 224 x 224 (bilinear, antialiased, ImageNet normalisation), and their
    features are the mean over all positions of one layer's output: ResNet-18's layer3 (256), SqueezeNet 1.1's last
    fire module (512).

    Raises:
        UserError: no weights, naming the ways to give them, or such as do not fit.
    """
    if config.network == "inception":
        return _load_inception(config.weights, device)
    name, layers = _LAYERS[config.network]
    features = FeaturesConfig(backbone=name, weights=config.weights, layers=layers)
    backbone = pretrained(features, "quality.weights", device)

    def embed(pictures: Sequence[np.ndarray]) -> tuple[Tensor, Tensor | None]:
        batch = torch.from_numpy(np.stack([prepare_image(picture, features) for picture in pictures]))
        pooled = [output.mean(dim=(2, 3)) for output in backbone(batch.to(device))]
        return pooled[0], pooled[1] if len(pooled) > 1 else None

    description = f"{name} {layers[0]}, mean over positions, input 224 x 224, weights {weights_digest(features)}"
    return FeatureNetwork(config.network, description, embed)


def pretrained(features: FeaturesConfig, key: str, device: str) -> Backbone:
    """load_backbone, with errors that name the config key which gives the weights here."""
    try:
        return load_backbone(features, device)
    except UserError as error:
        raise UserError(str(error).replace("features.weights", key)) from error


def extract(network: FeatureNetwork, pictures: PictureSet) -> Features:
    """Features of all pictures, in their order."""
    with torch.inference_mode():
        outputs = [network.embed(block) for block in pictures.blocks(_BATCH)]
    vectors = torch.cat([vector for vector, _ in outputs])
    logits = [scores for _, scores in outputs if scores is not None]
    return Features(_float64(vectors), _float64(torch.cat(logits)) if logits else None)


def _float64(values: Tensor) -> np.ndarray:
    return values.double().cpu().numpy()


def _load_inception(weights: Path | None, device: str) -> FeatureNetwork:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    path = weights or _inception_file()
    _refuse_other_weights(path)
    try:
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048", "logits_unbiased"], str(path))
    except (RuntimeError, TypeError) as error:
        raise UserError(
            f"{path}: not the weights of the FID's Inception ({INCEPTION_FILE} of torch-fidelity)"
        ) from error
    network.to(device)

    def embed(pictures: Sequence[np.ndarray]) -> tuple[Tensor, Tensor | None]:
        # One by one: the sizes differ, and the resize is part of the network.
        images = [torch.from_numpy(picture.transpose(2, 0, 1).copy())[None] for picture in pictures]
        outputs = [network(image.to(device)) for image in images]
        vectors, logits = zip(*outputs, strict=True)
        return torch.cat(vectors), torch.cat(logits)

    description = f"Inception v3 (torch-fidelity), 2048 features, input 299 x 299, weights {file_digest(path)}"
    return FeatureNetwork("inception", description, embed)


def _refuse_other_weights(path: Path) -> None:
    """The library unpickles the file without restraint, so that it is first read as tensors only."""
    if not path.is_file():
        raise UserError(f"{path}: no such weights file (quality.weights)")
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes raise nearly every type
        raise UserError(f"{path}: not a readable file of PyTorch weights ({type(error).__name__})") from error


def _inception_file() -> Path:
    """That of the folder EXDD_WEIGHTS, or torch-fidelity's release, downloaded once into torch.hub's folder."""
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    place = os.environ.get("EXDD_WEIGHTS")
    if place and (Path(place) / INCEPTION_FILE).is_file():
        return Path(place) / INCEPTION_FILE
    file = Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION_FILE
    if not file.is_file():
        try:
            torch.hub.load_state_dict_from_url(URL_INCEPTION_V3, check_hash=True, weights_only=True)
        except (URLError, OSError, RuntimeError) as error:
            raise UserError(
                f"no weights for inception: give quality.weights=PATH, put {INCEPTION_FILE} into the folder "
                f"EXDD_WEIGHTS, or allow the download of {URL_INCEPTION_V3} ({error})"
            ) from error
    return file
