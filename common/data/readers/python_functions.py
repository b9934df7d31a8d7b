"""A folder of Python code as functions: their docstrings, their sources without them, and renamed twins."""

import ast
import io
import textwrap
import tokenize
import warnings
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from common.data.files import is_folder, read_file
from common.data.scene import UnreadableSample
from common.errors import UserError

Definition = ast.FunctionDef | ast.AsyncFunctionDef
PASSED_OVER = ("site-packages", "__pycache__", "node_modules")


class PythonFunction(NamedTuple):
    """A function or method of a file.

    Attributes:
        file: relative to the folder that was read.
        line: of its `def`, counted from 1.
        name: with the classes and functions it stands in ("Reader.read").
        text: the first sentence of its docstring, on one line; empty without a docstring.
        code: its source without docstring and decorators, from column 0.
        statements: in its body, docstring not counted.
        tree: its syntax tree, docstring included.
    """

    file: str
    line: int
    name: str
    text: str
    code: str
    statements: int
    tree: Definition


class Found(NamedTuple):
    """What a folder holds: its functions, its files' texts, and files that could not be parsed, with the reason."""

    functions: list[PythonFunction]
    texts: dict[str, str]
    skipped: dict[str, str]


def read_folder(root: Path, without: Collection[str] = ()) -> Found:
    """All functions under a folder, by file and line; hidden folders and installed packages are passed over.

    Args:
        without: names of folders and files, at any depth, that are passed over too.

    Raises:
        UserError: no such folder, or no Python file in it.
    """
    if not is_folder(root):
        raise UserError(f"no folder at {root}: give a folder with Python files")
    files = [file for file in sorted(root.rglob("*.py")) if not _passed(file.relative_to(root).parts, without)]
    if not files:
        raise UserError(f"no Python file (*.py) in {root} or below it")
    found = Found([], {}, {})
    for file in files:
        name = file.relative_to(root).as_posix()
        try:
            text = _source(read_file(file))
            with warnings.catch_warnings(action="ignore"):  # of other people's code
                found.functions.extend(functions_of(text, name))
        except UnreadableSample as error:
            found.skipped[name] = error.reason
        # the last three: expressions that are too deep for the parser, and encodings that are none
        except (SyntaxError, ValueError, RecursionError, MemoryError, LookupError) as error:
            found.skipped[name] = str(error) or type(error).__name__
        else:
            found.texts[name] = text
    return found


def _source(content: bytes) -> str:
    """A file's text in the encoding that it declares."""
    encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
    return io.TextIOWrapper(io.BytesIO(content), encoding).read()


def _passed(parts: tuple[str, ...], without: Collection[str]) -> bool:
    return any(part in PASSED_OVER or part in without or part.startswith(".") for part in parts)


def functions_of(text: str, file: str = "") -> list[PythonFunction]:
    """The functions of a file's text, outer ones before those inside them.

    Raises:
        SyntaxError, ValueError: it is not Python.
    """
    lines = io.StringIO(text).readlines()  # as the parser counts them: form feeds end no line
    return [_function(node, name, file, lines) for node, name in _definitions(ast.parse(text), ())]


def _definitions(node: ast.AST, within: tuple[str, ...]) -> Iterator[tuple[Definition, str]]:
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
            continue  # an expression defines nothing
        if isinstance(child, Definition):
            yield child, ".".join([*within, child.name])
        deeper = (*within, child.name) if isinstance(child, Definition | ast.ClassDef) else within
        yield from _definitions(child, deeper)


def _function(node: Definition, name: str, file: str, lines: list[str]) -> PythonFunction:
    doc, body = ast.get_docstring(node), node.body
    kept = list(lines[node.lineno - 1 : node.end_lineno])
    if doc is not None:
        first, end = body[0].lineno - node.lineno, (body[0].end_lineno or 0) - node.lineno
        head = kept[first].encode()[: body[0].col_offset].decode()
        tail = kept[end].encode()[body[0].end_col_offset or 0 :].decode().lstrip(" \t;")
        kept[first : end + 1] = [head + tail] if head.strip() or tail.strip() else []
    code = textwrap.dedent("".join(kept)).strip()
    statements = len(body) - (doc is not None)
    return PythonFunction(file, node.lineno, name, first_sentence(doc or ""), code, statements, node)


def first_sentence(doc: str) -> str:
    """The first sentence of a docstring's first paragraph, on one line."""
    paragraph = " ".join(doc.strip().split("\n\n")[0].split())
    end = paragraph.find(". ")
    return paragraph if end < 0 else paragraph[: end + 1]


def twin(function: PythonFunction) -> str:
    """The same function with other names inside, without docstring and comments: a second version of its code.

    Parameters, local variables and inner functions become v0, v1, ... The function itself and what it takes from
    outside, attributes and keywords included, keep their names, as they would in another language.
    """
    tree = ast.parse(ast.unparse(function.tree)).body[0]
    assert isinstance(tree, Definition)
    tree.decorator_list = []
    if ast.get_docstring(tree) is not None:
        tree.body = tree.body[1:] or [ast.Pass()]
    outside = {name for node in ast.walk(tree) if isinstance(node, ast.Global | ast.Nonlocal) for name in node.names}
    own: list[str] = []
    for node in list(ast.walk(tree))[1:]:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            own.append(node.id)
        elif name := _defined(node):
            own.append(name)
    names = {
        name: f"v{k}" for k, name in enumerate(dict.fromkeys(name for name in own if name not in {tree.name, *outside}))
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            node.id = names.get(node.id, node.id)
        elif isinstance(node, ast.arg):
            node.arg = names.get(node.arg, node.arg)
        elif isinstance(node, Definition | ast.ClassDef | ast.ExceptHandler) and node.name:
            node.name = names.get(node.name, node.name)
    return ast.unparse(tree)


def _defined(node: ast.AST) -> str | None:
    """The name that a parameter, a definition or an `except ... as` gives to something."""
    if isinstance(node, ast.arg):
        return node.arg
    return node.name if isinstance(node, Definition | ast.ClassDef | ast.ExceptHandler) else None
