"""ZeShEL, zero-shot entity linking on Fandom wikis (Logeswaran et al. 2019), in its own format."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass as schema

from common.data.files import byte_lines, is_file, matching, shown
from common.data.linking import Domain, Entity, LinkingSource, Mention
from common.data.records import Words
from common.errors import UserError
from common.paths import expand
from common.schemas import STRICT, parse

log = logging.getLogger(__name__)

SPLITS = (
    "train",
    "val",
    "test",
)  # each world's mentions stand in one of them; the held-out files repeat train's worlds
CONTEXT = 128  # words kept on either side of a mention, unless told otherwise; every word is at least one token
TOLERATED = 0.001  # of the lines of a file

ABOUT = """ZeShEL (text of Fandom's wikis, CC BY-SA).
  from: github.com/lajanugen/zeshel, which links the archive
  expected: <root>/documents/{yugioh,star_trek,military,...}.json, a JSON object a line: document_id, title, text;
    <root>/mentions/{train,val,test}.json, a JSON object a line: corpus, context_document_id, label_document_id,
    text, start_index, end_index (words of the document's text between white space, the end inclusive)"""

T = TypeVar("T")
Position = Annotated[int, Field(ge=0, lt=2**31)]


@schema(config=STRICT, slots=True)
class Document:
    document_id: Words
    title: Words
    text: Words


@schema(config=STRICT, slots=True)
class Line:
    """A mention; `text` is what it says."""

    corpus: Words
    context_document_id: Words
    label_document_id: Words
    start_index: Position
    end_index: Position
    text: Words


DOCUMENT, MENTION = TypeAdapter(Document), TypeAdapter(Line)


class ZeShEL(LinkingSource):
    """The 16 worlds of ZeShEL: a world's documents are its entities.

    A mention's context is cut out of its document by words, as the data set counts them (separated by white space); the
    words in the mention's place must be those that its line names.

    Args:
        root: folder of the data set; `$DATA_ROOT` is replaced.
        context: words kept on either side of a mention; None for the whole document.

    Raises:
        UserError: a file or a world is missing, or more than 0.1 % of a file's lines are broken.
    """

    def __init__(self, root: str, context: int | None = CONTEXT):
        if context is not None and context < 0:
            raise UserError(f"a context of {context} words: give a number from 0 on, or null for the whole document")
        self.root, self.context = expand(root, "root of ZeShEL"), context

    @classmethod
    def check(cls, root: str, context: int | None = CONTEXT) -> None:
        """Try the first lines of every file."""
        source = cls(root, context)
        worlds = matching(source.root / "documents/*.json")
        if not worlds:
            raise UserError(f"no documents/*.json in {source.root}.\n{ABOUT}")
        for world in worlds:
            next(source._lines(world, DOCUMENT), None)
        for split in SPLITS:
            next(source._mentions(split), None)

    def domain(self, name: str) -> Domain:
        documents: dict[str, Document] = {}
        for where, document in self._lines(self.root / "documents" / f"{name}.json", DOCUMENT):
            if documents.setdefault(document.document_id, document) is not document:
                raise UserError(f"{where}: document_id {document.document_id} stands there twice.\n{ABOUT}")
        index = {document: number for number, document in enumerate(documents)}
        entities = [Entity(document.title, document.text) for document in documents.values()]
        words: dict[str, list[str]] = {}  # of the documents that mentions stand in, split once

        def mention(line: Line) -> Mention:
            context = line.context_document_id
            if context not in words:
                words[context] = documents[context].text.split()
            text, start, stop = words[context], line.start_index, line.end_index + 1
            if not start < stop <= len(text):
                raise ValueError(f"words {start} to {stop} of {len(text)}")
            found = " ".join(text[start:stop])
            if found != " ".join(line.text.split()):
                raise ValueError(f"words {start} to {stop} are '{shown(found)}', not '{shown(line.text)}'")
            kept = len(text) if self.context is None else self.context
            left, right = text[max(0, start - kept) : start], text[stop : stop + kept]
            return Mention(" ".join(left), found, " ".join(right), index[line.label_document_id])

        mentions, broken = [], 0
        lines = [found for split in SPLITS for found in self._mentions(split) if found[1].corpus == name]
        for where, line in lines:
            try:
                mentions.append(mention(line))
            except (KeyError, ValueError) as error:
                broken += 1
                log.warning("%s, a mention of %s: %s", where, name, error)
        if broken > TOLERATED * len(lines):
            raise UserError(
                f"{broken} of {len(lines)} mentions of '{name}' do not fit its documents in {self.root}.\n{ABOUT}"
            )
        if not mentions:
            raise UserError(f"no mentions of '{name}' in {self.root / 'mentions'}.\n{ABOUT}")
        return Domain(name, entities, mentions)

    def _mentions(self, split: str) -> Iterator[tuple[str, Line]]:
        return self._lines(self.root / "mentions" / f"{split}.json", MENTION)

    def _lines(self, file: Path, kind: TypeAdapter[T]) -> Iterator[tuple[str, T]]:
        """The records of a file, each with "file:line"; a few broken ones are passed over."""
        if not is_file(file):
            worlds = [path.stem for path in matching(self.root / "documents/*.json")]
            raise UserError(f"{file} is missing; worlds there: {', '.join(worlds) or 'none'}.\n{ABOUT}")
        count = broken = 0
        for number, text in byte_lines(file):
            count += 1
            try:
                record = parse(kind, text)
            except ValueError as error:
                broken += 1
                log.warning("%s, line %d: %s", file, number, error)
                continue
            yield f"{file}:{number}", record
        if broken > TOLERATED * count or not count:
            raise UserError(f"{file}: {broken} of {count} lines are broken.\n{ABOUT}")
