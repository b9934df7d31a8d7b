"""The fast preset, for any stage: `--preset fast`, or `make reproduce ... ARGS="--preset fast"`.

- bf16 autocast, where the device gains from it and the config names no precision;
- channels-last weights for two-dimensional convolutions;
- the networks that a step calls are compiled, in runs long enough to pay for it (`COMPILE_FROM` steps);
- networks that are frozen, in evaluation mode, and reached by no gradient run in inference mode.

On a CPU bf16 and channels-last pay for large products, as in SAM's encoders, not for the nets of the mini scale, whose
steps they may slow down: `make speed` measures both.

Final metrics are those of the plain run within the noise of seeds, not bit by bit: bf16 rounds, and compiled kernels
sum in another order and draw other random numbers for dropout. A stage can be resumed with the preset or without it.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._pytree import tree_leaves, tree_map_only
from torchmetrics import Metric

COMPILE_FROM = 2000
"""Steps from which compiling pays: it takes minutes, which a shorter run does not win back."""


def gains_from_bf16() -> bool:
    """Whether the device multiplies bf16 faster than float32: such a GPU, or a CPU with AMX or AVX512-BF16."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and any(flag in cpuinfo.read_text(encoding="utf-8") for flag in ("amx_bf16", "avx512_bf16"))


def channels_last(module: nn.Module) -> None:
    """Lay out the weights of two-dimensional convolutions as the fastest kernels want them; values stay."""
    for part in module.modules():
        if isinstance(part, (nn.Conv2d, nn.ConvTranspose2d)):
            part.to(memory_format=torch.channels_last)


class FastPreset(L.Callback):
    """Sees during the first step which networks it calls, and makes those fast from the second step on."""

    def __init__(self, compile_from: int = COMPILE_FROM):
        self.compile_from = compile_from
        self.compiled: list[nn.Module] = []
        self.inferred: list[nn.Module] = []
        self._called: list[nn.Module] | None = None
        self._stop: Callable[[], None] | None = None

    def setup(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        channels_last(module)

    def _start(self, module: L.LightningModule) -> None:
        if self._called is None:
            self._called, self._stop = outermost_calls(module)

    def _finish(self, steps: float) -> None:
        if self._stop is None:
            return
        self._stop()
        self._stop = None
        for network in self._called or []:
            if steps >= self.compile_from:
                torch._dynamo.config.suppress_errors = True  # what cannot be compiled runs as it is
                network.forward = torch.compile(network.forward)
                self.compiled.append(network)
            if frozen(network):
                network.forward = without_gradients(network.forward)
                self.inferred.append(network)

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        self._start(module)

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self._finish(trainer.estimated_stepping_batches - trainer.global_step)

    def on_test_batch_start(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        self._start(module)

    def on_test_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self._finish(sum(trainer.num_test_batches))

    def on_predict_batch_start(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        self._start(module)

    def on_predict_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self._finish(sum(trainer.num_predict_batches))


def outermost_calls(module: nn.Module) -> tuple[list[nn.Module], Callable[[], None]]:
    """Record which parts of `module` are called, those that are called within another one left out.

    Returns:
        a list that fills, and a function that ends the recording.
    """
    parts = {id(part) for part in module.modules() if part is not module and any(True for _ in part.parameters())}
    called: list[nn.Module] = []
    stack: list[nn.Module] = []

    def before(part: nn.Module, inputs: Any) -> None:
        if id(part) in parts and not isinstance(part, Metric):
            if not stack and part not in called:
                called.append(part)
            stack.append(part)

    def after(part: nn.Module, inputs: Any, output: Any) -> None:
        if stack and stack[-1] is part:
            stack.pop()

    hooks = [register_module_forward_pre_hook(before), register_module_forward_hook(after, always_call=True)]

    def stop() -> None:
        for hook in hooks:
            hook.remove()

    return called, stop


def frozen(network: nn.Module) -> bool:
    """Whether it learns nothing now: no parameter is trained, and it is in evaluation mode."""
    return not network.training and not any(parameter.requires_grad for parameter in network.parameters())


def without_gradients(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A frozen network's forward pass in inference mode, unless a gradient has to pass through to its inputs.

    Its results are copied, because tensors made in inference mode cannot be saved for a backward pass.
    """

    @functools.wraps(forward)
    def inferring(*args: Any, **kwargs: Any) -> Any:
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs):
            return forward(*args, **kwargs)
        with torch.inference_mode():
            result = forward(*args, **kwargs)
        return tree_map_only(Tensor, Tensor.clone, result)

    return inferring
