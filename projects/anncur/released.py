"""What the authors have published, read without running anything of it: weights, and matrices of exact scores.

The checkpoints are PyTorch Lightning's, with a pickled configuration beside the tensors:

| hub id | file | for |
|---|---|---|
| nishantyadav/emb_crossenc_zeshel | emb_crossenc_zeshel.ckpt | `CrossEncoder("emb", ...)` |
| nishantyadav/cls_crossencoder_zeshel | cls_crossenc_zeshel.ckpt | `CrossEncoder("cls", ...)` |
| nishantyadav/dual_encoder_zeshel | dual_encoder_zeshel.ckpt | `DualEncoder(...)` |

A matrix is what `eval/run_cross_encoder_for_ment_ent_matrix_zeshel.py` of github.com/iesl/anncur pickles, or
`utils/split_zeshel_ment2ent_for_cur_exps.py`: scores [mentions, entities] beside texts and tokens.
"""

import io
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common.data.files import is_file, readable
from common.data.stores import ArrayStore
from common.errors import UserError
from common.training.weights import State, load_state, load_weights
from projects.anncur.scorer import row_names

Matrix = ArrayStore | np.ndarray
"""Exact scores [M, N]: `matrix[i]` is a row."""

OFFICIAL = "model."  # the attribute of the official LightningModules that holds the net
NAMES = (
    ("encoder.bert_model.", "bert."),
    ("encoder.additional_linear.", "head."),
    ("input_encoder.bert_model.", "query."),
    ("label_encoder.bert_model.", "item."),
)
"""Parts of the official networks, and what they are called here."""

SCORES = "ment_to_ent_scores"


class Ignored:
    """Stands for every class of a pickle that we do not need; it takes whatever it is given and does nothing."""

    def __init__(self, *args: Any, **kwargs: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        pass


# weights


def load_encoder(net: nn.Module, file: Path) -> nn.Module:
    """Fill an encoder of `encoders.py` from a stage's weights or from an official checkpoint. Returns it.

    Raises:
        UserError: as `load_weights` does; a checkpoint of another encoder.
    """
    state = official_state(file) if file.suffix != ".safetensors" and is_file(file) else load_state(file)
    if any(key.startswith(OFFICIAL) for key in state):
        state = _renamed(state, net)
    try:
        return load_weights(net, state)
    except UserError as error:
        raise UserError(f"{file}: {error}") from error


def official_state(file: Path) -> State:
    """The tensors of a Lightning checkpoint that also holds objects of its authors' classes.

    PyTorch's own restricted reader does the work; those classes are `Ignored` instead of imported.
    """
    try:
        unknown: list[Any] = [(Ignored, name) for name in torch.serialization.get_unsafe_globals_in_checkpoint(file)]
    except (ValueError, RuntimeError, OSError, pickle.UnpicklingError):
        return load_state(file)  # no archive of torch.save: says what is wrong
    if not unknown:
        return load_state(file)
    try:
        with torch.serialization.safe_globals(unknown):
            content = torch.load(file, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise UserError(f"{file} is damaged or no checkpoint ({error}): download it again") from error
    state = content.get("state_dict", content) if isinstance(content, dict) else {}
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{file} holds no state_dict: give a checkpoint of the official code")
    return state


def _renamed(state: State, net: nn.Module) -> State:
    """Official names to ours; poolers that the net has no use for are left out, as the official scores ignore them."""
    wanted, found = net.state_dict(), {}
    for key, value in state.items():
        name = key.removeprefix(OFFICIAL)
        for theirs, ours in NAMES:
            if name.startswith(theirs):
                name = ours + name[len(theirs) :]
                break
        if name in wanted or not (".pooler." in name or name.endswith("position_ids")):
            found[name] = value
    return found


# matrices


def open_scores(path: Path) -> Matrix:
    """A matrix of exact scores [M, N]: the folder that a stage leaves, an official `.pkl`, or `.npy`.

    Raises:
        UserError: nothing there, unfinished, damaged, or no matrix of finite numbers.
    """
    if path.suffix not in (".pkl", ".npy"):
        return ArrayStore.open(path)
    if not is_file(path):
        raise UserError(f"no scores at {path}: correct the path, or run the stage that writes them")
    matrix = official_matrix(path) if path.suffix == ".pkl" else _array(path)
    if matrix.ndim != 2 or not matrix.size or matrix.dtype.kind not in "fiu":
        raise UserError(f"{path} holds {matrix.dtype} {list(matrix.shape)}: scores are [queries, items], real numbers")
    if not np.isfinite(matrix).all():
        raise UserError(f"{path} holds scores that are not finite: compute it again")
    return matrix


def check_matrix(matrix: Matrix, queries: Tensor, items: Tensor, setting: str) -> None:
    """UserError if a matrix is one of other queries or items, as far as their number or its rows' names tell.

    Args:
        queries: tokens of what stands in the query's place, [M, L_q].
        items: tokens of the items, [N, L_i].
        setting: names the matrix.
    """
    shape, wanted = (len(matrix), len(matrix[0])), (len(queries), len(items))
    if shape != wanted:
        raise UserError(
            f"{setting} holds {shape[0]} x {shape[1]} scores, not {wanted[0]} x {wanted[1]}: give the matrix of this "
            "domain, or the domain of this matrix (--data.search, --data.search_mentions, --data.item_rows)"
        )
    names = matrix.names if isinstance(matrix, ArrayStore) else None
    if names is not None and names != row_names(queries, items):
        raise UserError(
            f"{setting} holds scores of other texts: run the stage that writes it again, or give its domain and "
            "its seed (--data.search, --seed_everything)"
        )


def official_matrix(file: Path) -> np.ndarray:
    """The scores [M, N] in a pickle of the official scripts, float32; everything else in it is passed over.

    Raises:
        UserError: damaged, or a pickle of something else.
    """
    with readable(file), file.open("rb") as handle:
        try:
            content = _Tensors(handle).load()
        except (pickle.UnpicklingError, AttributeError, EOFError, IndexError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{file} is damaged or no pickle of scores ({error}): compute or copy it again") from error
    scores = content.get(SCORES) if isinstance(content, dict) else None
    if isinstance(scores, Tensor):
        scores = scores.float().numpy()
    if not isinstance(scores, np.ndarray):
        raise UserError(f"{file} has no '{SCORES}': give what the official score scripts write")
    return scores


def _array(file: Path) -> np.ndarray:
    with readable(file):
        try:
            return np.load(file, allow_pickle=False)
        except ValueError as error:
            raise UserError(f"{file} is no array of numbers ({error})") from error


def _storage(content: bytes) -> Any:
    """A tensor's numbers inside a pickle: `torch.save`'s format once more, read as strictly."""
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


class _Tensors(pickle.Unpickler):
    """Builds tensors, arrays and plain data; any other class is `Ignored`, and no function of the file is called."""

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        if (module, name) == ("torch.storage", "_load_from_bytes"):
            return _storage
        allowed: dict[str, Sequence[str]] = {
            "torch._utils": ("_rebuild_tensor_v2",),
            "torch": ("Size",),
            "collections": ("OrderedDict",),
            "numpy": ("dtype", "ndarray"),
            "numpy.core.multiarray": ("_reconstruct", "scalar"),
            "numpy._core.multiarray": ("_reconstruct", "scalar"),
            "numpy._core.numeric": ("_frombuffer",),
            "numpy.core.numeric": ("_frombuffer",),
            "_codecs": ("encode",),
        }
        if name in allowed.get(module, ()):
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        return Ignored
