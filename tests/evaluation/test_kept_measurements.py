"""Parts of an evaluation that are finished are not measured again."""

import pytest

from unirep_jax.evaluation.kept import KeptMeasurements
from unirep_jax.evaluation.measurements import Measurement

OF = {"training": {"seed": 0}, "evaluation": {"folds": 3}}


def made(value: float) -> Measurement:
    return Measurement("e", "m", "d", "all", "a", "b", "accuracy", value, 10, 0, "none")


def refuse():
    raise AssertionError("measured again")


@pytest.fixture
def path(tmp_path):
    """Of parts of an evaluation that was ended before its third."""
    kept = KeptMeasurements(tmp_path / "kept.json", OF)
    assert kept.once("trained", lambda: iter([made(1 / 3), made(0.1)])) == [made(1 / 3), made(0.1)]
    assert kept.once("trained", refuse) == [made(1 / 3), made(0.1)]
    kept.once("untrained", lambda: [])
    with pytest.raises(KeyboardInterrupt):
        kept.once("chance", interrupt)
    return tmp_path / "kept.json"


def interrupt():
    raise KeyboardInterrupt


def test_what_was_measured_is_there_again_exactly_and_the_rest_is_measured(path):
    kept = KeptMeasurements(path, OF)
    assert kept.once("trained", refuse) == [made(1 / 3), made(0.1)]
    assert kept.once("untrained", refuse) == []
    assert kept.once("chance", lambda: [made(0.5)]) == [made(0.5)]
    kept.remove()
    assert not path.exists() and not [*path.parent.iterdir()]
    kept.remove()


@pytest.mark.parametrize("of", [{}, OF | {"evaluation": {"folds": 4}}])
def test_what_is_of_other_facts_is_measured_again(path, of):
    assert KeptMeasurements(path, of).once("trained", lambda: [made(0.7)]) == [made(0.7)]


@pytest.mark.parametrize("damage", ["empty", "cut", "a digit", "text", "a folder"])
def test_what_is_damaged_is_measured_again(path, damage):
    content = path.read_text()
    spoilt = {
        "empty": "",
        "cut": content[:-5],
        "a digit": content.replace("0.1", "0.2"),
        "text": "[[[",
    }
    path.unlink()
    if damage == "a folder":
        path.mkdir()
    else:
        path.write_text(spoilt[damage])
    kept = KeptMeasurements(path, OF)
    with pytest.raises(AssertionError, match="measured again"):
        kept.once("trained", refuse)


def test_every_part_says_that_it_is_evaluated_and_for_how_long(path, capsys):
    kept = KeptMeasurements(path, OF)
    kept.once("trained", refuse)  # kept from before: nothing to say
    kept.once("chance", lambda: [made(0.5)])
    assert capsys.readouterr() == ("", "evaluated chance in 0 s\n")
