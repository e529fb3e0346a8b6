"""Everything that a run of the open benchmark found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tokenface.evaluation.open_figures import PictureErrors
from tokenface.evaluation.open_methods import Predictions
from tokenface.evaluation.openbench import OpenSet
from tokenface.head.model import HeadModel


@dataclass
class OpenReport:
    """document: everything as JSON.  sets, predictions, errors, heads: of the OpenHead people, for pictures."""

    document: dict[str, Any]
    sets: list[OpenSet] = field(default_factory=list)
    predictions: dict[str, list[Predictions]] = field(default_factory=dict)
    errors: dict[str, list[PictureErrors]] = field(default_factory=dict)
    heads: dict[str, HeadModel] = field(default_factory=dict)
