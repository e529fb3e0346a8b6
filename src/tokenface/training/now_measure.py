"""NoW's validation photos as a measure of training runs, for those who have them."""

from __future__ import annotations

from pathlib import Path

from tokenface.evaluation.batch import measure_all
from tokenface.evaluation.now import NowFolder, now_jobs
from tokenface.evaluation.predict import PhotoTask, predict_photos
from tokenface.evaluation.results import summarise
from tokenface.evaluation.scan_to_mesh import Protocol
from tokenface.model import Reconstructor


def now_validation(weights: Path, folder: NowFolder) -> dict[str, float]:
    """Median, mean and standard deviation (mm) under "now median", …, non-metrical, as `tokenface evaluate now`.

    Predictions and alignments stay beside the weights.
    """
    images, place = folder.images("validation"), weights.parent / "now"
    tasks = [
        PhotoTask(i.name, folder.photo(i), folder.box(i), place / i.subject / i.challenge / i.stem) for i in images
    ]
    for _ in predict_photos(Reconstructor.load(weights), tasks):
        pass
    protocol = Protocol("NoW, non-metrical")
    outcomes = list(measure_all(now_jobs(folder, images, place), protocol, cache=weights.parent / "now-cache"))
    row = summarise(weights.parent.name, protocol, outcomes).figures["all"]
    return {"now median": row.median, "now mean": row.mean, "now std": row.std, "now coverage": row.coverage}
