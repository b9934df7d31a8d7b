"""YAML that is checked while it is read: every error names the file and the key path."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml

from common.errors import UserError, unknown

try:
    from yaml import CSafeLoader as SafeLoader  # ten times as fast, where PyYAML was built with it
except ImportError:
    from yaml import SafeLoader  # type: ignore[assignment]

T = TypeVar("T")


class _StrictLoader(SafeLoader):
    """Refuses a key that stands twice in a mapping, of which YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key '{key.value}'", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(file: Path) -> "Node":
    """The root of a YAML file that holds a mapping; UserError where it is not YAML."""
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), _StrictLoader)  # noqa: S506 - a subclass of SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{shown(file)}: not valid YAML: {error}") from None
    root = Node(content, shown(file), "", "")
    list(root.mapping())
    return root


def shown(file: Path) -> str:
    """A path for people: from the project's root, where the file lies in it."""
    root = Path(__file__).resolve().parents[2]
    return str(file.relative_to(root)) if file.is_relative_to(root) else str(file)


@dataclass(frozen=True)
class Node:
    """A value of a YAML file with its place in it, which the UserErrors of its methods name."""

    raw: Any
    file: str
    path: str
    key: str

    def fail(self, message: str) -> NoReturn:
        """UserError: `<file>: <key path>: <message>`."""
        raise UserError(f"{self.file}: {self.path}: {message}" if self.path else f"{self.file}: {message}")

    def _expected(self, what: str) -> NoReturn:
        found = "null" if self.raw is None else f"{self.raw!r}"
        self.fail(f"must be {what}, not {found if len(found) < 60 else type(self.raw).__name__}")

    def __contains__(self, key: str) -> bool:
        return isinstance(self.raw, dict) and key in self.raw

    def __getitem__(self, key: str) -> "Node":
        if not isinstance(self.raw, dict):
            self._expected("a mapping")
        if key not in self.raw:
            self.fail(f"'{key}' is missing")
        return Node(self.raw[key], self.file, f"{self.path}.{key}" if self.path else key, key)

    def only(self, *keys: str) -> None:
        """Fail for a key that is none of these."""
        for node in self.mapping():
            self.choice(node.key, keys, "key")

    def choice(self, name: Any, known: Iterable[str], kind: str = "value") -> None:
        """Fail for a name that is none of `known`, with the nearest ones."""
        names = list(known)
        if name not in names:
            self.fail(str(unknown(kind, str(name), names)))

    def mapping(self) -> Iterator["Node"]:
        """The values of a mapping, whose keys must be text."""
        if not isinstance(self.raw, dict):
            self._expected("a mapping")
        for key in self.raw:
            if not isinstance(key, str):
                self.fail(f"key {key!r} must be text: put it in quotes")
            yield self[key]

    def sequence(self) -> Iterator["Node"]:
        """The items of a list."""
        if not isinstance(self.raw, list):
            self._expected("a list")
        for i, value in enumerate(self.raw):
            yield Node(value, self.file, f"{self.path}[{i}]", str(i))

    def items(self, identity: str, make: Callable[["Node"], T]) -> list[T]:
        """`make` of every item of a list of mappings, in which the key `identity` never repeats."""
        first: dict[str, str] = {}
        made = []
        for node in self.sequence():
            made.append(make(node))
            name = node[identity].text()
            if name in first:
                node[identity].fail(f"duplicate {identity} '{name}', which {first[name]} has too")
            first[name] = node.path
        return made

    def text(self) -> str:
        if not isinstance(self.raw, str):
            number = isinstance(self.raw, bool | int | float)
            self._expected("text (put it in quotes)" if number else "text")
        if not self.raw.strip():
            self._expected("text that is not empty")
        return self.raw.strip()

    def text_or_null(self) -> str | None:
        return None if self.raw is None else self.text()

    def url_or_null(self) -> str | None:
        if self.raw is not None and not self.text().startswith("https://"):
            self._expected("null or an address that starts with https://")
        return self.text_or_null()

    def number(self, low: float = -math.inf) -> float:
        if isinstance(self.raw, bool) or not isinstance(self.raw, int | float) or not math.isfinite(self.raw):
            self._expected("a number")
        if self.raw < low:
            self._expected(f"a number of at least {low:g}")
        return self.raw

    def integer(self, low: int | None = None) -> int:
        if isinstance(self.raw, bool) or not isinstance(self.raw, int) or (low is not None and self.raw < low):
            self._expected("a whole number" if low is None else f"a whole number of at least {low}")
        return self.raw

    def boolean(self) -> bool:
        if not isinstance(self.raw, bool):
            self._expected("true or false")
        return self.raw

    def one_of(self, *choices: Any) -> Any:
        """The value, which must be one of `choices`."""
        if self.raw is None or not isinstance(self.raw, str):
            if self.raw in choices:
                return self.raw
            self._expected(f"one of {', '.join('null' if c is None else str(c) for c in choices)}")
        self.choice(self.raw, [choice for choice in choices if choice is not None])
        return self.raw

    def known(self, kind: str, names: Iterable[str]) -> str:
        """A name that must be one of `names`."""
        self.choice(self.text(), names, kind)
        return self.text()
