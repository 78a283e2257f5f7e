"""Models that paint: found by name, folder or hub id, and loaded as diffusers' pipelines."""

import copy
import re
import threading
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from exdd_ray.device import CUDA, compute_device, out_of_memory
from exdd_ray.errors import ConfigError, UserError
from exdd_ray.store.contents import content_digest
from exdd_ray.store.hashes import digest
from exdd_ray.synthesizers.device import device_of, precision_of
from exdd_ray.synthesizers.painting.adapter import Adapter, merge_adapter
from exdd_ray.synthesizers.painting.config import MINIATURE, DiffusionConfig

MINIATURE_FOLDER = Path(__file__).parents[2] / "weights" / "miniature" / "weights"
_SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "dpm": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "unipc": "UniPCMultistepScheduler",
}

C = TypeVar("C", bound=DiffusionConfig)

_MODEL_FILES = (".safetensors", ".json", ".txt", ".model")  # weights, configs, and tokenizers of three kinds
_COMMIT = re.compile(r"[0-9a-f]{40}")
_PATIENCE_S = 10.0

_loaded: dict[str, Any] = {}
_loading = threading.Lock()


def model_digest(config: DiffusionConfig) -> str:
    """What names the model in recipes: the content of a local folder's files, or a hub id with its commit; and which
    of its weights are loaded.

    Raises UserError where the model cannot be had.
    """
    model = revision_of(config) if _folder(config) is not None else f"{config.model}@{revision_of(config)}"
    return model if config.variant is None else f"{model} {config.variant}"


def revision_of(config: DiffusionConfig) -> str:
    """The commit of a hub id, or the hash of a local folder's files. Raises UserError where there is none."""
    folder = _folder(config)
    if folder is None:
        return _commit(config.model, config.revision)
    files = sorted(path for path in folder.rglob("*") if path.suffix in _MODEL_FILES)
    if not (folder / "model_index.json").is_file():
        raise UserError(f"{folder}: not a model in diffusers' format (no model_index.json)")
    return digest([[str(path.relative_to(folder)), content_digest(path)] for path in files])


def pinned(config: C) -> C:
    """The config with a hub id's revision resolved to the commit that it names now."""
    if _folder(config) is not None:
        return config
    return config.model_copy(update={"revision": _commit(config.model, config.revision)})


def load_pipeline(config: DiffusionConfig, adapter: Adapter | None = None) -> Any:
    """A pipeline of the model, with an adapter merged in, for one thread: the networks are shared within the process.

    Its scheduler and its tokenizers are its own: both have a state, and a tokenizer that another thread asks to pad
    otherwise gives too few tokens.

    Raises:
        UserError: the model cannot be had, with the ways to get it, or does not fit the device's memory; an adapter
            that is not for it.
        ConfigError: a device that is not here, or a scheduler that is not for the model.
    """
    if device_of(config.run) == CUDA and compute_device() != CUDA:
        raise ConfigError("synthesizer.run.device=cuda, but torch has no CUDA device here")
    how = config.run.model_dump(exclude={"batch", "gpus"})
    key = digest([model_digest(config), config.scheduler, how, None if adapter is None else adapter.key])
    with _loading:
        if key not in _loaded:
            _loaded.clear()
            _loaded[key] = _load(config, adapter)
        pipeline = copy.copy(_loaded[key])
    for name in ("scheduler", *_tokenizers(pipeline)):
        setattr(pipeline, name, copy.deepcopy(getattr(pipeline, name)))
    return pipeline


def check_prompts(pipeline: Any, prompts: tuple[str, ...]) -> None:
    """Raises ConfigError for a prompt of more tokens than an encoder of the pipeline takes: it would be cut."""
    for name in _tokenizers(pipeline):
        tokenizer = getattr(pipeline, name)
        for prompt in prompts:
            tokens = len(tokenizer(prompt).input_ids)
            if tokens > tokenizer.model_max_length:
                raise ConfigError(
                    f"the prompt {prompt!r} has {tokens} tokens, the model's encoder takes {tokenizer.model_max_length}"
                )


def _tokenizers(pipeline: Any) -> list[str]:
    names = ("tokenizer", "tokenizer_2", "tokenizer_3")
    return [name for name in names if getattr(pipeline, name, None) is not None]


