"""Measure an adapter and an image encoder: zero-shot classification, retrieval, and how far the encoder has moved.

    python -m projects.proclip.evaluate test --config projects/proclip/configs/mini/evaluate.yaml \\
        --model.embeddings FOLDER --model.adapter FILE --model.visual FILE
"""

from itertools import count
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from torch import Tensor

from common.cli import main
from common.data.stores import ArrayStore
from common.errors import UserError
from common.models.clip import load_clip
from common.paths import expand
from common.training.runs import save_picture
from projects.proclip.data import Captioned
from projects.proclip.harness.pictures import draw_search
from projects.proclip.measures import class_vectors, classified, ranks, recalls
from projects.proclip.model import load_adapter, load_visual
from projects.proclip.sets import MeasuredData, Measures

SHOWN = 6  # pictures of a search in the report
TEXTS = 256  # texts that are read at once


class Evaluation(L.LightningModule):
    """Every figure on the test's sets, and on those of validation as `<figure>_val`.

    Args:
        clip: the CLIP that was tuned: a name and tag of open_clip's, or a folder.
        embeddings: the language model's embeddings of the sets' texts, with these beside them.
        adapter: what a stage has left; None takes CLIP's own text encoder.
        visual: what stage 2 has left; None takes CLIP's own image encoder.
        pictures: searches that are drawn for the report.
    """

    run_dir: Path

    def __init__(
        self,
        clip: str,
        embeddings: str | None = None,
        adapter: str | None = None,
        visual: str | None = None,
        pictures: int = 4,
    ):
        super().__init__()
        if (adapter is None) != (embeddings is None):
            raise UserError("model.adapter and model.embeddings go together")
        self.clip, self.pictures, self.origin = load_clip(clip), pictures, None
        self.adapter = load_adapter(expand(adapter, "model.adapter")) if adapter else None
        self.stored = ArrayStore.open(expand(embeddings, "model.embeddings")) if embeddings else None
        if visual is not None:
            self.origin = load_clip(clip)
            load_visual(self.clip.net.visual, expand(visual, "model.visual"))
        self.requires_grad_(False).eval()
        self.found: dict[int, list[tuple[Tensor, Tensor, Tensor | None]]] = {}

    def on_test_start(self) -> None:
        if self.trainer.world_size > 1:
            raise UserError("every picture is compared with every text: measure with --trainer.devices 1")
        self.rows = {text: row for row, text in enumerate((self.stored.names or ()) if self.stored else ())}

    @torch.no_grad()
    def texts(self, texts: list[str]) -> Tensor:
        """Unit rows [N, D] of the adapter, or of CLIP's own encoder."""
        parts = [texts[start : start + TEXTS] for start in range(0, len(texts), TEXTS)]
        if self.adapter is None or self.stored is None:
            return torch.cat([self.clip.texts(part).float() for part in parts])
        if absent := [text for text in texts if text not in self.rows]:
            raise UserError(f"model.embeddings has no '{absent[0][:60]}': have the stage embed read these sets' texts")
        found = []
        for part in parts:
            rows = np.stack([self.stored[self.rows[text]] for text in part]).astype(np.float32)
            found.append(self.adapter(torch.from_numpy(rows).to(self.device)))
        return torch.cat(found)

    def test_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        images = self.clip.images(batch["image"]).float()
        moved = (images * self.origin.images(batch["image"]).float()).sum(-1) if self.origin else None
        self.found.setdefault(dataloader_idx, []).append((images, batch["label"], moved))

    def on_test_epoch_end(self) -> None:
        data: MeasuredData = self.trainer.datamodule
        for end, sets in (("", data.test), ("_val", data.val)):
            if sets is not None:
                self._measure(sets, end, 0 if end == "" else len(data.test))
        if self.adapter is not None:
            self.log("test/adapter_params", float(sum(p.numel() for p in self.adapter.parameters())))

    def _measure(self, sets: Measures, end: str, first: int) -> None:
        places = count(first)
        moved = []
        accuracies = []
        for name, one in sets.labelled.items():
            images, labels, kept = self._of(next(places))
            hits = classified(images, class_vectors(self.texts(one.prompts), len(one.pictures.classes)), labels).float()
            accuracies.append(hits.mean())
            self.log(f"test/{name}{end}", hits.mean())
            if one.seen:
                known = torch.isin(labels, torch.tensor(one.numbers, device=labels.device))
                self.log_dict({f"test/seen{end}": hits[known].mean(), f"test/unseen{end}": hits[~known].mean()})
            moved += kept
        self.log(f"test/zero_shot{end}", torch.stack(accuracies).mean())
        groups: dict[str, list[dict[str, float]]] = {}
        for name, source in sets.captioned.items():
            images, rows, kept = self._of(next(places))
            figures = self._search(source, images, rows.tolist(), drawn=end == "" and not groups)
            group, _, part = name.partition("/")  # those with a part, as languages, are no sets of the mean
            if part:
                self.log_dict({f"test/{group}_{part}_{way}{end}": figures[way] for way in ("i2t", "t2i")})
            groups.setdefault(group, []).append(figures)
            if not part:
                groups.setdefault("", []).append(figures)
            moved += kept
        for group, found in groups.items():
            for figure in found[0]:
                value = float(np.mean([figures[figure] for figures in found]))
                self.log(f"test/{group}{'_' if group else ''}{figure}{end}", value)
        if moved:
            self.log(f"test/kept{end}", torch.cat(moved).mean())

    def _search(self, source: Captioned, images: Tensor, rows: list[int], drawn: bool) -> dict[str, float]:
        """Recall both ways among a set's pictures [N, D], which are its numbers `rows`, and their captions."""
        said = [source.captions(row) for row in rows]
        owners = torch.tensor([k for k, several in enumerate(said) for _ in several], device=images.device)
        texts = self.texts([text for several in said for text in several])
        for number in range(self.pictures if drawn else 0):
            text = number * len(texts) // self.pictures
            best = (texts[text] @ images.T).topk(min(SHOWN, len(images))).indices.tolist()
            found = draw_search([source.image(rows[k])[0] for k in best], best, int(owners[text]))
            caption = [text for several in said for text in several][text]
            save_picture(self.run_dir, f"search {number + 1}", found, f"The best pictures for: {caption}")
        to_texts, to_images = (recalls(found) for found in ranks(images, texts, owners))
        ways = {"i2t": to_texts, "t2i": to_images}
        return {f"{way}{end}": found[name] for way, found in ways.items() for name, end in (("r1", ""), ("r5", "_5"))}

    def _of(self, number: int) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Embeddings, labels and, where the encoder was tuned, cosines to the original one, of a set."""
        images, labels, moved = zip(*self.found[number], strict=True)
        return torch.cat(images), torch.cat(labels), [part for part in moved if part is not None]


if __name__ == "__main__":
    main(Evaluation, MeasuredData)
