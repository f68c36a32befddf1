"""A report of somebody else's runs: it shows what they say, leaks nothing, waits for nothing."""

import csv
import json
import os
import signal
import sys
import time
import tracemalloc

import pytest

from unirep_jax.report.__main__ import main, write_report
from unirep_jax.report.run_files import ReportError, read_config, read_log, read_results
from unirep_jax.report.runs import read_groups

PNG = b"\x89PNG\r\n\x1a\n picture"
SECRET = "the private key"
CONFIG = {
    "experiment": "oscmg",
    "data": {"name": "toy"},
    "method": {"name": "micu"},
    "seed": 0,
    "steps": 100,
}
LOG = {"step": 20, "loss": 1.5, "perplexity/a": 3.0}
RESULT = {
    "experiment": "oscmg",
    "method": "micu",
    "dataset": "toy",
    "split": "split1",
    "source": "a",
    "target": "b",
    "metric": "hos",
    "value": 0.5,
    "num_examples": 10,
    "seed": 0,
    "selection": "honest",
}
FILES = ("config.json", "metrics.jsonl", "results.jsonl", "environment.jsonl", "figures/x.png")


def make_run(folder, *, config=CONFIG, log=(LOG,), results=(RESULT,)):
    (folder / "figures").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in log))
    (folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in results))
    (folder / "environment.jsonl").write_text('{"step": 0, "jax": "0.9"}\n')
    (folder / "figures/x.png").write_bytes(PNG)
    return folder


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "run")


@pytest.fixture
def soon():
    """What waits for ever fails."""
    previous = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it waits"))
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)


def fails(folder, *names):
    """One line that names the file."""
    with pytest.raises(SystemExit) as caught:
        main([str(folder)])
    text = str(caught.value)
    assert text.startswith("error: ") and all(name in text for name in names)
    assert "\n" not in text and len(text) < 2000
    assert not (folder / "report.html").exists()


# -- what stands in the place of a file ------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("way", ["absolute", "relative", "through a folder"])
def test_a_link_out_of_the_folder_is_named_and_not_followed(run, tmp_path, name, way):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "x.png").write_bytes(PNG + SECRET.encode())
    place = run / name
    place.unlink()
    if way == "through a folder":
        (run / "inside").symlink_to(secret)
        place.symlink_to(run / "inside/x.png")
    else:
        outside = secret / "x.png"
        place.symlink_to(outside if way == "absolute" else os.path.relpath(outside, place.parent))
    fails(run, name, "is a link out of its folder")


def test_a_folder_of_pictures_elsewhere_is_not_shown(run, tmp_path):
    (run / "figures").rename(tmp_path / "private")
    (run / "figures").symlink_to(tmp_path / "private")
    fails(run, "figures", "is a link out of its folder")


def test_a_run_elsewhere_is_not_part_of_a_sweep(run, tmp_path):
    sweep = tmp_path / "sweep"
    sweep.mkdir()
    (sweep / "seed0").symlink_to(run)
    with pytest.raises(ReportError, match=r"seed0 is a link out of .*sweep: name where it leads"):
        read_groups([sweep])
    (sweep / "seed0").unlink()
    (run / "link").symlink_to("figures/x.png")
    (run / "figures/y.png").symlink_to("../link")
    assert len(read_groups([run])[0].runs[0].figures) == 2  # inside the folder links are files


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "place", ["a pipe", "a folder", "a link to nothing", "a link to itself", "/dev/zero"]
)
def test_what_is_no_file_is_named_and_not_waited_for(run, name, place, soon):
    path = run / name
    path.unlink()
    if place == "a pipe":
        os.mkfifo(path)
    elif place == "a folder":
        path.mkdir()
    else:
        path.symlink_to({"/dev/zero": place, "a link to itself": path}.get(place, run / "nothing"))
    fails(run, name)


@pytest.mark.parametrize("name", FILES)
def test_gigabytes_of_nothing_are_refused_unread(run, name, soon):
    with (run / name).open("r+b") as file:
        file.truncate(3 << 40)
    tracemalloc.start()
    fails(run, name)
    assert tracemalloc.get_traced_memory()[1] < 64 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("name", ["metrics.jsonl", "results.jsonl"])
def test_a_line_without_end_is_refused(run, name):
    with (run / name).open("r+b") as file:
        file.truncate(1 << 30)
    fails(run, name, "a line of more than")


