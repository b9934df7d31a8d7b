"""ZeShEL, zero-shot entity linking on Fandom wikis (Logeswaran et al. 2019), in its own format."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.data.linking import Domain, Entity, LinkingSource, Mention
from common.errors import UserError
from common.paths import expand

log = logging.getLogger(__name__)

SPLITS = (
    "train",
    "val",
    "test",
)  # each world's mentions stand in one of them; the held-out files repeat train's worlds
DOCUMENT = ("document_id", "title", "text")
MENTION = ("corpus", "context_document_id", "label_document_id", "start_index", "end_index")
CONTEXT = 128  # words kept on either side of a mention; every word is at least one token
TOLERATED = 0.001  # of the lines of a file

ABOUT = """ZeShEL (text of Fandom's wikis, CC BY-SA).
  from: github.com/lajanugen/zeshel, which links the archive
  expected: <root>/documents/{yugioh,star_trek,military,...}.json, a JSON object a line: document_id, title, text;
    <root>/mentions/{train,val,test}.json, a JSON object a line: corpus, context_document_id, label_document_id,
    start_index, end_index (words of the document's text, the end inclusive)"""


class ZeShEL(LinkingSource):
    """The 16 worlds of ZeShEL: a world's documents are its entities.

    A mention's context is cut out of its document by words, as the data set counts them (separated by one space).

    Args:
        root: folder of the data set; `$DATA_ROOT` is replaced.

    Raises:
        UserError: a file or a world is missing, or more than 0.1 % of a file's lines are broken.
    """

    def __init__(self, root: str):
        self.root = expand(root, "root of ZeShEL")

    def domain(self, name: str) -> Domain:
        documents = {
            line["document_id"]: line for line in self._lines(self.root / "documents" / f"{name}.json", DOCUMENT)
        }
        index = {document: number for number, document in enumerate(documents)}
        entities = [Entity(document["title"], document["text"]) for document in documents.values()]
        words: dict[str, list[str]] = {}  # of the documents that mentions stand in, split once

        def mention(line: dict[str, Any]) -> Mention:
            context = line["context_document_id"]
            if context not in words:
                words[context] = documents[context]["text"].split(" ")
            text, start, stop = words[context], line["start_index"], line["end_index"] + 1
            if not 0 <= start < stop <= len(text):
                raise ValueError(f"words {start} to {stop} of {len(text)}")
            left, right = text[max(0, start - CONTEXT) : start], text[stop : stop + CONTEXT]
            return Mention(
                " ".join(left), " ".join(text[start:stop]), " ".join(right), index[line["label_document_id"]]
            )

        mentions, broken = [], 0
        lines = [line for split in SPLITS for line in self._mentions(split) if line["corpus"] == name]
        for line in lines:
            try:
                mentions.append(mention(line))
            except (KeyError, ValueError) as error:
                broken += 1
                log.warning("mention %s of %s: %s", line.get("mention_id"), name, error)
        if broken > TOLERATED * len(lines):
            raise UserError(
                f"{broken} of {len(lines)} mentions of '{name}' do not fit its documents in {self.root}.\n{ABOUT}"
            )
        return Domain(name, entities, mentions)

    def _mentions(self, split: str) -> Iterator[dict[str, Any]]:
        return self._lines(self.root / "mentions" / f"{split}.json", MENTION)

    def _lines(self, file: Path, fields: tuple[str, ...]) -> Iterator[dict[str, Any]]:
        """The objects of a file that have all `fields`."""
        if not file.is_file():
            worlds = sorted(path.stem for path in self.root.glob("documents/*.json"))
            raise UserError(f"{file} is missing; worlds there: {', '.join(worlds) or 'none'}.\n{ABOUT}")
        count = broken = 0
        with file.open(encoding="utf-8") as lines:
            for count, text in enumerate(lines, 1):
                line = _parsed(text)
                if all(field in line for field in fields):
                    yield line
                else:
                    broken += 1
                    log.warning("%s, line %d: not an object with %s", file, count, ", ".join(fields))
        if broken > TOLERATED * count:
            raise UserError(f"{file}: {broken} of {count} lines are broken.\n{ABOUT}")


def _parsed(text: str) -> dict[str, Any]:
    """The object in a line; an empty one where there is none."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
