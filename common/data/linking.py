"""Entity linking: mentions in context, and the entities of the same domain that they may mean."""

from abc import ABC, abstractmethod
from dataclasses import dataclass


@dataclass(frozen=True)
class Entity:
    """An entity: its title and a text about it."""

    title: str
    text: str


@dataclass(frozen=True)
class Mention:
    """A mention with the text to its left and right; `entity` is the index of what it means."""

    left: str
    mention: str
    right: str
    entity: int


@dataclass(frozen=True)
class Domain:
    """One closed set of entities, with mentions of them."""

    name: str
    entities: list[Entity]
    mentions: list[Mention]


class LinkingSource(ABC):
    """Where domains come from; the same name always gives the same domain."""

    @abstractmethod
    def domain(self, name: str) -> Domain:
        """The domain of that name; UserError where there is none."""
