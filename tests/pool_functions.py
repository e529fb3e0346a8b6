"""What worker processes of the pools' tests import: as little as possible."""

from __future__ import annotations

import os
import time


def square(number: int) -> int:
    """Later ones are ready first; 5 takes its process down."""
    time.sleep(0.01 * (number % 3))
    if number == 5:
        os._exit(1)
    return number * number


def make_square():
    return square


def make_nothing():
    from tokenface.errors import DataError

    raise DataError("nothing can be made here")


def make_sleeper(path: str):
    """Says who it is, and has time."""
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    return time.sleep


class AnnotatedOnly:
    """Stands in for the detector: believes the data set's landmarks, finds nothing by itself."""

    def __init__(self, *_):
        pass

    def find(self, image, annotated, near=None):
        from tokenface.images.detection import Detection

        return None if annotated is None else Detection.from_landmarks(annotated)


class OfflinePreparer:
    """`ItemPreparer` that believes the data set's landmarks and needs no network."""

    def __init__(self, reader, options):
        from tokenface.prepare import picture
        from tokenface.prepare.item import ItemPreparer

        picture.FaceFinder = AnnotatedOnly
        self.preparer = ItemPreparer(reader, options)

    def __call__(self, item):
        return self.preparer(item)
