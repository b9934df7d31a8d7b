"""A config that notes what is read of it: what a stage's cost follows from, and what it does not."""

from collections.abc import Iterator, Mapping
from typing import Any

ABSENT, NESTED = "(absent)", "(nested)"


class Noted(Mapping[str, Any]):
    """A config as a hook reads it.

    Args:
        content: the config.
        read: gets what is read: path -> value; a path with a `*` at its end, the names that are there.
        path: of `content` within the whole, with a dot at its end.
    """

    def __init__(self, content: Mapping[str, Any], read: dict[str, Any], path: str = ""):
        self._content, self._read, self._path = content, read, path

    def __getitem__(self, key: str) -> Any:
        value = self._content.get(key, ABSENT)
        self._read[self._path + key] = NESTED if isinstance(value, Mapping) else value
        if value is ABSENT:
            raise KeyError(key)
        return Noted(value, self._read, f"{self._path}{key}.") if isinstance(value, Mapping) else value

    def __iter__(self) -> Iterator[str]:
        self._read[f"{self._path}*"] = sorted(self._content)
        return iter(self._content)

    def __len__(self) -> int:
        return len(list(iter(self)))


def agrees(config: Mapping[str, Any], read: Mapping[str, Any]) -> bool:
    """Whether reading another config would have given the same."""
    return all(_look(config, path.split(".")) == value for path, value in read.items())


def _look(config: Any, path: list[str]) -> Any:
    for key in path:
        if key == "*":
            return sorted(config) if isinstance(config, Mapping) else ABSENT
        if not isinstance(config, Mapping) or key not in config:
            return ABSENT
        config = config[key]
    return NESTED if isinstance(config, Mapping) else config
