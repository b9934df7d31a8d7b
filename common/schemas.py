"""Schemas of JSON texts, by pydantic: what a record must hold, and what is wrong with one that does not.

Nothing is converted: a number in quotes is no number, and a word is no list of its letters.
"""

import json
from typing import Annotated, Any, TypeVar

from pydantic import ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from common.data.files import shown

T = TypeVar("T")
STRICT = ConfigDict(strict=True)
SHOWN = 3  # problems of a record that a message lists
DIGITS = 300  # of a whole number; longer ones are no float

Text = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x08\x0b-\x1f\x7f-\x9f]*$", max_length=100_000)]
"""Text without characters that move a cursor or ring a bell."""
Amount = Annotated[float, Field(ge=0, le=1e30)]
"""Of seconds, bytes, operations: what can be, and what can be added up."""


def parse(schema: TypeAdapter[T], content: bytes) -> T:
    """A JSON text as what its schema says.

    Raises:
        ValueError: not JSON, or of other types; says where in it.
    """
    try:
        return schema.validate_json(content)
    except ValidationError as error:
        raise ValueError(problems(error)) from error


def checked(schema: TypeAdapter[Any], content: bytes) -> Any:
    """A JSON text as plain lists and dictionaries, all that the schema does not name included; errors as `parse`.

    Whole numbers that no float can hold are infinite.
    """
    parse(schema, content)
    return json.loads(content, parse_int=lambda digits: int(digits) if len(digits) < DIGITS else float(digits))


def problems(error: ValidationError) -> str:
    """The first few things that are wrong with a record, each with its place: `annotations[2].id: ...`."""
    found = error.errors(include_url=False, include_context=False)
    said = []
    for one in found[:SHOWN]:
        place = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in one["loc"]).lstrip(".")
        value = "" if one["type"] in ("missing", "json_invalid") else f", here {shown(repr(one['input']), 60)}"
        said.append(f"{place}: {one['msg']}{value}" if place else f"{one['msg']}{value}")
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return "; ".join(said) + more
