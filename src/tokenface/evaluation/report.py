"""One HTML report of finished evaluations: tables beside published rows, curves, worst cases."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tokenface.core.files import read_text, write_atomically
from tokenface.errors import EvaluationError

Row = tuple[float, float, float]

NOW_ROWS: dict[str, Row] = {
    "TokenFace (paper)": (0.76, 0.95, 0.82),
    "FlowFace, single view": (0.87, 1.07, 0.88),
    "MICA": (0.90, 1.11, 0.92),
    "Dense Landmarks": (1.02, 1.28, 1.08),
    "DECA": (1.09, 1.38, 1.18),
    "Deep3DFaceRecon, PyTorch": (1.11, 1.41, 1.21),
    "RingNet": (1.21, 1.53, 1.31),
    "FLAME 2020 template": (1.21, 1.53, 1.31),
    "Deep3DFaceRecon, TensorFlow": (1.23, 1.54, 1.29),
    "3DDFA-v2": (1.23, 1.57, 1.39),
    "SynergyNet": (1.27, 1.59, 1.31),
    "MGCNet": (1.31, 1.87, 2.63),
    "PRNet": (1.50, 1.98, 1.88),
    "3DMM-CNN": (1.84, 2.33, 2.05),
}
"""NoW, non-metrical, test split [TokenFace Table 2, all 13 rows; FlowFace's was published later]."""

NOW_METRICAL_ROWS: dict[str, Row] = {
    "TokenFace (paper)": (0.97, 1.24, 1.07),
    "MICA": (1.08, 1.37, 1.17),
    "Dense Landmarks": (1.36, 1.73, 1.47),
    "DECA": (1.35, 1.80, 1.64),
    "FLAME 2020 template": (1.49, 1.92, 1.68),
    "RingNet": (1.50, 1.98, 1.77),
    "3DDFA-v2": (1.53, 2.06, 1.95),
    "Deep3DFaceRecon, PyTorch": (1.62, 2.21, 2.08),
    "MGCNet": (1.70, 2.47, 3.02),
    "SynergyNet": (2.28, 2.86, 2.39),
    "Deep3DFaceRecon, TensorFlow": (2.26, 2.90, 2.51),
    "3DMM-CNN": (3.91, 4.84, 4.02),
}
"""NoW, metrical, test split [Table 2, which has no numbers for PRNet]."""

STIRLING_ROWS: dict[str, Row] = {
    "TokenFace (paper)": (0.88, 0.95, 0.96),
    "MICA": (0.92, 1.16, 1.04),
    "Deep3DFaceRecon, PyTorch": (0.99, 1.27, 1.15),
    "DECA": (1.03, 1.32, 1.18),
    "Deep3DFaceRecon, TensorFlow": (1.13, 1.43, 1.25),
    "RingNet": (1.15, 1.46, 1.27),
    "FLAME 2020 template": (1.22, 1.55, 1.35),
    "3DDFA-v2": (1.20, 1.55, 1.45),
}
"""Stirling [Table 3]. By which rule is not said there; NoW's is likely."""

TEMPLATE_RATIO = {"NoW, non-metrical": 0.63, "NoW, metrical": 0.65}
"""TokenFace's median over the FLAME template's: the yardstick that needs no common scans."""


MAX_JSON_BYTES = 64 << 20
MAX_PICTURE_BYTES = 16 << 20
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#1c2330}
table{border-collapse:collapse;margin:.6rem 0 1.4rem}caption{text-align:left;font-weight:600;padding:.3rem 0}
th,td{padding:.25rem .7rem;text-align:right;border-bottom:1px solid #dde1e8}
th:first-child,td:first-child{text-align:left}
tr.ours{background:#eaf3ff}img{max-width:100%;border:1px solid #dde1e8}p.note{color:#5a6473}
@media (prefers-color-scheme:dark){body{background:#14181f;color:#dfe5ee}tr.ours{background:#1d3350}
th,td{border-color:#333c4a}p.note{color:#9aa5b5}}
"""


def write_report(sources: Sequence[str | Path], output: str | Path, title: str = "TokenFace evaluation") -> Path:
    """Collect every `summary.json` and `open.json` at or below the sources into one file that needs nothing else.

    Raises:
        EvaluationError: nothing to report, or a damaged file.
        OutputError: the report cannot be written.
    """
    found = sorted({path for source in sources for path in _documents(Path(source))})
    if not found:
        raise EvaluationError(
            f"no summary.json or open.json in {', '.join(map(str, sources))}; run an evaluation first"
        )
    sections = [_section(path, _read(path)) for path in found]
    body = "\n".join([f"<h1>{html.escape(title)}</h1>", *sections])
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )
    return write_atomically(output, page.encode())


def table(caption: str, header: Sequence[str], rows: Iterable[Sequence[object]], ours: Iterable[int] = ()) -> str:
    """An HTML table; numbers to three digits, rows in `ours` marked."""
    marked = set(ours)
    lines = [f"<table><caption>{html.escape(caption)}</caption><thead><tr>"]
    lines += [f"<th>{html.escape(cell)}</th>" for cell in header] + ["</tr></thead><tbody>"]
    for number, row in enumerate(rows):
        cells = "".join(f"<td>{html.escape(_text(cell))}</td>" for cell in row)
        lines.append(f"<tr{' class=ours' if number in marked else ''}>{cells}</tr>")
    return "".join(lines) + "</tbody></table>"


def _section(path: Path, document: dict[str, Any]) -> str:
    kind = str(document.get("benchmark", ""))
    try:
        if path.name == "open.json":
            parts = _open(document)
        elif kind == "AFLW2000-3D":
            parts = _aflw(document)
        elif kind == "confidence":
            parts = _confidence(document)
        elif kind == "video":
            parts = _video(document)
        else:
            parts = _scan_to_mesh(document)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise EvaluationError(f"'{path}' is not a summary of this version ({type(error).__name__}: {error})") from error
    pictures = [_picture(p) for p in sorted(path.parent.glob("*.png"))]
    return "\n".join([*parts, *pictures])


def _scan_to_mesh(document: dict[str, Any]) -> list[str]:
    protocol, figures = document["protocol"], document["figures"]
    label, whole = str(protocol["label"]), figures["all"]
    ours = (document["method"], whole["median"], whole["mean"], whole["std"])
    published, where = _published(label, bool(protocol["metrical"]))
    rows = [(name, *values) for name, values in published.items()]
    rows = sorted([*rows, ours], key=lambda row: (row[2] is None, row[2]))
    coverage = 100 * (whole["coverage"] or 0)
    parts = [
        f"<h2>{html.escape(label)}: {html.escape(str(document['method']))}</h2>",
        f"<p class=note>{whole['images']} images measured, {whole['missing']} missing: coverage {coverage:.1f} %. "
        f"{where}</p>",
        table("millimetres", ("", "median", "mean", "std"), rows, [rows.index(ours)]),
    ]
    if protocol["name"] in TEMPLATE_RATIO:
        ratio = TEMPLATE_RATIO[protocol["name"]]
        parts.append(f"<p class=note>The paper's median is {ratio} of the FLAME template's.</p>")
    challenges = [(n, r["median"], r["mean"], r["std"], r["images"]) for n, r in figures.items() if n != "all"]
    if challenges:
        parts.append(table("by challenge", ("", "median", "mean", "std", "images"), challenges))
    parts.append(table("by region", ("", "mean"), document["regions"].items()))
    if document["failures"]:
        parts.append(table("without a result", ("image", "why"), document["failures"].items()))
    return parts


def _published(label: str, metrical: bool) -> tuple[dict[str, Row], str]:
    """Rows of the paper that belong beside a protocol, and what is to be known of them."""
    if label.startswith("NoW,"):
        rows = NOW_METRICAL_ROWS if metrical else NOW_ROWS
        return rows, "Published rows are of NoW's test split."
    if label.startswith("Stirling") and not metrical:
        return STIRLING_ROWS, (
            "Published rows are the paper's Table 3, whose rule is not said; trained without Stirling's people."
        )
    return {}, ""


def _open(document: dict[str, Any]) -> list[str]:
    parts = [
        f"<h2>{html.escape(str(document['benchmark']))}</h2>",
        f"<p class=note>{document['people']} people, seed {document['seed']}. "
        + html.escape("; ".join(document["notes"]))
        + "</p>",
    ]
    for title in ("OpenHead people", "ICT-FaceKit people"):
        if title not in document:
            continue
        section = document[title]
        names = list(next(iter(section["conditions"].values())))
        for measure in ("neutral", "posed"):
            rows = [
                (method, *(f"{_text(row[n][f'{measure} mm'])} ({_text(row[n][f'{measure} ratio'])})" for n in names))
                for method, row in section["conditions"].items()
            ]
            parts.append(table(f"{title}: {measure} face, mm (ratio to the mean head)", ("", *names), rows))
        rows = [(m, *(row[n]["nme %"] for n in names)) for m, row in section["conditions"].items()]
        parts.append(table(f"{title}: 68 points, % of √box", ("", *names), rows))
        header = ("method", "rank", "mean mm", "behind best mm", "low", "high")
        ranks = [[row[key] for key in header] for row in section["ranks"]]
        parts.append(table(f"{title}: ranks, 95 % over people", header, ranks))
        methods = list(section["groups"])
        rows = [
            (f"{kind}: {g}", row.get("pictures"), *(section["groups"][m][kind][g]["mean"] for m in methods))
            for kind, groups in section["groups"][methods[0]].items()
            for g, row in groups.items()
        ]
        parts.append(table(f"{title}: neutral face by group, mm", ("", "pictures", *methods), rows))
        for key in ("disentanglement", "calibration"):
            for method, values in section[key].items():
                if values:
                    parts.append(table(f"{title}: {method}, {key}", ("", ""), values.items()))
    if "photos" in document:
        columns = list(dict.fromkeys(name for row in document["photos"].values() for name in row))
        measured = [(method, *(row[name] for name in columns)) for method, row in document["photos"].items()]
        parts.append(table("photos: 68 points, % of √box", ("", *columns), measured))
    ratio = TEMPLATE_RATIO["NoW, non-metrical"]
    parts.append(f"<p class=note>The paper's median on NoW is {ratio} of the FLAME template's; NoW's people and photos "
                 "are others, so the ratio is a yardstick, not a row of this table.</p>")  # fmt: skip
    return parts


def _confidence(document: dict[str, Any]) -> list[str]:
    count = "predictions" if "predictions" in document else "answers"  # of an earlier version
    summary = [(key, document[key]) for key in (count, "right", "expected calibration error", "Brier score")]
    against = document["AUROC against good crops"]
    parts = [
        f"<h2>Confidence of {html.escape(', '.join(document['weights']))}</h2>",
        table("held-out rendered faces", ("", ""), summary),
        table("good crops rank above (AUROC)", ("", ""), against.items()),
    ]
    if "real pictures" in document:
        parts.append(table("real pictures: faces above crops of nobody", ("", ""), document["real pictures"].items()))
    header = list(next(iter(document["components"].values())))
    rows = [(name, *row.values()) for name, row in document["components"].items()]
    return [*parts, table("expected errors", ("", *header), rows)]


def _aflw(document: dict[str, Any]) -> list[str]:
    return [
        "<h2>AFLW2000-3D</h2>",
        table("68 points, % of √box", tuple(document["nme"]), [tuple(document["nme"].values())]),
        table("head angles, degrees", ("", *document["angles"]), [
            ("mean absolute error", *document["angles"].values()),
            ("mean errors taken out", *document["centred"].values()),
        ]),
    ]  # fmt: skip


def _video(document: dict[str, Any]) -> list[str]:
    header = list(next(iter(document["ways"].values())))
    rows = [(way, *row.values()) for way, row in document["ways"].items()]
    return [f"<h2>{html.escape(str(document['clip']))}</h2>", table("by way of following", ("", *header), rows)]


def _documents(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    return [path for name in ("summary.json", "open.json") for path in source.rglob(name)]


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(read_text(path, MAX_JSON_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise EvaluationError(f"'{path}' cannot be read as a summary ({' '.join(str(error).split())[:100]})") from error
    if not isinstance(document, dict):
        raise EvaluationError(f"'{path}' is not a summary of an evaluation")
    return document


def _picture(path: Path) -> str:
    if path.stat().st_size > MAX_PICTURE_BYTES:
        return ""
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<p><img alt="{html.escape(path.stem)}" src="data:image/png;base64,{data}"></p>'


def _text(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
