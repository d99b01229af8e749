"""Files of every kind that are damaged at random: read or refused, never a crash, a hang or a traceback.

``python -m tests.fuzz --minutes 30`` goes on from here; what it finds becomes a test beside the code that was at fault.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fuzz.campaign import campaign
from fuzz.mutations import HOSTILE, damaged_json
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from captioner.captions.config import CaptionerConfig
from captioner.clips.head import ClipConfig
from captioner.clips.ridge import RidgeConfig
from captioner.errors import CaptionerError
from captioner.models.search import SearchOptions
from captioner.models.tokenizer import Tokenizer
from captioner.schema import decode
from captioner.training.captions.data import read_captions

BUDGET = {"images": 250, "films": 30, "models": 60, "runs": 60, "lines": 40, "captions": 60, "clips": 40}
"""Cases of every kind in the usual run of the tests: some seconds of computing."""


def test_damaged_files_are_read_or_refused():
    report = campaign((target, number) for target, count in BUDGET.items() for number in range(count))
    assert report.bad == [], str(report)
    assert report.peak < 1500
    assert all(report.accepted[target] > 0 for target in BUDGET), str(report)
    # A result that is damaged is made again, not refused.
    assert all(report.accepted[target] < count for target, count in BUDGET.items() if target != "runs"), str(report)


VALUES = st.sampled_from(HOSTILE) | st.integers() | st.floats() | st.text()
SETTINGS = {
    "encoder": {"name": "lite0", "image_size": 64},
    "decoder": {"vocabulary_size": 40, "heads": 8, "cell": "lstm"},
    "search": {"beam_size": 3, "strategy": "beam"},
    "calibration": {"slope": 0.5},
}


@settings(deadline=None, max_examples=200)
@given(st.sampled_from([(part, name) for part, record in SETTINGS.items() for name in record]), VALUES)
def test_settings_of_a_captioner(place, value):
    part, name = place
    text = json.dumps({**SETTINGS, part: {**SETTINGS[part], name: value}})
    try:
        config = decode(text, CaptionerConfig, "config.json")
    except CaptionerError as error:
        assert str(error).startswith("config.json: ") and str(error).endswith("; get the folder again")
    else:
        assert 32 <= config.encoder.image_size <= 1024 and config.decoder.memory_units % config.decoder.heads == 0
        assert config.search.beam_size * config.decoder.vocabulary_size <= 2**20


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from([SearchOptions, ClipConfig, RidgeConfig]).flatmap(
        lambda kind: st.tuples(st.just(kind), st.dictionaries(st.sampled_from(list(kind.__dataclass_fields__)), VALUES))
    )
)
def test_options_of_callers(case):
    kind, values = case
    try:
        kind(**{"classes": 3, **values} if kind is not SearchOptions else values)
    except CaptionerError as error:
        assert str(error).isprintable() and error.kind == "usage"
    except TypeError:
        assert any(not hasattr(value, "__iter__") for name, value in values.items() if name == "streams")


KEYS = ["format", "words", "styles", "word"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner),
    max_leaves=12,
)


@settings(deadline=None, max_examples=300)
@given(JSON)
def test_any_json_is_no_vocabulary(record):
    record = {"format": 1, **record} if isinstance(record, dict) else record
    try:
        Tokenizer.from_json(json.dumps(record))
    except CaptionerError as error:
        assert str(error).endswith("; get the folder again")


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.text(max_size=8), max_size=4), max_size=4), st.sampled_from(["\n", "\r\n", "\r", "\0"]))
def test_any_table_is_captions_or_none(tmp_path, rows, end):
    lines = ["image,caption", *(",".join(row) for row in rows)]
    (tmp_path / "captions.txt").write_bytes(end.join(lines).encode("utf-8", "surrogatepass"))
    try:
        read_captions(tmp_path)
    except CaptionerError as error:
        assert "captions.txt" in str(error) or str(tmp_path) in str(error)


def test_hostile_values_do_not_grow():
    import random

    before = repr(HOSTILE)
    for number in range(3000):
        damaged_json({"a": {}}, random.Random(number))
    assert repr(HOSTILE) == before


@pytest.mark.parametrize("target", list(BUDGET))
def test_a_case_is_the_same_every_time(target, tmp_path):
    import random

    from fuzz.targets import TARGETS

    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        TARGETS[target].make(random.Random(f"{target} 7"), folder)
    files = [
        {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}
        for folder in (tmp_path / "a", tmp_path / "b")
    ]
    assert files[0] == files[1]
