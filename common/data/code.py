"""Functions with a description in words, and repositories of source files: what readers of code yield."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

from common.data.text import Split


class Function(NamedTuple):
    """A function and what it does.

    Attributes:
        text: in words.
        code: its source.
        twin: other source that does the same; empty where there is none.
        language: of `code`, as people write it ("Python").
        twin_language: of `twin`.
        where: file and line, or whatever names it.
    """

    text: str
    code: str
    twin: str = ""
    language: str = ""
    twin_language: str = ""
    where: str = ""


class FunctionSource(ABC):
    """A data set of functions; the same split always gives the same functions in the same order."""

    @abstractmethod
    def read(self, split: Split) -> Sequence[Function]:
        """All functions of a split."""

    def beyond(self, split: Split) -> Sequence[Function]:
        """Functions that a search in the split ranks too, though no description asks for them."""
        return []


class Repository(NamedTuple):
    name: str
    files: list[str]


class RepositorySource(ABC):
    """Repositories by number."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Repository:
        """The repository with all its files' texts; never without any."""
