"""The page of case-level results: one static file without scripts that opens without a network."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

import pandas as pd

from nnunet_ext.evaluation.table import whole
from nnunet_ext.outcomes.sentences import GAIN, RULE

NAME = "outcomes.html"
NOTHING = "prove nothing"


@dataclass(frozen=True)
class Part:
    """What is shown of one column in cross-validation or in the external test.

    Attributes:
        title: heading.
        verdicts: for each method its sentences.
        values: one row a method, one column a metric, ready to be read.
        baselines: which of the rows are baselines.
        gains: of methods over baselines, ready to be read.
        folds: one row a method, fold and seed.
        picture: PNG.
        further: headings and tables ready to be read, of pairs and choices.
    """

    title: str
    verdicts: Sequence[Sequence[str]]
    values: pd.DataFrame
    baselines: Sequence[str]
    gains: pd.DataFrame
    folds: pd.DataFrame
    picture: Path
    further: Sequence[tuple[str, pd.DataFrame]] = ()


def write_page(path: Path, title: str, facts: Mapping[str, str], parts: Sequence[Part], runs: pd.DataFrame) -> None:
    """Writes the page, whole or not at all."""
    folder = files(__name__)
    css = files("nnunet_ext.evaluation.page").joinpath("report.css").read_text(encoding="utf-8")
    verdicts = [_verdict(verdict) for part in parts for verdict in part.verdicts]
    text = Template(folder.joinpath("outcomes.html").read_text(encoding="utf-8")).substitute(
        title=escape(title),
        css=css + folder.joinpath("outcomes.css").read_text(encoding="utf-8"),
        facts=escape(" · ".join(f"{name} {value}" for name, value in facts.items())),
        sentences="\n".join(verdicts),
        rules=escape(f"{RULE} {GAIN}"),
        sections="\n".join(_section(place, part) for place, part in enumerate(parts)),
        runs=_table(runs),
    )
    whole(path, text)


def _verdict(lines: Sequence[str]) -> str:
    made = [f'<p class="{"open" if NOTHING in line else "line"}">{escape(line)}</p>' for line in lines]
    return f'<div class="verdict">{"".join(made)}</div>'


def _section(place: int, part: Part) -> str:
    picture = base64.b64encode(part.picture.read_bytes()).decode()
    return "\n".join(
        [
            f'<section aria-labelledby="part{place}">',
            f'<h2 id="part{place}">{escape(part.title)}</h2>',
            '<p class="hint">Means over the folds with intervals of 95 % for other patients; baselines are grey.</p>',
            _table(part.values, part.baselines),
            f'<figure><img alt="{escape(part.title)}: intervals and predictions"',
            f' src="data:image/png;base64,{picture}"></figure>',
            "<h3>Gain over the baselines</h3>",
            _table(part.gains),
            *(f"<h3>{escape(heading)}</h3>\n{_table(table)}" for heading, table in part.further),
            "<details><summary>Each fold and seed</summary>",
            _table(part.folds),
            "</details>",
            "</section>",
        ]
    )


def _table(table: pd.DataFrame, baselines: Sequence[str] = ()) -> str:
    head = "".join(f'<th scope="col">{escape(str(name))}</th>' for name in table.columns)
    rows = []
    for row in table.astype(str).itertuples(index=False):
        kind = ' class="baseline"' if row[0] in baselines else ""
        rows.append(f"<tr{kind}>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>")
    body = "\n".join(rows)
    made = f"<table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>"
    return f'<div class="scroll tall" tabindex="0" role="region" aria-label="Table">{made}</div>'