def _folder(config: DiffusionConfig) -> Path | None:
    if config.model == MINIATURE:
        return MINIATURE_FOLDER
    local = Path(config.model).expanduser()
    if local.is_dir():
        return local
    if local.is_absolute() or config.model.startswith(("~", ".")) or config.model.count("/") != 1:
        raise UserError(f"{config.model}: no such folder, and not a hub id (owner/name)")
    return None


@lru_cache(maxsize=16)
def _commit(model: str, revision: str | None) -> str:
    """The commit that a hub id's revision names now (weights that move on are another model); without network, the
    one in the hub's local cache.

    Raises UserError where neither is to be had.
    """
    from huggingface_hub import HfApi, hf_hub_download

    if revision is not None and _COMMIT.fullmatch(revision):
        return revision
    try:
        return str(HfApi().model_info(model, revision=revision, timeout=_PATIENCE_S).sha)
    except Exception as unreachable:  # of whichever HTTP client the hub's library uses
        try:
            file = hf_hub_download(model, "model_index.json", revision=revision, local_files_only=True)
        except (OSError, ValueError):
            raise _missing(model, unreachable) from unreachable
        return Path(file).parent.name


def _missing(model: str, error: Exception) -> UserError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    return UserError(
        f"no model {model}: give synthesizer.model a local folder in diffusers' format, or let this machine "
        f"reach the hub (a gated model needs HF_TOKEN), or use model={MINIATURE} ({reason})"
    )


def fresh_pipeline(config: DiffusionConfig) -> Any:
    """A pipeline of the model that nobody else has: to be changed. Raises as `load_pipeline`."""
    return _load(config, None)


def _load(config: DiffusionConfig, adapter: Adapter | None) -> Any:
    try:
        pipeline = _read(config)
        if adapter is not None:
            merge_adapter(pipeline, adapter, config.model)
        return _prepare(pipeline, config)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        raise UserError(
            f"{config.model} does not fit the device's memory: set synthesizer.run.memory=offload or a half precision"
        ) from error


def _read(config: DiffusionConfig) -> Any:
    from diffusers.utils import logging
    from transformers.utils import logging as transformers_logging

    logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    if (folder := _folder(config)) is not None:
        return _from_pretrained(folder, config)
    revision = _commit(config.model, config.revision)
    try:
        return _from_pretrained(config.model, config, revision=revision, local_files_only=True)
    except UserError:  # not all of its files are in the hub's cache
        return _from_pretrained(config.model, config, revision=revision)


def _from_pretrained(source: Path | str, config: DiffusionConfig, **where: Any) -> Any:
    import torch
    from diffusers import AutoPipelineForInpainting, DiffusionPipeline

    try:
        index = DiffusionPipeline.load_config(source, **where)
        # AutoPipeline does not know FLUX's fill pipeline, which is one for inpainting already
        loader = DiffusionPipeline if "Fill" in index["_class_name"] else AutoPipelineForInpainting
        # it would blacken what it takes for indecent, surfaces included
        unchecked = {"safety_checker": None, "requires_safety_checker": False}
        return loader.from_pretrained(
            source,
            variant=config.variant,
            dtype=getattr(torch, precision_of(config.run)),
            use_safetensors=True,
            **where,
            **{name: value for name, value in unchecked.items() if name in index},
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        if isinstance(error, RuntimeError) and out_of_memory(error):
            raise
        raise _missing(config.model, error) from error


def _prepare(pipeline: Any, config: DiffusionConfig) -> Any:
    import diffusers
    import torch

    run, device = config.run, device_of(config.run)
    if config.scheduler != "model":
        if "FlowMatch" in type(pipeline.scheduler).__name__:
            raise ConfigError(
                f"{config.model} matches flows: synthesizer.scheduler={config.scheduler} is for diffusion"
            )
        scheduler = getattr(diffusers, _SCHEDULERS[config.scheduler])
        pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config)
    if getattr(pipeline, "watermark", None) is not None:
        pipeline.watermark = None  # SDXL's, a pattern all over the image
    pipeline.set_progress_bar_config(disable=True)
    denoiser = pipeline.unet if getattr(pipeline, "unet", None) is not None else pipeline.transformer
    for network in (denoiser, pipeline.vae):
        network.to(memory_format=torch.channels_last)
    if run.memory == "slicing":
        pipeline.enable_attention_slicing()
        pipeline.vae.enable_slicing()
        pipeline.vae.enable_tiling()
    if run.memory == "offload":
        pipeline.enable_model_cpu_offload()
    else:
        pipeline.to(device)
    if run.compile:
        denoiser.compile()
    return pipeline
