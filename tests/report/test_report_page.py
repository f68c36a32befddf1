"""The page of runs: self-contained, escaped, right in its numbers; its tables in other formats."""

import base64
import csv
import hashlib
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import scipy.stats

from unirep_jax.data.safe_text import safe_text
from unirep_jax.evaluation.intervals import estimate
from unirep_jax.evaluation.measurements import Measurement, write_measurements
from unirep_jax.report.__main__ import main
from unirep_jax.report.charts import Curve, curve, line_chart, spread_apart, ticks
from unirep_jax.report.differences import tabulate_differences
from unirep_jax.report.page import page
from unirep_jax.report.runs import ReportError, read_groups
from unirep_jax.report.series import Point, read_series
from unirep_jax.report.table_files import as_csv, as_latex, as_markdown
from unirep_jax.report.tabulate import tabulate
from unirep_jax.report.text import csv_cell, latex_escaped, markdown_escaped
from unirep_jax.report.topics import caption, figures_by_topic, logged_by_topic

PNG = b"\x89PNG\r\n\x1a\n not really"
UNTRUSTED = "<script>alert('&')</script>"


def make_run(
    folder,
    *,
    seed=0,
    values=(0.5,),
    method="micu",
    width=64,
    log=None,
    target="b",
    figures=(),
    finished=True,
    experiment="oscmg",
    chance=0.1,
):
    """A folder as a run leaves it; `values` are HOS in one direction each."""
    folder.mkdir(parents=True)
    config = {
        "experiment": experiment,
        "data": {"name": "toy", "path": ""},
        "seed": seed,
        "method": {"name": method, "width": width},
        "steps": 100,
    }
    (folder / "config.json").write_text(json.dumps(config))
    if log is None:
        log = [
            {"step": s, "loss": 2.0 / s, "perplexity/a": 3.0, "codes_used": 0.5} for s in (10, 20)
        ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in log))
    (folder / "figures").mkdir()
    for name in figures:
        (folder / "figures" / f"{name}.png").write_bytes(PNG)
    rows = [
        Measurement(
            experiment, name, "toy", "split1", f"a{i}", target, "hos", value, 10, seed, "honest"
        )
        for i, measured in enumerate(values)
        for name, value in ((method, measured), ("chance", chance))
    ]
    if finished:
        write_measurements(folder / "results.jsonl", rows)
    return folder


def report(*folders):
    groups = read_groups(folders)
    return page(groups, tabulate(groups))


class Elements(HTMLParser):
    """Every element with its attributes, and what is left open at the end."""

    VOID = frozenset({"meta", "img", "path", "rect", "circle"})

    def __init__(self, text):
        super().__init__()
        self.found, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_needs_nothing_from_outside_and_closes_what_it_opens(tmp_path):
    make_run(tmp_path / "MICU" / "seed0", figures=("codebook_usage", "training_curves"))
    make_run(tmp_path / "wide" / "seed0", width=128)
    text = report(tmp_path)
    elements = Elements(text)
    assert elements.open == []
    assert {"script", "link", "iframe", "object"}.isdisjoint(tag for tag, _ in elements.found)
    for _, attributes in elements.found:
        for name in ("src", "href", "srcset"):
            assert re.match(r"data:image/png;base64,|#", attributes.get(name, "#"))
    assert not re.search(r"url\(|@import|https?:", text)