def test_a_picture_that_is_none_is_refused(run):
    (run / "figures/x.png").write_text(SECRET)
    fails(run, "x.png", "it is no PNG file")


def test_the_page_replaces_a_link_and_does_not_follow_it(run, tmp_path):
    (tmp_path / "precious").write_text("precious")
    for suffix in ("html", "csv", "md", "tex"):
        (run / f"report.{suffix}").symlink_to(tmp_path / "precious")
    main([str(run)])
    assert (tmp_path / "precious").read_text() == "precious"
    assert "<!doctype html>" in (run / "report.html").read_text()


# -- what stands in a file -------------------------------------------------------------------------

NUMBERS = [1e308, -1e308, 10**19, -(10**19), 10**400, float("nan"), float("inf"), 1e-320, True, -1]
STRANGE = [None, [], {}, "text", [1], {"a": 1}, "\ud800", "x" * 20_000, "a\x00b\u202e", *NUMBERS]
DEEP = "[" * 100_000 + "]" * 100_000


def reported(run):
    """The page, or None where one line says what is wrong."""
    try:
        main([str(run)])
    except SystemExit as error:
        assert str(error).startswith("error: ") and str(run) in str(error)
        assert len(str(error)) < 3000
        return None
    text = (run / "report.html").read_bytes().decode()
    for suffix in ("csv", "md", "tex"):
        (run / f"report.{suffix}").read_bytes().decode()
    assert "\x00" not in text and "\u202e" not in text
    return text


@pytest.mark.parametrize("value", STRANGE, ids=lambda v: ascii(v)[:20])
@pytest.mark.parametrize("key", ["experiment", "seed", "steps", "data", "method", "more", "name"])
def test_strange_settings_are_shown_or_named(tmp_path, key, value):
    config = CONFIG | {key: value}
    if key == "name":
        config = CONFIG | {"method": {"name": value}}
    text = reported(make_run(tmp_path / "run", config=config))
    right = {
        "experiment": isinstance(value, str) and len(value) <= 10_000,
        "name": isinstance(value, str) and len(value) <= 10_000,
        "data": False,
        "method": False,
        "seed": type(value) is int and 0 <= value < 2**64,
        "steps": type(value) is int and 0 <= value <= 2**53,
    }
    if key in right:
        assert (text is not None) == right[key]


@pytest.mark.parametrize("value", STRANGE, ids=lambda v: ascii(v)[:20])
@pytest.mark.parametrize("key", RESULT)
def test_strange_results_are_shown_or_named(tmp_path, key, value):
    text = reported(make_run(tmp_path / "run", results=[RESULT, RESULT | {key: value}]))
    if key == "value":
        right = type(value) in (int, float) and not abs(value) > 1e15
    elif key in ("seed", "num_examples"):
        right = type(value) is int and 0 <= value < (2**64 if key == "seed" else 2**53)
    else:
        right = isinstance(value, str) and len(value) <= 1000
    assert (text is not None) == right


@pytest.mark.parametrize("value", STRANGE, ids=lambda v: ascii(v)[:20])
@pytest.mark.parametrize("key", ["step", "loss", "perplexity/a", "\ud800", "x" * 20_000])
def test_strange_lines_of_a_log_do_not_stop_the_report(tmp_path, key, value):
    log = [LOG, LOG | {"step": 40, key: value}, LOG | {"step": 60, "loss": 2.0}]
    run = make_run(tmp_path / "run", log=log)
    text = reported(run)
    assert "finished, 100 steps" in text and "nan" not in text.lower()
    assert [step for step, _ in read_log(run)][-1] == 60
    assert all(abs(v) <= 3.5e38 for _, row in read_log(run) for v in row.values())


@pytest.mark.parametrize("name", FILES[:4])
@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", DEEP.encode(), b'{"a":' * 50_000, b"null", b"[]", b'"', b"\x00"],
    ids=lambda c: ascii(c[:8]),
)
def test_strange_files_are_shown_or_named(tmp_path, name, content):
    run = make_run(tmp_path / "run")
    (run / name).write_bytes(content)
    text = reported(run)
    must_fail = name == "config.json" or (name == "results.jsonl" and content)
    assert (text is None) == bool(must_fail)


