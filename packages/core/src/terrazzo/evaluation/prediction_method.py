"""How the predictions behind a score were made, where it is otherwise than by the model alone.

Such scores never take the place of the plain ones: what they are is in the name of their files, in
their definition, and in a record by which a comparison tells them apart.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from terrazzo.models import mask_refinement
from terrazzo.models.test_time_augmentation import DEFINITIONS, Augmentation


@dataclass(frozen=True)
class MethodMember:
    """One model of an ensemble.

    Attributes:
        name: of its run.
        sha256: of its weights.
    """

    name: str
    sha256: str


@dataclass(frozen=True)
class MethodTiles:
    """Tiles that images were cut into.

    Attributes:
        tile: rows and columns.
        overlap: pixels that two neighbours share.
        blend: how they were mixed.
    """

    tile: int
    overlap: int
    blend: str


@dataclass(frozen=True)
class PredictionMethod:
    """What was done beside asking one model about each image once.

    Attributes:
        augmentation: at test time; None: none.
        tiles: at the image's own scale; None: each image whole.
        members: of an ensemble, the run itself first; empty: the run alone.
        masks: what tells the mask model and its settings; None: no refinement.
    """

    augmentation: Augmentation | None = None
    tiles: MethodTiles | None = None
    members: tuple[MethodMember, ...] = ()
    masks: dict[str, Any] | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """What is added to the name of a split; nothing where nothing was done."""
        found = []
        if self.members:
            found.append(f"ensemble_of_{len(self.members)}")
        if self.augmentation is not None:
            found.append(f"tta_{self.augmentation.replace('+', '_')}")
        if self.tiles is not None:
            blend = "" if self.tiles.blend == "linear" else f"_{self.tiles.blend}"
            found.append(f"tile_{self.tiles.tile}_{self.tiles.overlap}{blend}")
        if self.masks is not None:
            found.append("sam")
        return tuple(found)

    @property
    def definition(self) -> str:
        """What is added to the definition of the scores; empty where nothing was done."""
        found = []
        if self.augmentation is not None:
            found.append(f"tta {self.augmentation}: {DEFINITIONS[self.augmentation]}")
        if self.members:
            names = ", ".join(each.name for each in self.members)
            found.append(
                f"ensemble: mean of the probabilities of {len(self.members)} runs ({names})"
            )
        if self.tiles is not None:
            found.append(
                f"tiles of {self.tiles.tile} pixels at the images' own scale, "
                f"{self.tiles.overlap} shared, blended by {self.tiles.blend!r}"
            )
        if self.masks is not None:
            found.append(f"refined: {mask_refinement.DEFINITION}")
        return "; ".join(found)

    def record(self) -> dict[str, Any]:
        """Return it as JSON holds it; empty where nothing was done."""
        found: dict[str, Any] = {}
        if self.augmentation is not None:
            found["tta"] = self.augmentation
        if self.tiles is not None:
            found["tiles"] = vars(self.tiles)
        if self.members:
            found["ensemble"] = [vars(each) for each in self.members]
        if self.masks is not None:
            found["refine"] = self.masks
        return found

    def as_json(self) -> str:
        """Return the record with its definition in a line, for maps."""
        return json.dumps({**self.record(), "definition": self.definition}, ensure_ascii=False)


METHOD_TAG = "PREDICTION"
"""Of maps: how they were predicted, as JSON."""
PLAIN = PredictionMethod()
"""One model asked about each image once."""
