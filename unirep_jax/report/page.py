"""One HTML page about one or several groups of runs, with everything in it: no network, no script.

Whatever comes from a file is escaped, and the page forbids the browser to load or run anything.
"""

import base64
import hashlib
import itertools
import json
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

from unirep_jax.data.safe_text import safe_text
from unirep_jax.evaluation.intervals import INTERVAL
from unirep_jax.evaluation.tables import unique
from unirep_jax.report.charts import curve, line_chart
from unirep_jax.report.run_files import read_figure
from unirep_jax.report.runs import Group, Run
from unirep_jax.report.series import Point
from unirep_jax.report.tabulate import Table
from unirep_jax.report.topics import TOPICS, caption, figures_by_topic, logged_by_topic
from unirep_jax.tasks import TASKS

EXPERIMENTS = {name: task.vocabulary.title for name, task in TASKS.items()}
LONG_TABLE = 24  # lines; a longer one is folded
MOST_CURVES = 32  # configurations in a chart, beyond which nobody tells lines apart
PICTURES_BYTES = 1 << 26  # of all pictures of a page


def page(groups: Sequence[Group], tables: Sequence[Table]) -> str:
    """The whole page.

    Args:
      groups: at least one; curves and pictures are theirs.
      tables: of the same groups.

    Raises:
      ReportError: a log or a picture is not what a run writes.
    """
    sections = {
        "Runs": _runs(groups),
        "Results": _results(tables),
        "Configuration": _configuration(groups),
        **_topics(groups),
    }
    sections = {title: body for title, body in sections.items() if body}
    links = "".join(f'<a href="#{_anchor(title)}">{title}</a>' for title in sections)
    body = "".join(
        f'<section id="{_anchor(title)}"><h2>{title}</h2>{content}</section>'
        for title, content in sections.items()
    )
    title = escape(_title(groups))
    style = files("unirep_jax.report").joinpath("page.css").read_text(encoding="utf-8")
    style = f"\n{style}"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(style)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{title}</title>\n<style>{style}</style></head>\n<body>"
        f"<header><h1>{title}</h1>{_facts(groups)}<nav>{links}</nav></header>\n<main>{body}</main>\n"
        "<footer>Written by unirep_jax.report from the folders named above.</footer>"
        "</body></html>\n"
    )


