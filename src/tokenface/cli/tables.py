"""Evaluation tables on the terminal."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from tokenface.cli.console import out
from tokenface.evaluation.photo_movement import DISTANCES
from tokenface.parameters import COMPONENTS


def print_open(title: str, section: dict) -> None:
    """Neutral errors by condition and by group, methods by rank."""
    table = Table(title=f"{title}: neutral mm (ratio to the mean head)", box=None, title_justify="left")
    ranks = section["ranks"]
    for column in ("", *(row["method"] for row in ranks)):
        table.add_column(column, justify="left" if not column else "right")
    for condition in next(iter(section["conditions"].values())):
        cells = [section["conditions"][row["method"]][condition] for row in ranks]
        table.add_row(condition, *(f"{cell['neutral mm']:.2f} ({cell['neutral ratio']:.2f})" for cell in cells))
    table.add_row("all", *(f"{row['mean mm']:.3f}" for row in ranks))
    table.add_row("rank", *(str(row["rank"]) for row in ranks))
    out().print(table)
    groups = Table(title=f"{title}: neutral mm by group", box=None, title_justify="left")
    for column in ("", "", *(row["method"] for row in ranks)):
        groups.add_column(column, justify="left" if not column else "right")
    for kind, rows in next(iter(section["groups"].values())).items():
        for name in rows:
            means = (section["groups"][row["method"]][kind][name]["mean"] for row in ranks)
            groups.add_row(kind, name, *(f"{mean:.2f}" for mean in means))
    out().print(groups)


def print_photos(rows: dict[str, dict[str, float]]) -> None:
    """The rows of `photo_set.photo_rows`."""
    table = Table(title="photos: 68 points, % of √box", box=None, title_justify="left")
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    for column in ("", *names):
        table.add_column(column, justify="left" if not column else "right")
    for method, row in rows.items():
        table.add_row(method, *(f"{row[n]:.2f}" if isinstance(row[n], float) else str(row[n]) for n in names))
    out().print(table)


def print_measures(document: dict[str, Any]) -> None:
    """The document of `photo_run.measure_photos`."""
    rendered = document["rendered"]
    table = _table(
        "rendered people kept out (r² unless said otherwise)", ("", *(f"{name} pictures" for name in rendered))
    )
    for name in next(iter(rendered.values()))["figures"]:
        table.add_row(name, *(_interval(part["figures"][name]) for part in rendered.values()))
    out().print(table)
    if "photos" not in document:
        return
    photos = document["photos"]
    table = _table(f"{photos['photos']} photos of {photos['people']} people kept out", ("", "95 % over people"))
    for name, figure in photos["figures"].items():
        table.add_row(name, _interval(figure))
    out().print(table)
    largest = ", ".join(f"{name} {value:.2f}" for name, value in photos["baseline"].items())
    out().print(f"largest baselines: {largest}")
    if movement := photos["movement"]:
        table = _table("expression and jaw against the labels, within each person", ("", "slope", "correlation"))
        for name in ("movement", *DISTANCES):
            table.add_row(name, *(_interval(movement[f"{name} {kind}"]) for kind in ("slope", "correlation")))
        out().print(table)
    columns = ("changed", "slope", "explained", "own", *COMPONENTS, "leak")
    table = _table("response to known changes; movement over people's spread, leak over the own", columns)
    for name, row in photos["responses"].items():
        own = row["shape" if name == "shape" else "own"]
        cells = (f"{row[c].value:.2f}" for c in COMPONENTS)
        both = (_interval(row[c]) for c in ("slope", "explained"))
        table.add_row(name, *both, f"{own.value:.2f}", *cells, _interval(row["leak"]))
    out().print(table)


def print_scans(document: dict[str, Any]) -> None:
    """The document of `scan_photos.measure_scans`."""
    table = _table(
        "scans: scan-to-mesh, ratio to the mean head", ("", "views", "mean head mm", "mean over views", "pooled")
    )
    for name, row in document["scans"].items():
        table.add_row(
            name,
            str(row["views"]),
            f"{row['mean head mm']:.3f}",
            f"{row['mean over views']:.3f}",
            f"{row['pooled']:.3f}",
        )
    out().print(table)
    out().print(
        f"all: mean over views {_interval(document['mean over views'])}, pooled {_interval(document['pooled'])}"
    )


def _table(title: str, columns: tuple[str, ...]) -> Table:
    table = Table(title=title, box=None, title_justify="left")
    for column in columns:
        table.add_column(column, justify="right" if column else "left")
    return table


def _interval(figure) -> str:
    value, low, high = figure
    return f"{value:.2f} ({low:.2f}–{high:.2f})" if low == low else f"{value:.2f}"
