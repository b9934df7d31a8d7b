"""Loading pretrained weights safely: tensors only, strict keys and shapes, and errors that say what to do."""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from common.errors import UserError

State = Mapping[str, Tensor]
Module = TypeVar("Module", bound=nn.Module)

PICKLE_OR_ZIP = (b"\x80", b"P")  # first byte of whatever torch.save writes
WRAPPERS = ("state_dict", "model")  # where Lightning, and the training scripts of many papers, put the weights
LISTED = 4


def load_state(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a weight file, on the CPU.

    Reads safetensors, and `.pt`, `.pth`, `.ckpt` as written by `torch.save` or Lightning (whose 'state_dict' is
    taken). No code of the file is ever run.

    Raises:
        UserError: file missing, truncated, damaged, holding Python objects, or without a dictionary of tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no weight file at {path}: download it or correct the path")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise _damaged(path, error) from error
    return _tensors(_torch_load(path), path)


def load_weights(module: Module, source: State | str | Path, prefix: str = "", ignore: Iterable[str] = ()) -> Module:
    """Fill `module` from a file or a state dict; every key and every shape must match. Returns `module`.

    Args:
        source: path (see `load_state`) or the state itself.
        prefix: use only the keys that start with this, and strip it ("student." of a whole LightningModule).
        ignore: patterns (`fnmatch`) of keys, after stripping, to leave out of the file.

    Raises:
        UserError: what is missing, unexpected or of another shape, and the likely cause. `module` is unchanged then.
    """
    if isinstance(source, (str, Path)):
        state: State = load_state(source)
        where = str(source)
    else:
        state, where = source, "the given state"
    patterns = tuple(ignore)
    found = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
    found = {key: value for key, value in found.items() if not any(fnmatchcase(key, p) for p in patterns)}
    expected = module.state_dict()

    missing = [key for key in expected if key not in found]
    unexpected = [key for key in found if key not in expected]
    reshaped = [key for key in expected if key in found and found[key].shape != expected[key].shape]
    if missing or unexpected or reshaped:
        problems = [_listed("missing", missing), _listed("unexpected", unexpected)]
        shapes = [f"{key} is {list(found[key].shape)}, not {list(expected[key].shape)}" for key in reshaped]
        problems.append(_listed("of another shape", shapes))
        raise UserError(
            f"{where} does not fit {type(module).__name__}: {'; '.join(filter(None, problems))}. "
            + _likely_cause(state, expected, prefix, reshaped)
        )
    module.load_state_dict(found)
    return module


def load_tied(module: Module, path: str | Path) -> Module:
    """Fill `module` from a file that holds tensors which several names share only once. Returns `module`.

    Raises:
        UserError: the file does not fit.
    """
    state = load_state(path)
    own = module.state_dict()
    by_place = {own[name].data_ptr(): name for name in state if name in own}
    for name, value in own.items():
        if name not in state and (other := by_place.get(value.data_ptr())):
            state[name] = state[other]
    return load_weights(module, state)


def _torch_load(path: Path) -> object:
    try:
        with path.open("rb") as file:
            start = file.read(1)
        if start not in PICKLE_OR_ZIP:
            raise UserError(f"{path} is not a PyTorch file (a saved web page? an empty download?): fetch it again")
        return torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except Exception as error:  # torch.load has no common base class for the ways in which a file can be broken
        unsafe = _pickled_objects(str(error))
        if unsafe:
            raise UserError(
                f"{path} is refused: besides tensors it holds pickled Python objects, which could run code when loaded "
                f"({unsafe}). Ask its author for a safetensors file or a plain state dict."
            ) from error
        raise _damaged(path, error) from error


def _pickled_objects(message: str) -> str:
    """What the restricted unpickler of `torch.load` objected to, or '' when the file is merely broken."""
    for line in message.splitlines():
        if "GLOBAL" in line or "Unsupported operand" in line or "Unsupported class" in line:
            return line.strip()[:160]
    return ""


def _tensors(content: object, path: Path) -> dict[str, Tensor]:
    if isinstance(content, Mapping):
        for wrapper in WRAPPERS:
            if isinstance(content.get(wrapper), Mapping):
                content = content[wrapper]
                break
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{path} holds no state dict (names -> tensors): give the file with the model's weights")
    return {str(key): value for key, value in content.items()}


def _damaged(path: Path, error: Exception) -> UserError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return UserError(f"{path} is truncated or damaged ({reason[:160]}): download or copy it again")


def _listed(what: str, items: list[str]) -> str:
    if not items:
        return ""
    more = f", ... ({len(items)} in all)" if len(items) > LISTED else ""
    return f"{what}: {', '.join(items[:LISTED])}{more}"


def _likely_cause(state: State, expected: State, prefix: str, reshaped: list[str]) -> str:
    if reshaped:
        return "It looks like another size of this model: choose the file, or the model's config, to match."
    if prefix and not any(key.startswith(prefix) for key in state):
        return f"None of its keys starts with '{prefix}'; the first is '{next(iter(state), '')}'."
    first = next(iter(expected), "")
    for key in state:
        if key.endswith(f".{first}") and len(key) > len(prefix) + len(first):
            return f"Its keys carry a prefix: try '{key[: -len(first)]}'."
    if not any(key[len(prefix) :] in expected for key in state):
        return "It holds the weights of another model."
    return "It was written for another version of this model."