def test_the_page_forbids_the_browser_all_but_its_own_style_and_pictures(tmp_path):
    text = report(make_run(tmp_path / "one", figures=("codebook_usage",)))
    (policy,) = (
        attributes["content"]
        for tag, attributes in Elements(text).found
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.split("; ") == [
        "default-src 'none'",
        "img-src data:",
        f"style-src 'sha256-{digest}'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    assert text.index("Content-Security-Policy") < text.index("<style>")
    assert not any("style" in attributes for _, attributes in Elements(text).found)


def test_every_link_of_the_page_has_its_section(tmp_path):
    elements = Elements(report(make_run(tmp_path / "one", figures=("experts",)))).found
    ids = {attributes["id"] for tag, attributes in elements if tag == "section"}
    links = {attributes["href"][1:] for tag, attributes in elements if tag == "a"}
    assert ids == links >= {"runs", "results", "configuration", "training", "expert-load"}


def test_what_files_say_is_escaped(tmp_path):
    log = [{"step": 1, "loss": 1.0, f"{UNTRUSTED}/{UNTRUSTED}": 1.0}]
    make_run(tmp_path / "a", method=UNTRUSTED, target=UNTRUSTED, log=log, experiment=UNTRUSTED)
    make_run(tmp_path / "b", width=UNTRUSTED, log=log)
    for text in (report(tmp_path / "a"), report(tmp_path)):
        assert "<script" not in text and "&lt;script&gt;" in text


def test_pictures_are_inside_with_a_text_for_who_cannot_see_them(tmp_path):
    text = report(make_run(tmp_path / "one", figures=("transport_plans", "training_curves")))
    pictures = [attributes for tag, attributes in Elements(text).found if tag == "img"]
    assert len(pictures) == 1  # the curves are drawn anew
    assert "seed 0: Transport plans" in pictures[0]["alt"]


def test_an_unknown_picture_is_shown_too(tmp_path):
    assert figures_by_topic(["something_new"]) == {"Other pictures": ["something_new"]}
    assert 'id="other-pictures"' in report(make_run(tmp_path / "one", figures=("something_new",)))


def test_pictures_of_several_sources_go_to_their_topic_and_name_the_source():
    topics = figures_by_topic(["curves_audio+text", "curves", "codebook_usage"])
    assert topics["Open-set curves"] == ["curves_audio+text", "curves"]
    assert [*figures_by_topic(["scores", "new", "curves"]).values()] == [
        ["curves", "scores"],
        ["new"],
    ]
    assert caption("curves_audio+text").endswith("(audio+text)")


def test_logged_names_fall_into_topics_by_what_else_is_logged():
    micu = logged_by_topic(["agreement", "codes_used", "fine", "loss", "perplexity/a"])
    assert micu["Training"] == ["loss", "fine"]
    assert micu["Codebook health"] == ["agreement", "codes_used", "perplexity/a"]
    cox = logged_by_topic(["agreement", "loss", "mmd/a"])
    assert cox == {"Training": ["loss"], "Connection": ["agreement", "mmd/a"]}


@pytest.mark.parametrize(
    ("steps", "values"),
    [
        ((10, 20), (1.0, 2.0)),
        ((50, 1_000_000_000), (-1.2345e-7, -1.2344e-7)),
        ((1, 123_456_789), (0.000123, 0.000124)),
        ((10, 20), (-123456.0, 98765.0)),
    ],
)
def test_labels_of_ticks_are_within_the_picture(steps, values):
    chart = line_chart("loss", [Curve("loss", 0, steps, values, values, values)])
    found = re.findall(r'<text x="([\d.]+)" y="[\d.]+" class="(end|middle)">([^<]+)<', chart)
    assert len(found) > 5
    for x, anchor, text in found:
        width = 6.4 * len(text)
        start = float(x) - (width if anchor == "end" else width / 2)
        assert start >= -0.1 and start + width <= 400.1, (text, start)


def test_configurations_are_compared_seed_by_seed(tmp_path):
    folders = [
        make_run(tmp_path / f"{width}-{seed}", seed=seed, width=width, values=(value + lead,))
        for width, lead in ((64, 0.0), (128, 0.02))
        for seed, value in enumerate((0.3, 0.5, 0.7))
    ]
    groups = read_groups(folders)
    (table,) = tabulate_differences(groups)
    assert table.title == "toy, open set, split1, honest: paired differences"
    first, second = table.lines
    assert [str(cell) for cell in first.cells] == ["50.0 ± 49.7", "None", "None"]
    assert str(second.cells[1]) == "+2.0 ± 0.0" and second.run == groups[1].title
    text = as_markdown([table])
    assert f"minus {groups[0].title}" in text and "+2.0 ± 0.0" in text
    assert tabulate_differences(read_groups(folders[:1])) == []


@pytest.mark.parametrize("count", [2, 3, 5, 40])
def test_the_interval_is_that_of_scipy(rng, count):
    values = rng.normal(size=count)
    found = estimate(list(values))
    low, high = scipy.stats.t.interval(0.95, count - 1, values.mean(), scipy.stats.sem(values))
    np.testing.assert_allclose(
        [found.mean - found.half_width, found.mean + found.half_width], [low, high], rtol=1e-9
    )


def test_one_seed_has_no_interval_and_none_no_number():
    assert str(estimate([3.14159])) == "3.14" and estimate([]) is None


def test_directions_are_averaged_within_a_seed_before_the_interval(tmp_path):
    for seed, values in enumerate(((0.2, 0.6), (0.5, 0.5))):
        make_run(tmp_path / "MICU" / f"seed{seed}", seed=seed, values=values)
    (table,) = tabulate(read_groups([tmp_path]))
    cells = {(line.place, line.run): line.cells[0] for line in table.lines}
    assert table.columns[0] == ("HOS", "%")
    assert cells["mean of all", "MICU"].seeds == 2
    np.testing.assert_allclose(cells["mean of all", "MICU"].mean, 45)
    half_width = scipy.stats.t.ppf(0.975, 1) * np.std((40, 50), ddof=1) / np.sqrt(2)
    np.testing.assert_allclose(cells["mean of all", "MICU"].half_width, half_width)


def test_rivals_of_several_runs_are_listed_once_and_last(tmp_path):
    make_run(tmp_path / "A" / "seed0")
    make_run(tmp_path / "B" / "seed0", width=1, chance=0.9)
    (table,) = tabulate(read_groups([tmp_path]))
    assert [line.run for line in table.lines] == ["A", "B", "chance"]
    assert table.lines[2].cells[0].mean == 10  # of the first that has it


def test_only_what_differs_is_in_the_table_of_differences(tmp_path):
    make_run(tmp_path / "A" / "seed0")
    make_run(tmp_path / "B" / "seed0", width=1)
    text = report(tmp_path)
    differing, alike = text.split("What differs")[1].split("settings that all have in common")
    assert "method.width" in differing and "method.name" not in differing
    assert "method.name" in alike


def test_runs_that_differ_in_the_seed_are_one_group_in_its_order(tmp_path):
    for seed in (10, 2):
        make_run(tmp_path / "MICU" / f"seed{seed}", seed=seed)
    (group,) = read_groups([tmp_path])
    assert group.title == "MICU" and [run.seed for run in group.runs] == [2, 10]


def test_seeds_of_which_one_was_tracked_elsewhere_are_one_group(tmp_path):
    for seed, to in ((0, ""), (1, "trackio")):
        folder = make_run(tmp_path / "MICU" / f"seed{seed}", seed=seed)
        settings = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(settings | {"log": {"to": to}}))
    (group,) = read_groups([tmp_path])
    assert [run.seed for run in group.runs] == [0, 1]


def test_groups_of_equal_names_are_told_apart_by_their_sweeps(tmp_path):
    make_run(tmp_path / "first" / "MICU" / "seed0")
    make_run(tmp_path / "second" / "MICU" / "seed0", width=1)
    titles = [group.title for group in read_groups([tmp_path / "first", tmp_path / "second"])]
    assert titles == ["first/MICU", "second/MICU"]


def test_a_folder_given_twice_is_read_once_and_a_copy_is_refused(tmp_path):
    run = make_run(tmp_path / "one")
    assert len(read_groups([run, run, tmp_path])[0].runs) == 1
    make_run(tmp_path / "two")
    with pytest.raises(ReportError, match=r"one and .*two are the same run"):
        read_groups([tmp_path])


def test_the_page_says_with_what_the_runs_were_started(tmp_path):
    run = make_run(tmp_path / "one")
    lines = [{"step": 0, "jax": "0.9", "devices": "1 × cpu"}, {"step": 5, "jax": "0.10"}]
    (run / "environment.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    text = report(run)
    assert "<dt>jax</dt><dd>0.9, 0.10</dd>" in text and "<dd>1 × cpu</dd>" in text


def test_an_unfinished_run_is_shown_as_such(tmp_path):
    text = report(make_run(tmp_path / "one", finished=False))
    assert "unfinished, step 20 of 100" in text and "No run is finished yet" in text
    (tmp_path / "new").mkdir()
    (tmp_path / "one" / "config.json").rename(tmp_path / "new" / "config.json")
    assert "unfinished, step 0 of 100" in report(tmp_path / "new")


def test_bad_folders_are_refused_by_name(tmp_path):
    with pytest.raises(ReportError, match="nowhere is not a folder"):
        read_groups([tmp_path / "nowhere"])
    with pytest.raises(ReportError, match=r"holds no run: config\.json is neither"):
        read_groups([tmp_path])
    run = make_run(tmp_path / "one")
    (run / "results.jsonl").write_text('{"value": 1}\n')
    with pytest.raises(ReportError, match=r"results\.jsonl"):
        read_groups([run])
    (run / "config.json").write_text('{"seed": 1}')
    with pytest.raises(ReportError, match=r"config\.json is not what a run writes.*experiment"):
        read_groups([run])


def test_csv_gives_back_every_number(tmp_path):
    for seed, value in enumerate((0.123456789, 0.3)):
        make_run(tmp_path / "a, b" / f"seed{seed}", seed=seed, values=(value,))
    tables = tabulate(read_groups([tmp_path]))
    rows = list(csv.DictReader(as_csv(tables).splitlines()))
    cells = [cell for table in tables for line in table.lines for cell in line.cells]
    assert [(float(r["mean"]), float(r["half_width"]), int(r["seeds"])) for r in rows] == cells
    assert rows[0]["run"] == "a, b" and rows[0]["place"] == "a0 → b"


def test_latex_escapes_all_that_it_reads_as_commands(tmp_path):
    escaped = latex_escaped(r"50% & a_b #1 {x} $y$ \z ~ [*]")
    assert escaped == (r"50\% \& a\_b \#1 \{x\} \$y\$ \textbackslash{}z \textasciitilde{} {[}{*}]")
    make_run(tmp_path / "w_o 5% & more")
    text = as_latex(tabulate(read_groups([tmp_path])))
    line = next(line for line in text.splitlines() if line.startswith("w\\_o"))
    assert line == r"w\_o 5\% \& more & 50.00 \\"
    assert r"\begin{tabular}{lr}" in text and r"\toprule" in text


def test_markdown_keeps_its_columns_whatever_a_run_is_called(tmp_path):
    make_run(tmp_path / "a|b")
    lines = as_markdown(tabulate(read_groups([tmp_path]))).splitlines()
    assert next(line for line in lines if "b " in line and "50.00" in line).startswith(r"| a\|b ")


def test_markdown_shows_html_and_links_as_text(tmp_path):
    make_run(tmp_path / "[click](javascript:alert(1))", target=UNTRUSTED, values=(0.5, 0.6))
    text = as_markdown(tabulate(read_groups([tmp_path])))
    assert "<" not in text and "&lt;script&gt;" in text
    assert r"\[click\](" in text and not re.search(r"(?<!\\)[\[\]]", text)
    assert markdown_escaped("`<b>` *a* | &\n#") == r"\`&lt;b&gt;\` \*a\* \| &amp; #"


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", " =1+1", "\t=1+1", "＝1+1"])
def test_a_spreadsheet_computes_nothing_that_a_run_is_called(tmp_path, name):
    make_run(tmp_path / name, target=name, values=(0.5, 0.6))
    for row in csv.reader(as_csv(tabulate(read_groups([tmp_path]))).splitlines()):
        assert not any(re.match(r"\s*[=+\-@＝]", cell) for cell in row[:5])
    assert csv_cell(name) == f"'{name}" and csv_cell("a=b") == "a=b"


def test_text_is_on_one_line_and_can_be_encoded():
    assert safe_text("a\tb\nc\u2028d\xa0e") == "a b c d e"
    assert safe_text("\x00\x1b[31m\u202e\ud800\ufeff") == "��[31m���"
    assert safe_text("größe 猫 🎵 می\u200cخواهم") == "größe 猫 🎵 می\u200cخواهم"


def test_long_logs_are_thinned_to_means_that_keep_the_extremes():
    log = ((s, {"loss": float(s)}) for s in range(1, 100_001))
    series = read_series(log)["loss"]
    assert 1024 <= len(series) <= 2048 and series[-1].step == 100_000
    assert series[0] == (64, np.mean(range(1, 65)), 1.0, 64.0)  # 64 lines each: 100,000 / 1,024
    found = curve("a", 0, [series])
    assert len(found.steps) <= 160 and found.steps[-1] == 100_000
    assert found.low[0] == 1.0 and found.high[-1] == 100_000.0
    np.testing.assert_allclose(found.mean[0], np.mean(range(1, found.steps[0] + 1)))
    assert len(line_chart("loss", [found])) < 60_000


def test_short_logs_are_kept_line_by_line():
    log = [(s, {"loss": float(s), **({"late": 1.0} if s > 5 else {})}) for s in range(1, 11)]
    series = read_series(log)
    assert series["loss"] == [(s, s, s, s) for s in range(1, 11)]
    assert [point.step for point in series["late"]] == [6, 7, 8, 9, 10]


def test_a_curve_is_the_mean_of_seeds_between_their_extremes():
    seeds = [[Point(1, 1.0, 1.0, 1.0), Point(2, 5.0, 4.0, 6.0)], [Point(1, 3.0, 3.0, 3.0)]]
    assert curve("a", 0, seeds) == ("a", 0, [1, 2], [2.0, 5.0], [1.0, 4.0], [3.0, 6.0])
    assert curve("a", 0, []) is None and curve("a", 0, [[]]) is None


def test_lines_differ_in_dash_and_carry_their_names():
    curves = [Curve(f"line {i}", i, [1, 2], [i, i], [i, i], [i, i]) for i in range(9)]
    text = line_chart("loss", curves)
    drawn = re.findall(r'class="line (c\d)" stroke-dasharray="([^"]*)"', text)[:9]
    assert len(set(drawn)) == 9
    assert all(f">line {i}</text>" in text for i in range(9))


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3, 17), (1e-7, 3e-7), (0, 40_000), (99, 101)])
def test_ticks_are_a_few_round_numbers_inside(low, high):
    found = ticks(low, high)
    assert 3 <= len(found) <= 8 and low - 1e-12 <= found[0] and found[-1] <= high * (1 + 1e-9)


def test_a_constant_line_has_a_chart():
    assert "NaN" not in line_chart("x", [Curve("x", 0, [5], [0.0], [0.0], [0.0])])


def test_labels_are_apart_and_stay_inside_where_they_fit():
    places = spread_apart([0, 1, 1, 99, 100], 10, 0, 100)
    assert np.diff(places).min() >= 10 and places[0] >= 0 and places[-1] <= 100


def test_the_command_line_writes_the_page_and_its_tables(tmp_path, capsys, monkeypatch):
    make_run(tmp_path / "A" / "seed0")
    make_run(tmp_path / "B" / "seed0", width=1)
    main([str(tmp_path)])
    suffixes = ("html", "csv", "md", "tex")
    assert all((tmp_path / f"report.{suffix}").stat().st_size for suffix in suffixes)
    assert capsys.readouterr().out.split()[0] == str(tmp_path / "report.html")
    monkeypatch.chdir(tmp_path)
    main(["A/seed0", "B/seed0", "--out", "elsewhere/pair.html"])
    assert (tmp_path / "elsewhere" / "pair.tex").exists()
    with pytest.raises(SystemExit, match=r"error: .*nowhere is not a folder"):
        main(["nowhere"])