def test_names_of_folders_and_pictures_may_be_no_text(tmp_path, capsys):
    name = b"a\xff\x1b[31m<b>=".decode(errors="surrogateescape")
    run = make_run(tmp_path / name)
    (run / "figures/x.png").rename(run / f"figures/{name}.png")
    (run / "figures" / f"broken{name}\n.png").symlink_to(run / "nothing")
    with pytest.raises(SystemExit) as caught:
        main([str(run)])
    assert str(caught.value).isprintable() and "is a link to nothing" in str(caught.value)
    (run / "figures" / f"broken{name}\n.png").unlink()
    main([str(run)])
    page = (run / "report.html").read_text("utf-8")
    assert "<b>" not in page and "\x1b" not in page
    capsys.readouterr().out.encode("utf-8")


def test_too_many_quantities_and_settings_are_named(tmp_path):
    many = {f"q{i}": 1.0 for i in range(501)}
    fails(make_run(tmp_path / "log", log=[LOG, {"step": 40} | many]), "more than 500 quantities")
    settings = CONFIG | {f"s{i}": i for i in range(2001)}
    fails(make_run(tmp_path / "config", config=settings), "config.json", "more than 2000")
    nested = {"a": 1}
    for _ in range(20):
        nested = {"a": nested}
    fails(make_run(tmp_path / "deep", config=CONFIG | nested), "config.json", "levels")


# -- much of it ------------------------------------------------------------------------------------


def timed(action):
    start = time.monotonic()
    action()
    return time.monotonic() - start


def test_the_time_of_a_report_is_linear_in_methods(tmp_path):
    """Four times as many take four times as long and not sixteen."""

    def sweep(count):
        folder = tmp_path / str(count)
        for i in range(count):
            config = CONFIG | {"method": {"name": f"m{i}"}}
            make_run(folder / f"m{i}", config=config, results=[RESULT | {"method": f"m{i}"}])
        return timed(lambda: write_report([folder], folder / "report.html"))

    sweep(20)
    few, many = sweep(60), sweep(240)
    assert many < 8 * few + 0.5
    page = (tmp_path / "240/report.html").read_text()
    assert "Charts show the first 32 of 240 configurations." in page
    with (tmp_path / "240/report.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if "paired" not in row["table"]]
    assert len(rows) == 240


def test_the_memory_of_a_long_log_is_that_of_a_short_one(tmp_path):
    run = make_run(tmp_path / "run")
    with (run / "metrics.jsonl").open("w") as file:
        for step in range(1, 60_001):
            file.write(f'{{"step": {step}, "loss": {1 / step}, "a": 1.0, "b": 2.0}}\n')
    tracemalloc.start()
    write_report([run], run / "report.html")
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()
    assert (run / "report.html").stat().st_size < 400_000


@pytest.mark.slow
def test_thousands_of_methods_and_a_million_lines_are_a_report(tmp_path):
    folder = tmp_path / "sweep"
    for i in range(4000):
        config = CONFIG | {"method": {"name": f"m{i}"}}
        results = [RESULT | {"method": f"m{i}", "source": f"s{j}"} for j in range(100)]
        make_run(folder / f"m{i}", config=config, results=results)
    with (folder / "m0/metrics.jsonl").open("w") as file:
        for step in range(1, 1_000_001):
            file.write(f'{{"step": {step}, "loss": {1 / step}}}\n')
    seconds = timed(lambda: write_report([folder], folder / "report.html"))
    print(f"4,000 methods, 400,000 results, 10^6 lines: {seconds:.0f} s", file=sys.stderr)
    assert seconds < 300


def test_pictures_beyond_what_a_browser_bears_are_left_out_and_named(tmp_path, monkeypatch):
    monkeypatch.setattr("unirep_jax.report.page.PICTURES_BYTES", 2 * len(PNG))
    run = make_run(tmp_path / "run")
    for name in ("y", "z"):
        (run / f"figures/{name}.png").write_bytes(PNG)
    text = reported(run)
    assert text.count("<img") == 2 and text.count("left out of this page") == 1
    assert str(run / "figures/z.png") in text


def test_one_run_is_read_as_it_was_written(run):
    assert read_config(run)["method.name"] == "micu"
    assert list(read_log(run)) == [(20, {"loss": 1.5, "perplexity/a": 3.0})]
    assert read_results(run)[0].value == 0.5