def _policy(style: str) -> str:
    """What a browser may do: show pictures that are in the page and apply this one style sheet."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _title(groups: Sequence[Group]) -> str:
    methods, data = (_settings(groups, key) for key in ("method.name", "data.name"))
    what = f"{len(groups)} configurations" if len(groups) > 1 else methods[0]
    return f"{what} on {' and '.join(data)}"


def _settings(groups: Iterable[Group], key: str) -> list[str]:
    return unique(str(group.settings[key]) for group in groups)


def _facts(groups: Sequence[Group]) -> str:
    runs = [run for group in groups for run in group.runs]
    experiments = [EXPERIMENTS.get(name, name) for name in _settings(groups, "experiment")]
    finished = sum(run.finished for run in runs)
    facts = {
        "experiment": ", ".join(experiments),
        "methods": ", ".join(_settings(groups, "method.name")),
        "runs": f"{len(runs)}, {'all' if finished == len(runs) else finished} finished",
    }
    starts = [line for run in runs for line in run.environment]
    for name in unique(name for line in starts for name in line if name != "step"):
        facts[name] = ", ".join(unique(str(line[name]) for line in starts if name in line))
    items = "".join(
        f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in facts.items()
    )
    return f"<dl>{items}</dl>"


def _runs(groups: Sequence[Group]) -> str:
    rows = [
        [
            group.title,
            str(run.config["method.name"]),
            str(run.seed),
            _state(run),
            safe_text(str(run.folder)),
        ]
        for group in groups
        for run in group.runs
    ]
    table = _html_table(["run", "method", "seed", "state", "folder"], rows)
    return _folded(table, f"{len(rows)} runs", len(rows))


def _state(run: Run) -> str:
    steps = run.config["steps"]
    if run.finished:
        return f"finished, {steps} steps"
    return f"unfinished, step {run.last_step} of {steps}"


def _results(tables: Sequence[Table]) -> str:
    if not tables:
        return "<p>No run is finished yet: there is nothing to tabulate.</p>"
    parts = [f'<p class="note">{escape(INTERVAL)} Percent but for ranks.</p>']
    for table in tables:
        header, *rows = table.texts()
        note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
        shown = _html_table(header, rows, names=table.names)
        shown = _folded(shown, f"{len(rows)} lines", len(rows))
        parts.append(f"<h3>{escape(table.title)}</h3>{note}{shown}")
    return "".join(parts)


def _configuration(groups: Sequence[Group]) -> str:
    keys = unique(key for group in groups for key in group.settings)
    text = lambda group, key: (
        json.dumps(group.settings[key], ensure_ascii=False) if key in group.settings else "–"
    )
    values = {key: [text(group, key) for group in groups] for key in keys}
    different = [[key, *v] for key, v in values.items() if len(set(v)) > 1]
    alike = [[key, v[0]] for key, v in values.items() if len(set(v)) == 1]
    parts = []
    if len(groups) > 1:
        parts.append("<h3>What differs</h3>")
        table = _html_table(["setting", *(group.title for group in groups)], different)
        parts.append(_folded(table, f"{len(different)} settings", len(different)))
    summary = "all settings" if len(groups) == 1 else "settings that all have in common"
    parts.append(_details(summary, _html_table(["setting", "value"], alike)))
    return "".join(parts)


def _topics(groups: Sequence[Group]) -> dict[str, str]:
    """Sections of curves and pictures, by title."""
    drawn_groups = groups[:MOST_CURVES]
    series = [[run.series() for run in group.runs] for group in drawn_groups]
    names = unique(name for runs in series for logged in runs for name in logged)
    logged = logged_by_topic(names)
    drawn = figures_by_topic(unique(name for g in groups for name in _pictured(g).figures))
    about = {topic.title: topic.about for topic in TOPICS}
    about["Training"] = (
        "Means between two lines of the log. "
        + (
            "Lines are means over seeds, bands reach from the least to the greatest of them. "
            if any(len(group.runs) > 1 for group in groups)
            else ""
        )
        + (
            f"Charts show the first {MOST_CURVES} of {len(groups)} configurations. "
            if len(groups) > MOST_CURVES
            else ""
        )
        + "Point at a step to read its values."
    )
    pictures = _Pictures()
    sections = {}
    for title in ("Training", *(topic.title for topic in TOPICS), "Other pictures"):
        charts = _charts(drawn_groups, series, logged.get(title, []))
        shown = [
            pictures.show(group, name)
            for name in drawn.get(title, [])
            for group in groups
            if name in _pictured(group).figures
        ]
        if charts or shown:
            note = f'<p class="note">{escape(about[title])}</p>' if title in about else ""
            grids = f'<div class="charts">{charts}</div>' if charts else ""
            grids += f'<div class="pictures">{"".join(shown)}</div>' if shown else ""
            sections[title] = note + grids
    return sections


def _charts(
    groups: Sequence[Group],
    series: Sequence[Sequence[dict[str, list[Point]]]],
    names: Sequence[str],
) -> str:
    """Of one group a panel per quantity, with its parts as lines; of several a line per group."""
    panels: dict[str, list] = {}
    for name in names:
        base, _, part = name.partition("/")
        for place, (group, runs) in enumerate(zip(groups, series, strict=True)):
            title, line = (name, group.title) if len(groups) > 1 else (base, part or base)
            style = place if len(groups) > 1 else len(panels.get(title, []))
            found = curve(line, style, [logged[name] for logged in runs if name in logged])
            if found:
                panels.setdefault(title, []).append(found)
    return "".join(line_chart(title, curves) for title, curves in panels.items())


def _pictured(group: Group) -> Run:
    """The run whose pictures stand for the group: the first that has any."""
    return next((run for run in group.runs if run.figures), group.runs[0])


class _Pictures:
    """Pictures in the page, until they are too many bytes for a browser."""

    def __init__(self) -> None:
        self._bytes = 0

    def show(self, group: Group, name: str) -> str:
        run = _pictured(group)
        text = escape(f"{group.title}, seed {run.seed}: {caption(name)}", quote=True)
        path = run.figures[name]
        size = path.stat().st_size
        if self._bytes + size > PICTURES_BYTES:
            place = escape(safe_text(str(path)))
            return (
                f'<figure class="picture"><figcaption>{text}: left out of this page, which has '
                f"{PICTURES_BYTES >> 20} MiB of pictures; see {place}.</figcaption></figure>"
            )
        content = read_figure(path)
        self._bytes += len(content)
        data = base64.b64encode(content).decode()
        return (
            f'<figure class="picture"><div tabindex="0"><img src="data:image/png;base64,{data}" '
            f'alt="{text}"></div><figcaption>{text}.</figcaption></figure>'
        )


def _html_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, names: int | None = None
) -> str:
    """A table that scrolls inside its own box where it is wider than the page.

    Equal first cells of lines that follow each other are one cell.

    Args:
      header: of the columns.
      rows: as many cells each.
      names: columns before those of numbers; without it there are no numbers.
    """
    kind = lambda column: "" if names is None or column < names else ' class="number"'
    head = "".join(f'<th scope="col"{kind(i)}>{escape(c)}</th>' for i, c in enumerate(header))
    body = []
    for first, lines in itertools.groupby(rows, key=lambda row: row[0]):
        lines = list(lines)
        span = f' rowspan="{len(lines)}"' if len(lines) > 1 else ""
        cells = [
            "".join(f"<td{kind(i)}>{escape(c)}</td>" for i, c in enumerate(row[1:], 1))
            for row in lines
        ]
        body.append(f'<tr class="first"><th scope="row"{span}>{escape(first)}</th>')
        body.append("</tr><tr>".join(cells) + "</tr>")
    return (
        f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _folded(table: str, summary: str, count: int) -> str:
    return table if count <= LONG_TABLE else _details(summary, table)


def _details(summary: str, content: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")
