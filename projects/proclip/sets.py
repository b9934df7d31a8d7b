"""What is measured on: sets of labelled pictures with prompts for their classes, and sets of captioned pictures."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import lightning.pytorch as L
import open_clip
from torch.utils.data import DataLoader

from common.data.images import Pictures, PictureSource
from common.errors import UserError
from projects.proclip.data import Captioned, Texts


@dataclass
class Labelled:
    """Labelled pictures, and how their classes are spoken of.

    Attributes:
        pictures: a source with classes.
        templates: sentences for a class's name, {}; none takes the 80 that CLIP has for ImageNet.
        seen: classes that the training pairs show; the others are new.
    """

    pictures: PictureSource
    templates: tuple[str, ...] = ()
    seen: tuple[str, ...] = ()

    @property
    def prompts(self) -> list[str]:
        """All sentences, those of a class after one another."""
        made = [template.format for template in self.templates] or open_clip.OPENAI_IMAGENET_TEMPLATES
        return [say(name.replace("_", " ")) for name in self.pictures.classes for say in made]

    @property
    def numbers(self) -> list[int]:
        """Labels of the classes that the pairs show."""
        return [self.pictures.classes.index(name) for name in self.seen]


class Parts(ABC):
    """Captioned sets of which a mean is taken, as one in many languages."""

    @abstractmethod
    def parts(self) -> dict[str, Captioned]:
        """Each by its name."""


class Measures(Texts):
    """Sets by name; their texts are those that the language model has to read.

    Args:
        labelled: for zero-shot classification.
        captioned: for retrieval. One with parts, which are then called `<name>/<part>`, has a mean of its own.
    """

    def __init__(self, labelled: dict[str, Labelled], captioned: dict[str, Captioned | Parts]):
        if not labelled or not captioned:
            raise UserError("data: one labelled set and one captioned set are needed at least")
        for name, one in labelled.items():
            if unknown := sorted({*one.seen} - {*one.pictures.classes}):
                raise UserError(f"data: {name} has no class '{unknown[0]}', which is said to be seen")
        self.labelled = labelled
        self.captioned: dict[str, Captioned] = {}
        for name, source in captioned.items():
            parts = (
                {f"/{part}": one for part, one in source.parts().items()} if isinstance(source, Parts) else {"": source}
            )
            self.captioned |= {f"{name}{part}": one for part, one in parts.items()}

    def __len__(self) -> int:
        return len(self.labelled) + len(self.captioned)

    def texts(self) -> Sequence[str]:
        said = (source.captions(k) for source in self.captioned.values() for k in range(len(source)))
        prompts = (one.prompts for one in self.labelled.values())
        return list(dict.fromkeys(chain.from_iterable(chain(prompts, said))))

    def sources(self) -> list[PictureSource]:
        """All sets' pictures, labelled ones first."""
        return [*(one.pictures for one in self.labelled.values()), *self.captioned.values()]


class Both(Texts):
    """The texts of the test's sets and of validation's, for the stage `embed`.

    Args:
        test, val: see `MeasuredData`.
    """

    def __init__(self, test: Measures, val: Measures | None = None):
        self.parts = [part for part in (test, val) if part is not None]

    def texts(self) -> Sequence[str]:
        return list(dict.fromkeys(text for part in self.parts for text in part.texts()))


class MeasuredData(L.LightningDataModule):
    """The pictures of all sets, one after the other.

    Args:
        test: sets for the reported figures.
        val: sets for tuning and premises.
        image_size: side S of the pictures, pixels.
        batch_size: pictures per step.
        num_workers: processes that load data.
    """

    def __init__(
        self, test: Measures, image_size: int, val: Measures | None = None, batch_size: int = 250, num_workers: int = 0
    ):
        super().__init__()
        self.test, self.val, self.image_size = test, val, image_size
        self.batch_size, self.num_workers = batch_size, num_workers

    def test_dataloader(self) -> Any:
        sets = [*self.test.sources(), *(self.val.sources() if self.val else ())]
        return [
            DataLoader(Pictures(one, self.image_size), batch_size=self.batch_size, num_workers=self.num_workers)
            for one in sets
        ]
