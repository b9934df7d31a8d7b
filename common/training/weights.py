"""Loading pretrained weights safely: tensors only, strict keys and shapes, and errors that say what to do."""

import zipfile
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
WRAPPING = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}  # by torch.compile, FSDP, checkpointing
LISTED = 4
DEEPEST = 10  # dictionaries in dictionaries around the weights


def load_state(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a weight file, on the CPU.

    Reads safetensors, and `.pt`, `.pth`, `.ckpt` as written by `torch.save` or Lightning (whose 'state_dict' is
    taken); names lose what `torch.compile`, FSDP and data parallel training have put before them. No code of the file
    is ever run.

    Raises:
        UserError: file missing, truncated, damaged, holding Python objects, or without a dictionary of tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no weight file at {path}: download it or correct the path")
    if path.suffix == ".safetensors":
        try:
            return dict(unwrapped(load_file(path)))
        except (SafetensorError, OSError) as error:
            raise _damaged(path, error) from error
    return dict(unwrapped(_tensors(_torch_load(path), path)))


def unwrapped(state: State) -> State:
    """A state under the names that the network itself has, without those of wrappers around it or parts of it."""
    plain = {".".join(part for part in key.split(".") if part not in WRAPPING): value for key, value in state.items()}
    if len(plain) < len(state):
        return state  # two networks with the same names, one of them wrapped
    while len(parallel := [key for key in plain if key != "n_averaged"]) and all(
        key.startswith("module.") for key in parallel
    ):
        plain = {key.removeprefix("module."): plain[key] for key in parallel}
    return plain


def rooted(state: State, wanted: Iterable[str]) -> State:
    """The part of a state that has all the wanted names once a prefix is taken off ("student." of a whole stage).

    The state itself where it has them as they are, where it has them under no prefix, and where it has them under
    several: which of them is meant is not for us to say.
    """
    names = list(wanted)
    prefixes = _prefixes(state, names)
    if len(prefixes) != 1 or "" in prefixes:
        return state
    return {key[len(prefixes[0]) :]: value for key, value in state.items() if key.startswith(prefixes[0])}


def _prefixes(state: State, names: list[str]) -> list[str]:
    """The prefixes under which a state has all these names."""
    if not names or all(name in state for name in names):
        return [""]
    found = [key[: -len(names[0])] for key in state if key.endswith(f".{names[0]}")]
    return [prefix for prefix in found if all(prefix + name in state for name in names)]


def load_weights(module: Module, source: State | str | Path, prefix: str = "", ignore: Iterable[str] = ()) -> Module:
    """Fill `module` from a file or a state dict; every key and every shape must match. Returns `module`.

    Where the file has all of the module's names under one prefix, that part of it is taken.

    Args:
        source: path (see `load_state`) or the state itself.
        prefix: use only the keys that start with this, and strip it ("student." of a whole LightningModule).
        ignore: patterns (`fnmatch`) of keys, after stripping, to leave out of the file.

    Raises:
        UserError: what is missing, unexpected or of another shape, and the likely cause; what is of another kind or not
            finite. `module` is unchanged then.
    """
    if isinstance(source, (str, Path)):
        state: State = load_state(source)
        where = str(source)
    else:
        state, where = source, "the given state"
    names = {name: key for key, name in zip(module.state_dict(), unwrapped(module.state_dict()), strict=True)}
    expected = {name: module.state_dict()[key] for name, key in names.items()}
    state = unwrapped(state)
    state = state if prefix else rooted(state, expected)
    patterns = tuple(ignore)
    found = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
    found = {key: value for key, value in found.items() if not any(fnmatchcase(key, p) for p in patterns)}

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
    parameters = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    for name, key in names.items():
        if problem := _unfit(found[name], expected[name], key in parameters):
            raise UserError(
                f"{where}: {name} {problem}. Such weights are not used: get the file again, or another one."
            )
    module.load_state_dict({key: found[name] for name, key in names.items()})
    return module


def _unfit(found: Tensor, expected: Tensor, trained: bool) -> str:
    """What is wrong with the values of a tensor; empty where nothing is. Buffers may hold infinities: masks do."""
    if found.is_floating_point() != expected.is_floating_point() or (found.dtype == torch.bool) != (
        expected.dtype == torch.bool
    ):
        return f"holds {found.dtype}, where {expected.dtype} belongs".replace("torch.", "")
    if found.layout != torch.strided or found.is_meta:
        return "holds no plain numbers (it is sparse, or without content)"
    if not found.is_floating_point() or bool(torch.isfinite(found.float()).all()):
        return ""
    masks = not trained and not expected.is_meta and not bool(torch.isfinite(expected.float()).all())
    if masks and not bool(found.float().isnan().any()):
        return ""
    bad = found.numel() - int(torch.isfinite(found.float()).sum())
    return f"has {bad} values that are not finite, of {found.numel()}"


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
        if start == b"P" and not sums_hold(path):
            raise _damaged(path, ValueError("its checksums do not hold"))
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


def sums_hold(path: Path) -> bool:
    """Whether a file of `torch.save`, which is a zip file with a checksum of each part, is whole to the bit."""
    try:
        with zipfile.ZipFile(path) as parts:
            return parts.testzip() is None
    except Exception:  # BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, ...
        return False


def _pickled_objects(message: str) -> str:
    """What the restricted unpickler of `torch.load` objected to, or '' when the file is merely broken."""
    for line in message.splitlines():
        if "GLOBAL" in line or "Unsupported operand" in line or "Unsupported class" in line:
            return line.strip()[:160]
    return ""


def _tensors(content: object, path: Path) -> dict[str, Tensor]:
    for _ in range(DEEPEST):  # one that holds itself has no end
        if not isinstance(content, Mapping) or _is_state(content):
            break
        inner = [key for key in WRAPPERS if isinstance(content.get(key), Mapping)]
        inner = inner or [key for key, value in content.items() if _is_state(value)]
        if len(inner) > 1 and inner[0] not in WRAPPERS:
            raise UserError(f"{path} holds several networks ({', '.join(map(str, inner))}): save the one that is meant")
        if not inner:
            break
        content = content[inner[0]]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{path} holds no state dict (names -> tensors): give the file with the model's weights")
    return {str(key): value for key, value in content.items()}


def _is_state(content: object) -> bool:
    return isinstance(content, Mapping) and bool(content) and all(isinstance(x, Tensor) for x in content.values())


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
    if prefixes := [found for found in _prefixes(state, list(expected)) if found]:
        listed = ", ".join(f"'{found}'" for found in prefixes)
        return f"It holds it under {listed}: save the one that is meant as a file of its own."
    if not any(key[len(prefix) :] in expected for key in state):
        return "It holds the weights of another model."
    return "It was written for another version of this model."
