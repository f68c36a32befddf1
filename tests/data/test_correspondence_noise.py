"""Wrong pairs are as many, as near and as reproducible as was asked, and their truth is kept."""

import numpy as np
import pytest

from unirep_jax.data import FeatureSet
from unirep_jax.data.correspondence_noise import blocks, mispair


@pytest.fixture
def numbered():
    """Forty examples whose features are their own numbers, in three modalities."""
    number = np.arange(40, dtype=np.float32)[:, None]
    features = {"a": number, "b": number + 100, "c": number + 200}
    return FeatureSet.from_arrays("numbered", features, np.full(40, -1), np.arange(40) < 33)


def spoilt(data, kind, share, seed=0, block=8):
    rows = np.flatnonzero(data.train)
    return mispair(data, rows, kind=kind, share=share, block=block, seed=seed)


@pytest.mark.parametrize("kind", ["batch", "set"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9, 1.0])
def test_the_source_says_whose_features_stand_in_every_row(numbered, kind, share):
    found = spoilt(numbered, kind, share)
    for place, m in enumerate("abc"):
        np.testing.assert_array_equal(found.data.features[m][:, 0], found.source[m] + 100 * place)
        assert sorted(found.source[m]) == list(range(40)), "a permutation: nothing is lost"
    assert (found.source["a"] == np.arange(40)).all(), "the first modality stays"
    assert (found.source["b"][33:] == np.arange(33, 40)).all(), "so does the test part"
    assert not share or (found.source["b"] != found.source["c"]).any(), "each on its own"


def test_as_many_rows_change_places_as_were_asked(numbered):
    moved = lambda kind, share: {
        m: int((s != np.arange(40)).sum()) for m, s in spoilt(numbered, kind, share).source.items()
    }
    assert moved("set", 0.5) == {"a": 0, "b": 16, "c": 16}
    assert moved("batch", 0.5) == {"a": 0, "b": 16, "c": 16}, "4 of 8 in each of 4 blocks"
    assert moved("batch", 1.0) == {"a": 0, "b": 32, "c": 32}, "the 33rd row is in no block"
    assert moved("set", 0.0) == {"a": 0, "b": 0, "c": 0}


def test_within_blocks_partners_stay_in_their_block(numbered):
    source = spoilt(numbered, "batch", 1.0).source["c"]
    for part in blocks(np.flatnonzero(numbered.train), 8, 0):
        assert {*source[part]} == {*part}
    rows = np.flatnonzero(numbered.train)
    assert len(np.unique(blocks(rows, 8, 0))) == 32 and {*blocks(rows, 8, 0).ravel()} <= {*rows}


def test_missing_takes_one_modality_of_an_example_and_unpaired_leaves_one(numbered):
    missing, unpaired = (spoilt(numbered, kind, 0.6).data for kind in ("missing", "unpaired"))
    count = lambda data: np.sum([data.present[m] for m in "abc"], axis=0)
    assert sorted(count(missing)) == [2] * 20 + [3] * 20 and missing.present["a"].all()
    assert sorted(count(unpaired)) == [1] * 20 + [3] * 20
    assert (count(unpaired)[33:] == 3).all()
    assert min(p[:33].sum() for p in unpaired.present.values()) < 33 - 5, "each is left to some"


def test_what_an_example_has_alone_is_not_taken_away(numbered):
    data = FeatureSet.from_arrays(
        "alone",
        numbered.features,
        numbered.label,
        numbered.train,
        present={"a": np.arange(40) > 20, "b": np.arange(40) > 20},
    )
    for kind in ("missing", "unpaired"):
        present = spoilt(data, kind, 1.0).data.present
        assert np.any(list(present.values()), axis=0).all()


def test_noise_is_a_function_of_the_seed(numbered):
    one, again, other = (spoilt(numbered, "set", 0.5, seed) for seed in (4, 4, 5))
    np.testing.assert_array_equal(one.source["b"], again.source["b"])
    assert (one.source["b"] != other.source["b"]).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "some"}, "task.noise='some' is none of batch, set, unpaired, missing"),
        ({"share": 1.5}, "task.share=1.5"),
        ({"block": 1}, "task.block=1 is not within 2 … 33"),
        ({"block": 34}, "task.block=34"),
    ],
)
def test_impossible_noise_is_refused_by_name(numbered, change, message):
    settings = {"kind": "batch", "share": 0.5, "block": 8, "seed": 0} | change
    with pytest.raises(ValueError, match=message):
        mispair(numbered, np.flatnonzero(numbered.train), **settings)
