"""Trans-Encoder on pairs and language models of one's own, from the first training to models that anything can load.

    python -m projects.trans_encoder.tools.cycles --pairs pairs.txt --plain roberta-base \\
        --start princeton-nlp/unsup-simcse-roberta-base --out mine

A line of the file is two sentences with a tab or || between them. With two language models (--plain A B) distillation
is mutual. A language model without a bi-encoder of its own (no --start) is made one first, by SimCSE on the
sentences of the pairs. With --val, a file of pairs with scores, the best weights of every step and the best cycle are
chosen; without, the last ones count. Interrupted, the same command goes on where it stopped.

Every step is a command of its own, which is printed: the paper's configs, and what differs.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from common.console import printable
from common.errors import UserError, user_errors
from common.recipe import Output, Stage, walk
from projects.trans_encoder.arms import CONTRAST, Found, Language, mutual_distillation, self_distillation
from projects.trans_encoder.sources import PairFile

ROOT = Path(__file__).parents[3]


def chain(options: argparse.Namespace) -> list[Found]:
    """Bi- and cross-encoders of all cycles, for each language model, as stages that have not run."""
    starts = options.start or [
        Stage("contrast_longer", CONTRAST, {"model.start": plain}).output("model") for plain in options.plain
    ]
    languages = [Language(plain, start) for plain, start in zip(options.plain, starts, strict=True)]
    if len(languages) == 1:
        return [self_distillation(languages[0], options.cycles)]
    return list(mutual_distillation((languages[0], languages[1]), options.cycles))


def named(found: list[Found]) -> dict[Stage, str]:
    """A folder's name for every stage, in an order in which they can run: model1-start, model1-cycle2-cross, ..."""
    names: dict[Stage, str] = {}
    for number, (bis, crosses) in enumerate(found, start=1):
        for kind, models in (("bi", bis), ("cross", crosses)):
            for cycle, model in enumerate(models, start=1):
                names[model.stage] = f"model{number}-cycle{cycle}-{kind}"
    order = list(walk([*names]))
    starts = [stage for stage in order if stage not in names]
    names |= {stage: f"model{number}-start" for number, stage in enumerate(starts, start=1)}
    return {stage: names[stage] for stage in order}


def command(stage: Stage, names: dict[Stage, str], options: argparse.Namespace) -> list[str]:
    """The command line of a stage."""
    configs = [str(file) for file in stage.config("paper") if (ROOT / file).exists()]
    settings: dict[str, object] = {name: value for name, value in stage.overrides.items()}
    read = "projects.trans_encoder.sources.PairFile"
    settings |= {"data.train": read, "data.train.path": options.pairs, "run_dir": options.out / names[stage]}
    if options.val:
        settings |= {"data.val": read, "data.val.path": options.val}
        settings |= {f"data.{part}.binary": options.binary for part in ("train", "val")}
    else:
        settings |= {"data.val": "null", "model.keep": "last"}
    settings |= {"trainer.precision": "16-mixed" if options.device == "cuda" else "32-true"}
    settings |= {"seed_everything": options.seed}
    arguments = []
    for name, value in settings.items():
        if isinstance(value, Output):
            value = options.out / names[value.stage] / value.file
        arguments += [f"--{name}", str(value).lower() if isinstance(value, bool) else str(value)]
    extra = [word for setting in options.set for word in (f"--{setting[0]}", setting[1])]
    config_words = [word for file in configs for word in ("--config", file)]
    return [sys.executable, "-m", stage.module, stage.run, *config_words, *arguments, *extra]


def run(line: list[str]) -> int:
    """A step, in a process of its own: its exit code."""
    return subprocess.run(line, cwd=ROOT).returncode


def compare(found: list[Found], names: dict[Stage, str], options: argparse.Namespace) -> None:
    """Print where the models are, and with --val how each of them scores there."""
    from projects.trans_encoder.data import agreement
    from projects.trans_encoder.model import load_pair_model, score_pairs

    source = PairFile(options.val, options.binary) if options.val else None
    pairs = source.read("val") if source else []
    for number, (bis, crosses) in enumerate(found, start=1):
        for kind, models in (("bi", bis), ("cross", crosses)):
            folders = [options.out / names[model.stage] / "model" for model in models]
            if not pairs:
                print(f"{kind}-encoder of {options.plain[number - 1]}: {printable(folders[-1])}")
                continue
            import torch

            gold = torch.tensor([float(pair.score or 0) for pair in pairs])
            scores = []
            for folder in folders:
                model = load_pair_model(kind, str(folder)).to(options.device)  # type: ignore[arg-type]
                scores.append(100 * agreement(options.binary)(score_pairs(model, pairs), gold).item())
            best = max(range(len(scores)), key=scores.__getitem__)
            cycles = ", ".join(f"{score:.2f}" for score in scores)
            plain = options.plain[number - 1]
            print(f"{kind}-encoder of {plain}: {printable(folders[best])} (validation by cycle: {cycles})")


@user_errors
def main(arguments: list[str] | None = None) -> int:
    """The command line; a user's error is one message and exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", required=True, help="file of pairs to learn from")
    parser.add_argument("--val", help="file of scored pairs to choose by")
    parser.add_argument("--binary", action="store_true", help="scores are 1 for a match and 0 for none")
    parser.add_argument("--plain", nargs="+", required=True, help="one or two language models: hub ids or folders")
    parser.add_argument(
        "--start", nargs="+", help="bi-encoders of the same: hub ids or folders (default: SimCSE, here)"
    )
    parser.add_argument("--cycles", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="folder for what comes out")
    parser.add_argument(
        "--set", nargs=2, action="append", default=[], metavar=("SETTING", "VALUE"),
        help="any setting of the configs, for all steps: --set trainer.max_epochs 2",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="print the commands and stop")
    options = parser.parse_args(arguments)
    check(options)
    found = chain(options)
    names = named(found)
    import torch

    options.device = "cuda" if torch.cuda.is_available() else "cpu"
    for stage in names:
        line = command(stage, names, options)
        print(" ".join(["python", *line[1:]]), flush=True)
        if not options.dry_run and run(line):
            raise UserError(f"{names[stage]} did not end well; see above. The same command goes on from there")
    if not options.dry_run:
        compare(found, names, options)
    return 0


def check(options: argparse.Namespace) -> None:
    """Whatever can be found wrong before anything is trained; paths are made absolute, for steps run elsewhere."""
    if len(options.plain) > 2:
        raise UserError("distillation is of one language model, or mutual between two: give one or two --plain")
    if options.start and len(options.start) != len(options.plain):
        raise UserError(f"{len(options.plain)} --plain and {len(options.start)} --start: give one of each per model")
    if options.cycles < 1:
        raise UserError("--cycles is 1 or more")
    options.out, options.pairs = options.out.absolute(), str(Path(options.pairs).absolute())
    options.plain = [absolute(source) for source in options.plain]
    options.start = options.start and [absolute(source) for source in options.start]
    PairFile(options.pairs).read("train")
    if options.val:
        options.val = str(Path(options.val).absolute())
        PairFile(options.val, options.binary).read("val")


def absolute(source: str) -> str:
    """A folder's absolute path; a hub id as it is."""
    return str(Path(source).absolute()) if Path(source).exists() else source


if __name__ == "__main__":
    sys.exit(main())
