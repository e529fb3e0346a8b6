"""Training curves: CSV files, TensorBoard, Weights & Biases."""

from __future__ import annotations

import csv
import io
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from tokenface.core.files import write_atomically
from tokenface.errors import ConfigError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

TIMINGS = ("images_per_s", "waiting")
"""Columns of the training curve that no two runs share: the speed, and the share of the steps' time in which they
waited for their batches."""


class Metrics:
    """One run's figures and pictures.

    Args:
        folder: the run's.  step: from which the run goes on; rows of later steps, which a killed run wrote and which
            will come again, are dropped.
        wandb: project, or None.
    Raises:
        ConfigError: Weights & Biases is asked for and not installed.
    """

    def __init__(self, folder: Path, step: int = 0, wandb: str | None = None, config: dict[str, Any] | None = None):
        self.folder = folder
        self._last: dict[str, int] = {}
        for path in folder.glob("*.csv"):
            _forget_after(path, step)
            if rows := read_curve(path):
                self._last[path.stem] = int(rows[-1]["step"])
        self.board: SummaryWriter | None = None
        with suppress(ImportError):
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1 if step else None)
        self.wandb = None
        if wandb is not None:
            try:
                import wandb as client
            except ImportError as error:
                raise ConfigError("run.wandb needs Weights & Biases; pip install 'tokenface[wandb]'") from error
            self.wandb = client.init(
                project=wandb, name=folder.name, dir=str(folder), id=folder.name, resume="allow", config=config
            )

    def write(self, kind: str, step: int, figures: dict[str, float]) -> None:
        """A row of `<kind>.csv` and a point of every curve; a step that has a row already gets a new one."""
        if self._last.get(kind, -1) >= step:
            _forget_after(self.folder / f"{kind}.csv", step - 1)
        self._last[kind] = step
        _append(self.folder / f"{kind}.csv", {"step": step, **{k: f"{v:.6g}" for k, v in figures.items()}})
        if self.board is not None:
            for name, value in figures.items():
                self.board.add_scalar(f"{kind}/{name}", value, step)
        if self.wandb is not None:
            self.wandb.log({f"{kind}/{name}": value for name, value in figures.items()}, step=step)

    def picture(self, name: str, step: int, image: np.ndarray) -> None:
        """[H, W, 3] uint8 RGB to `pictures/<name>-<step>.png`, and to the boards."""
        _, data = cv2.imencode(".png", np.ascontiguousarray(image[..., ::-1]))
        write_atomically(self.folder / "pictures" / f"{name}-{step:07d}.png", data.tobytes())
        if self.board is not None:
            self.board.add_image(name, image, step, dataformats="HWC")
        if self.wandb is not None:
            import wandb as client

            self.wandb.log({name: client.Image(image)}, step=step)

    def close(self) -> None:
        if self.board is not None:
            self.board.close()
        if self.wandb is not None:
            self.wandb.finish()


class Silent(Metrics):
    """For processes whose figures are those of another one."""

    def __init__(self) -> None:
        self.board = self.wandb = None

    def write(self, kind: str, step: int, figures: dict[str, float]) -> None:
        """Nothing."""

    def picture(self, name: str, step: int, image: np.ndarray) -> None:
        """Nothing."""


def read_curve(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV of a run; none if it is not there."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _append(path: Path, row: dict[str, Any]) -> None:
    columns = list(row)
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            known = next(csv.reader(file), [])
        if new := [name for name in columns if name not in known]:  # a term that this kind of batch brings
            _rewrite(path, known + new, read_curve(path))
        columns = known + new
    else:
        _rewrite(path, columns, [])
    with path.open("a", newline="", encoding="utf-8") as file:
        csv.DictWriter(file, columns, restval="").writerow(row)


def _forget_after(path: Path, step: int) -> None:
    rows = read_curve(path)
    kept = [row for row in rows if (row.get("step") or "").isdigit() and int(row["step"]) <= step]
    if len(kept) < len(rows):
        _rewrite(path, list(rows[0]), kept)


def _rewrite(path: Path, columns: list[str], rows: list[dict[str, str]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue().encode())
