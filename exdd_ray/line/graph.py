"""A graph of PyTorch's exporter in two files: what is computed, and weights that any tool reads. No pickle."""

import warnings
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from exdd_ray.line.folder import GRAPH, WEIGHTS, ModelError

MOST = 64  # images in one call


def traced(module: nn.Module, shape: tuple[int, int]) -> ExportedProgram:
    """The graph of a module of prepared images [B x 3 x h x w], for any B up to 64.

    Args:
        shape: (h, w).
    """
    images = torch.zeros(3, 3, *shape)  # neither 1 nor 2, which exporters take for constants
    return torch.export.export(module.eval(), (images,), dynamic_shapes={"images": {0: Dim("images", min=1, max=MOST)}})


def write_graph(folder: Path, program: ExportedProgram) -> None:
    """Write both files. The program is left without weights."""
    weights = {name: value.detach().contiguous().clone() for name, value in program.state_dict.items()}
    (folder / WEIGHTS).write_bytes(save(weights))  # save_file makes a file that nobody else may read
    program._example_inputs = None
    program._state_dict = {name: _hollow(value) for name, value in program.state_dict.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of weights that are no whole tensors
        torch.export.save(program, folder / GRAPH)


def _hollow(value: Tensor) -> Tensor:
    """A tensor of the same shape and type whose memory is one number."""
    hollow = torch.zeros(1, dtype=value.dtype).expand(value.shape)
    return nn.Parameter(hollow, requires_grad=False) if isinstance(value, nn.Parameter) else hollow


def read_graph(folder: Path) -> nn.Module:
    """The module of both files. Raises ModelError where PyTorch cannot read them."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = torch.export.load(folder / GRAPH).module()
            module.load_state_dict(load_file(folder / WEIGHTS), assign=True)
    except Exception as error:
        raise ModelError(
            f"{folder}: PyTorch {torch.__version__} cannot read its graph ({type(error).__name__})"
        ) from error
    return module
