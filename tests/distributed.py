"""Data parallel correctness in two lines:

def test_two_processes_equal_one():
    assert_data_parallel(contrastive_step, Encoder(), torch.randn(8, 16))
"""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

Step = Callable[..., Tensor]


def assert_data_parallel(step: Step, module: nn.Module, *batch: Tensor, world: int = 2, atol: float = 1e-5) -> None:
    """`world` processes with a part of the batch each must give the loss and gradients of one process with all of it.

    Args:
        step: `step(module, *batch) -> loss`; a function of a module's top level, because it is sent to processes.
        module: its parameters' gradients are compared, averaged over processes as data parallel training does.
        batch: tensors [B, ...]; B must be a multiple of `world`.
    """
    assert all(len(x) % world == 0 for x in batch), "the batch does not divide into equal parts"
    with TemporaryDirectory() as folder:
        mp.spawn(_worker, args=(world, folder, step, module, batch), nprocs=world)
        parts: list[dict[str, Any]] = [torch.load(Path(folder, f"{rank}.pt")) for rank in range(world)]
    module.zero_grad()
    loss = step(module, *batch)
    loss.backward()
    mean = torch.stack([part["loss"] for part in parts]).mean()
    torch.testing.assert_close(mean, loss.detach(), atol=atol, rtol=1e-5, msg=lambda m: f"loss: {m}")
    for name, parameter in module.named_parameters():
        for part in parts:
            _same_gradient(name, part["gradients"][name], parameter.grad, atol)


def _same_gradient(name: str, found: Tensor | None, expected: Tensor | None, atol: float) -> None:
    assert (found is None) == (expected is None), f"gradient of {name}: {found} on two processes, {expected} on one"
    if found is not None:
        torch.testing.assert_close(found, expected, atol=atol, rtol=1e-5, msg=lambda m: f"gradient of {name}: {m}")


def _worker(rank: int, world: int, folder: str, step: Step, module: nn.Module, batch: tuple[Tensor, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=world)
    loss = step(module, *(x.chunk(world)[rank] for x in batch))
    loss.backward()
    gradients = {}
    for name, parameter in module.named_parameters():
        if parameter.grad is not None:
            dist.all_reduce(parameter.grad)
            parameter.grad /= world
        gradients[name] = parameter.grad
    torch.save({"loss": loss.detach(), "gradients": gradients}, Path(folder, f"{rank}.pt"))
    dist.barrier()
    dist.destroy_process_group()
