"""YAML that is checked while it is read: every error names the file and the key path."""

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

BYTES = 1_000_000  # of a file; a page has 20,000
DEPTH = 30  # of lists and mappings in one another; a page has 7
NODES = 100_000  # values, those that aliases (`*name`) repeat counted each time
LARGEST = 1e30  # of a number: the operations of the largest trainings are below it
SHOWN = 60  # characters of a wrong value or name that a message repeats


class _StrictLoader(SafeLoader):
    """Refuses a key that stands twice in a mapping, of which YAML would silently keep the last, and a list as a key."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be text", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key '{key.value}'", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(file: Path) -> "Node":
    """The root of a YAML file that holds a mapping; UserError where it is not YAML, or more than a page can be."""
    try:
        if (size := file.stat().st_size) > BYTES:
            raise UserError(f"{shown(file)}: has {size:,} bytes; at most {BYTES:,} are read")
        text = file.read_text(encoding="utf-8")
        _check_size(text)
        content = yaml.load(text, _StrictLoader)  # noqa: S506 - a subclass of SafeLoader
    except OSError as error:
        raise UserError(f"{shown(file)}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{shown(file)}: not valid YAML: not UTF-8 text: {error}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{shown(file)}: not valid YAML: {error}") from None
    except (ValueError, OverflowError) as error:  # of values that look like a date or a number and are none
        raise UserError(f"{shown(file)}: not valid YAML: a date or number that cannot be: {error}") from None
    root = Node(content, shown(file), "", "")
    list(root.mapping())
    return root


def _check_size(text: str) -> None:
    """YAMLError for what a small file can do to its reader: nesting without end, aliases of aliases, other types."""
    sizes: dict[str, int] = {}  # how many values an anchor stands for
    begun: list[tuple[str | None, int]] = [(None, 0)]  # anchor, and values so far, of what has not ended yet
    for event in yaml.parse(text, _StrictLoader):
        wrong, anchor, size = "", getattr(event, "anchor", None), 1
        if getattr(event, "tag", None):
            wrong = "tags (!!...) have no place in a page"
        elif isinstance(event, yaml.CollectionStartEvent):
            begun.append((anchor, 1))
            wrong = f"nested more than {DEPTH} deep" if len(begun) > DEPTH else ""
        elif isinstance(event, yaml.AliasEvent | yaml.ScalarEvent | yaml.CollectionEndEvent):
            if isinstance(event, yaml.AliasEvent):
                size = sizes.get(anchor or "", 0)
                wrong = "" if size else f"*{anchor} names nothing that ends before it"
            else:
                if isinstance(event, yaml.CollectionEndEvent):
                    anchor, size = begun.pop()
                sizes |= {anchor: size} if anchor else {}
            outer, before = begun.pop()
            begun.append((outer, before + size))
            wrong = wrong or (f"more than {NODES:,} values, aliases included" if before + size > NODES else "")
        if wrong:
            raise yaml.YAMLError(f"line {event.start_mark.line + 1}: {wrong}")  # type: ignore[union-attr]


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
        self.fail(f"must be {what}, not {self._shown()}")

    def _shown(self) -> str:
        """The value as a message repeats it: only its type where it is long (or a number with too many digits)."""
        if self.raw is None:
            return "null"
        if isinstance(self.raw, int) and abs(self.raw) > LARGEST:
            return "a number beyond all measure"
        found = f"{self.raw!r}"
        return found if len(found) < SHOWN else type(self.raw).__name__

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
            self.fail(str(unknown(kind, str(name)[:SHOWN], names)))

    def mapping(self) -> Iterator["Node"]:
        """The values of a mapping, whose keys must be text."""
        if not isinstance(self.raw, dict):
            self._expected("a mapping")
        for key in self.raw:
            if not isinstance(key, str):
                self.fail(f"key {Node(key, self.file, self.path, self.key)._shown()} must be text: put it in quotes")
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
                node[identity].fail(f"duplicate {identity} '{name[:SHOWN]}', which {first[name]} has too")
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

    def number(self, low: float = -LARGEST) -> float:
        if isinstance(self.raw, bool) or not isinstance(self.raw, int | float) or not abs(self.raw) <= LARGEST:
            self._expected("a number")
        if self.raw < low:
            self._expected(f"a number of at least {low:g}")
        return self.raw

    def integer(self, low: int, high: int) -> int:
        if isinstance(self.raw, bool) or not isinstance(self.raw, int) or not low <= self.raw <= high:
            self._expected(f"a whole number from {low} to {high}")
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
