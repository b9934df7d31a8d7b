"""Say which emotions a text expresses, alone or in a context, or those of every text of a file.

python -m projects.emo_pillars.tools.classify "I did not expect this at all" --model <hub id or folder>
python -m projects.emo_pillars.tools.classify "well, look at that" --context "Her brother broke the vase." --model <...>
python -m projects.emo_pillars.tools.classify --file comments.csv --out emotions.csv --model <...>

A model is a run folder of `projects.emo_pillars.train`, or a classifier of the hub, such as
alex-shvets/roberta-large-emopillars-contextless-goemotions (threshold 0.36) or
alex-shvets/roberta-large-emopillars-contextual (0.5), which reads contexts too.

A file is .txt (a text a line), .csv or .tsv (a column `text`, and `context` where there are contexts) or .jsonl (the
same as fields). The table has the file's texts, the emotions from the threshold on, and every emotion's score.
"""

# torch is imported after the command line has been read, so that --help and its errors come at once
from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.console import printable
from common.data.files import is_file, is_folder, lines_of, shown, write_atomic
from common.errors import UserError, user_errors
from common.paths import given_path

if TYPE_CHECKING:
    from torch import Tensor

BAR, BATCH, TEXT, CONTEXT = 30, 64, "text", "context"
Row = tuple[str, str]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(
        prog="python -m projects.emo_pillars.tools.classify",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("text", nargs="?", help="a text")
    command.add_argument("--context", default="", help="the situation in which it was said")
    command.add_argument("--file", type=given_path, help="a file of texts: .txt, .csv, .tsv or .jsonl")
    command.add_argument("--out", type=given_path, help="with --file: the table as a .csv (default: printed)")
    command.add_argument("--model", required=True, help="run folder, hub id, or folder of a classifier")
    command.add_argument("--threshold", type=float, default=0.5, help="emotions from here on are named (default: 0.5)")
    command.add_argument("--max-length", type=int, default=512, help="longer inputs are cut (tokens, default: 512)")
    command.add_argument("--json", action="store_true", help="print scores as JSON, a line a text")
    return command


def check(options: argparse.Namespace) -> None:
    """Whatever can be found wrong before a model is loaded."""
    if (options.text is None) == (options.file is None):
        raise UserError("give a text, or --file")
    if options.text is not None and not options.text.strip():
        raise UserError("the text is empty")
    if options.file is not None and options.context:
        raise UserError("--context goes with one text; a file has its contexts in a column of that name")
    if options.out is not None and (options.file is None or options.json):
        raise UserError("--out takes the table of a --file, without --json")
    if options.out is not None and (options.out.suffix != ".csv" or not options.out.parent.is_dir()):
        raise UserError(f"--out {printable(options.out)}: give a .csv in a folder that is there")
    if not 0 < options.threshold < 1:
        raise UserError(f"--threshold {options.threshold}: it has to be between 0 and 1")
    if options.max_length < 8:
        raise UserError(f"--max-length {options.max_length}: it has to be at least 8")


def read(file: Path) -> list[Row]:
    """(context, text) of every line or row; those without a text are left out.

    Raises:
        UserError: another kind of file, no column of texts, a row of another length, no text at all.
    """
    kind = file.suffix.lower()
    if kind not in (".txt", ".csv", ".tsv", ".jsonl"):
        raise UserError(f"{printable(file)}: a file of texts is a .txt, .csv, .tsv or .jsonl")
    lines = lines_of(file)
    if kind == ".txt":
        rows = [{TEXT: line} for line in lines]
    elif kind == ".jsonl":
        rows = [_object(file, number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    else:
        rows = _table(file, "\n".join(lines).lstrip("\n"), "\t" if kind == ".tsv" else None)
    found = [(str(row.get(CONTEXT) or "").strip(), str(row.get(TEXT) or "").strip()) for row in rows]
    if not any(text for _, text in found):
        raise UserError(f"{printable(file)} has no text")
    return [row for row in found if row[1]]


def _table(file: Path, content: str, delimiter: str | None) -> list[dict[str, Any]]:
    header = content.split("\n", 1)[0]
    table = csv.DictReader(io.StringIO(content), delimiter=delimiter or max(",;\t", key=header.count))
    try:
        table.fieldnames = [name.strip().lower() for name in table.fieldnames or ()]
        rows = [{str(name): value for name, value in row.items()} for row in table]
    except csv.Error as error:
        raise UserError(f"{printable(file)} is no table, after line {table.line_num}: {error}") from None
    if table.fieldnames.count(TEXT) != 1:
        columns = shown(", ".join(table.fieldnames))
        raise UserError(f"{printable(file)} has no column 'text', or several: its columns are {columns or 'none'}")
    return rows


def _object(file: Path, number: int, line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not isinstance(found.get(TEXT), str):
        raise UserError(f"{printable(file)}, line {number}, is no JSON object with a text: {shown(line)}")
    return found


class Classifier:
    """A classifier and its tokenizer.

    Args:
        model: run folder, hub id or folder.
        max_length: longer inputs are cut to this many tokens; a context before its text.
    """

    def __init__(self, model: str, max_length: int):
        import torch
        from transformers import AutoModelForSequenceClassification

        from common.data.tokenizers import load_tokenizer
        from common.hub import from_pretrained

        folder = Path(model).expanduser()
        if is_folder(folder) and not is_file(folder / "config.json"):
            folder = folder / "model"
            if not is_folder(folder):
                raise UserError(f"{printable(model)} holds no classifier: give the folder of a finished training")
            model = str(folder)
        self.net = from_pretrained(AutoModelForSequenceClassification, model)
        self.names = [str(self.net.config.id2label[k]) for k in range(self.net.config.num_labels)]
        if len(self.names) < 3:
            raise UserError(f"{printable(model)} tells {len(self.names)} classes apart, no emotions")
        self.net.requires_grad_(False).eval().to("cuda" if torch.cuda.is_available() else "cpu")
        self.tokenizer = load_tokenizer(model)
        room = getattr(self.net.config, "max_position_embeddings", max_length + 2) - 2
        self.max_length = min(max_length, room)

    @property
    def reads_contexts(self) -> bool:
        """Whether it tells a context and a text apart; else it finds the emotions of both."""
        return getattr(self.net.config, "type_vocab_size", 0) > 1

    def scores(self, rows: Sequence[Row]) -> Tensor:
        """Every emotion's score from 0 to 1, [N, C]."""
        import torch

        from common.data.classified import collate
        from common.data.text import LabelledText
        from common.models.text_classifier import logits, probabilities

        several = self.net.config.problem_type != "single_label_classification"
        found = torch.zeros(len(rows), len(self.names))
        order = sorted(range(len(rows)), key=lambda k: (not rows[k][0], sum(map(len, rows[k]))))
        while order:
            paired = bool(rows[order[0]][0])
            same = [k for k in order[:BATCH] if bool(rows[k][0]) == paired]
            order = order[len(same) :]
            texts = [LabelledText(*(rows[k] if paired else (rows[k][1], None)), 0) for k in same]
            batch = collate(texts, self.tokenizer, self.max_length, keep_pair=True)
            with torch.no_grad():
                inputs = {name: value.to(self.net.device) for name, value in batch.items()}
                found[same] = probabilities(logits(self.net, inputs), several).cpu()
        return found


def named(classifier: Classifier, scores: Sequence[float], threshold: float) -> list[tuple[str, float]]:
    """Emotions from the threshold on, the strongest first."""
    found = sorted(zip(classifier.names, scores, strict=True), key=lambda pair: -pair[1])
    return [(name, score) for name, score in found if score >= threshold]


def show(classifier: Classifier, scores: Sequence[float], threshold: float) -> None:
    """Print a text's emotions with bars; where none reaches the threshold, the three nearest to it."""
    found = named(classifier, scores, threshold)
    if not found:
        print(f"no emotion from {threshold:g} on; nearest to it:")
        found = named(classifier, scores, 0.0)[:3]
    width = max(len(name) for name, _ in found)
    for name, score in found:
        print(f"{name:{width}}  {score:.2f}  {'#' * round(BAR * score)}")


def table(classifier: Classifier, rows: Sequence[Row], scores: Sequence[Sequence[float]], threshold: float) -> str:
    """The table as CSV."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([CONTEXT, TEXT, "emotions", *classifier.names])
    for (context, text), row in zip(rows, scores, strict=True):
        words = ", ".join(name for name, _ in named(classifier, row, threshold))
        writer.writerow([context, text, words, *(f"{score:.3f}" for score in row)])
    return out.getvalue()


@user_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; a user's error is one message and exit code 2."""
    options = parser().parse_args(arguments)
    check(options)
    rows = read(options.file) if options.file is not None else [(options.context.strip(), options.text.strip())]
    classifier = Classifier(options.model, options.max_length)
    if any(context for context, _ in rows) and not classifier.reads_contexts:
        print("this classifier does not tell contexts apart: it finds the emotions of both", file=sys.stderr)
    scores = classifier.scores(rows).tolist()
    if options.json:
        for (context, text), row in zip(rows, scores, strict=True):
            found = dict(zip(classifier.names, (round(score, 4) for score in row), strict=True))
            print(json.dumps({CONTEXT: context, TEXT: text, "scores": found}, ensure_ascii=False))
    elif options.file is None:
        show(classifier, scores[0], options.threshold)
    elif options.out is None:
        print(table(classifier, rows, scores, options.threshold), end="")
    else:
        write_atomic(options.out, table(classifier, rows, scores, options.threshold).encode())
        print(f"{printable(options.out)}: {len(rows)} texts")
    return 0


if __name__ == "__main__":
    sys.exit(main())
