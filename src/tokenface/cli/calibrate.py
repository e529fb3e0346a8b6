"""`tokenface calibrate` and `tokenface evaluate confidence`: fitting and testing of a calibrated confidence."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Weights = Annotated[str | None, typer.Argument(help="Weights by name or path.", show_default=False)]


def calibrate(
    weights: Weights = None,
    samples: Annotated[int, typer.Option(min=200, help="Rendered pictures to learn from.")] = 1000,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Another file.", show_default="beside the weights")
    ] = None,
) -> None:
    """Fit the confidence of some weights on rendered faces, and write it beside them. Minutes; no data needed."""
    from tokenface.cli.console import out
    from tokenface.inference.calibration import calibration_path, save_calibration
    from tokenface.inference.checkpoint_facts import calibration_facts
    from tokenface.training.calibration.fit import fit
    from tokenface.training.calibration.samples import FIT_SEED

    model, drawn = _drawn(weights, samples, FIT_SEED)
    assert model.path is not None
    path = output or calibration_path(model.path)
    save_calibration(path, fit(drawn, model.origin.weights_hash), calibration_facts(model.path))
    out().print(
        f"{len(drawn)} predictions of {model.origin.weights} ({model.origin.weights_hash}) → {path}", markup=False
    )


def confidence(
    weights: Weights = None,
    samples: Annotated[int, typer.Option(min=50, help="Rendered pictures to measure on.")] = 400,
    photos: Annotated[
        list[Path] | None, typer.Option(help="Real photos of faces; may be repeated.", show_default=False)
    ] = None,
    wrong: Annotated[
        list[Path] | None, typer.Option(help="Pictures that show nobody; may be repeated.", show_default=False)
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for figures and plots.")] = Path(
        "runs/confidence"
    ),
) -> None:
    """Reliability of the confidence on held-out rendered faces; with --photos and --wrong on real ones too."""
    import json

    from tokenface.cli.console import out
    from tokenface.core.files import write_atomically
    from tokenface.errors import ConfigError
    from tokenface.evaluation.open_run import rounded
    from tokenface.evaluation.statistics import auroc
    from tokenface.training.calibration.measure import draw_reliability, figures, photo_scores
    from tokenface.training.calibration.samples import TEST_SEED

    if (photos is None) != (wrong is None):
        raise ConfigError("--photos and --wrong go together: one is measured against the other")
    model, drawn = _drawn(weights, samples, TEST_SEED)
    if model.calibration is None:
        raise ConfigError(f"the weights '{model.origin.weights}' have no calibration; run 'tokenface calibrate' first")
    document = {"benchmark": "confidence", "weights": {model.origin.weights: model.origin.weights_hash}}
    document |= figures(model.calibration, drawn)
    if photos and wrong:
        faces, nobody = photo_scores(model, photos, wrong=False), photo_scores(model, wrong, wrong=True)
        document["real pictures"] = {"faces": len(faces), "crops of nobody": len(nobody), "AUROC": auroc(faces, nobody)}
    draw_reliability(output, model.calibration, drawn)
    text = json.dumps(rounded(document), indent=2, ensure_ascii=False)
    out().print(text, markup=False)
    out().print(f"figures and plots: {write_atomically(output / 'summary.json', (text + chr(10)).encode()).parent}")


def _drawn(weights: str | None, samples: int, seed: int):
    from rich.progress import Progress

    import tokenface
    from tokenface.cli.console import err
    from tokenface.training.calibration.samples import draw_samples

    model, console = tokenface.load(weights, "cpu"), err()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("rendering and answering", total=samples)
        return model, draw_samples(model, samples, seed, lambda done: progress.update(task, completed=done))
