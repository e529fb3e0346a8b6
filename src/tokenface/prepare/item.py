"""Worker of the preparation: one item of a data set to the members of one record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from tokenface.data.readers.dataset import DatasetReader, Loaded
from tokenface.data.record import FaceRecord, Item, Picture
from tokenface.data.shards.members import encode_record
from tokenface.errors import DataError, ModelFileError, TokenFaceError
from tokenface.head.registry import load_head
from tokenface.prepare.geometry import GeometryFitter
from tokenface.prepare.options import PrepareOptions
from tokenface.prepare.picture import PicturePreparer, Rejected, Seen
from tokenface.video.cuts import CutDetector

CLIP_MINIMUM = 3
"""Fewer good frames in a row than t − 1, t, t + 1 are no clip (Sec. 3.3)."""


@dataclass(frozen=True)
class Outcome:
    """Outcome of an item. members: of the record, when status is "done"."""

    item: Item
    status: Literal["done", "rejected", "failed"]
    reason: str = ""
    members: dict[str, bytes] | None = None


class ItemPreparer:
    """Worker state of one process, loaded once."""

    def __init__(self, reader: DatasetReader, options: PrepareOptions):
        self.reader, self.options = reader, options
        head = load_head(options.head)
        self.pictures = PicturePreparer(head, options)
        self.geometry = GeometryFitter(head, options.flame)

    def __call__(self, item: Item) -> Outcome:
        """Never raises for what is wrong with the item: the reason is in the outcome."""
        try:
            found = self._record(item, self.reader.load(item))
            if isinstance(found, Rejected):
                return Outcome(item, "rejected", found.reason)
            return Outcome(item, "done", members=encode_record(found, self.options.jpeg_quality))
        except ModelFileError:
            raise  # not this item's fault
        except TokenFaceError as error:
            return Outcome(item, "failed", str(error))
        except MemoryError:
            return Outcome(item, "failed", f"'{item.source}' does not fit into memory")
        except Exception as error:  # one odd file must not cost the other million
            text = " ".join(str(error).split())[:150]
            return Outcome(item, "failed", f"'{item.source}': unexpected {type(error).__name__}: {text}")

    def _record(self, item: Item, loaded: Loaded) -> FaceRecord | Rejected:
        pictures = self._clip(item, loaded) if len(loaded.images) > 1 else self._photo(item, loaded)
        if isinstance(pictures, Rejected):
            return pictures
        geometry = None if loaded.geometry is None else self.geometry.fit(loaded.geometry, item.file("geometry"))
        name, person = self.reader.name, item.identity or loaded.identity
        return FaceRecord(
            key=f"{name}-{item.key}",
            kind=item.kind if len(pictures) > 1 or item.kind != "clip" else "photo",
            pictures=pictures,
            identity=f"{name}/{person}" if person else "",
            dataset=name,
            source=item.source,
            licence=self.reader.licence,
            geometry=geometry,
        )

    def _photo(self, item: Item, loaded: Loaded) -> tuple[Picture, ...] | Rejected:
        if not loaded.images:
            raise DataError(f"'{item.source}' holds no picture")
        seen = self.pictures.examine(loaded.images[0], loaded.landmarks[0], item.pictures[0].stem)
        return seen if isinstance(seen, Rejected) else (self.pictures.cropped(seen, *seen.square()),)

    def _clip(self, item: Item, loaded: Loaded) -> tuple[Picture, ...] | Rejected:
        """The longest run of good frames of one shot that show the same face, all in one crop that holds its every
        place."""
        best: list[Seen] = []
        run: list[Seen] = []
        last = Rejected("clip too short")
        cuts = CutDetector()
        for number, (image, points) in enumerate(zip(loaded.images, loaded.landmarks, strict=True)):
            if cuts.step(image):
                run = []
            near = run[-1].box if run else None
            found = self.pictures.examine(image, points, f"{item.pictures[0].stem}_{number}", near)
            if isinstance(found, Rejected):
                last, run = found, []
                continue
            run.append(found)
            if len(run) > len(best):
                best = list(run)
        if len(best) < CLIP_MINIMUM:
            return last
        low = np.min([seen.box[:2] for seen in best], axis=0)
        high = np.max([seen.box[2:] for seen in best], axis=0)
        middles = np.stack([seen.square()[0] for seen in best])
        side = max(seen.square()[1] for seen in best) + float(np.ptp(middles, axis=0).max())
        return tuple(self.pictures.cropped(seen, (low + high) / 2, side) for seen in best)
