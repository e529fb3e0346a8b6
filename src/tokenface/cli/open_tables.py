"""The open benchmark's tables on the terminal."""

from __future__ import annotations

from rich.table import Table

from tokenface.cli.console import out


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
