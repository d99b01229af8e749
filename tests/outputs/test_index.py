"""The search index: what people look for comes first, and no input breaks it."""

import dataclasses
import json
import os
import sqlite3

import pytest

from captioner.errors import CaptionerError
from captioner.outputs import index
from captioner.outputs.index import build_index, search_folder, search_index
from captioner.outputs.records import json_line

CAPTIONS = [
    "a dog is running on the beach",
    "two dogs play with a red ball in the grass",
    "a man is riding a bicycle on a street",
    "two men and a woman sit at a table",
    "children are swimming in a pool",
    "a snowboarder jumps over a hill of snow",
    "a crowd of people watches a football game",
    "a cat sits on a beach chair",
    "a little girl on a swing",
]


def video(file, captions, labels=()):
    segments = [
        {
            "start": 5.0 * i,
            "end": 5.0 * i + 5,
            "caption": text,
            "confidence": 0.5,
            "labels": [{"label": label, "probability": 0.9} for label in labels],
        }
        for i, text in enumerate(captions)
    ]
    return {"file": file, "duration": 5.0 * len(captions), "segments": segments}


def write(folder, *records):
    (folder / "results.jsonl").write_text("".join(json_line(record) + "\n" for record in records), encoding="utf-8")
    return folder / "results.jsonl"


@pytest.fixture
def built(tmp_path):
    results = write(
        tmp_path,
        video("holiday.mp4", CAPTIONS),
        {"file": "bad.mp4", "error": {"type": "VideoReadError", "message": "a dog on the beach ate it"}},
        {"file": "photo.jpg", "caption": "a brown horse jumps over a fence", "words": []},
        video("gym.avi", ["a person exercises"], ["JumpingJack", "Diving"]),
    )
    assert build_index(results, tmp_path / "index.sqlite") == len(CAPTIONS) + 2
    return tmp_path / "index.sqlite"


def test_tags_find_what_the_caption_missed_after_what_says_it(tmp_path):
    tags = [{"tag": "wok", "probability": 0.9}, {"tag": "kitchen", "probability": 0.85}]
    tagged = video("film.mp4", ["a pan on a stove"])
    tagged["segments"][0]["tags"] = tags
    photo = {"file": "photo.jpg", "caption": "a bowl of food", "words": [], "tags": tags}
    said = {"file": "said.jpg", "caption": "a wok", "words": [], "tags": []}
    build_index(write(tmp_path, photo, tagged, said), tmp_path / "index.sqlite")
    found = [hit.file for hit in search_index(tmp_path / "index.sqlite", "woks")]
    assert found[0] == "said.jpg" and sorted(found) == ["film.mp4", "photo.jpg", "said.jpg"]
    assert {hit.file for hit in search_index(tmp_path / "index.sqlite", "kitchen")} == {"film.mp4", "photo.jpg"}


@pytest.mark.parametrize(
    "words, best",
    [
        ("dog on a beach", CAPTIONS[0]),
        ("DOGS running, beaches", CAPTIONS[0]),
        ("dogs with balls", CAPTIONS[1]),
        ("ride bicycles", CAPTIONS[2]),
        ("man and women", CAPTIONS[3]),
        ("child swims", CAPTIONS[4]),
        ("snowb", CAPTIONS[5]),
        ("person watching football", CAPTIONS[6]),
        ("cats sitting", CAPTIONS[7]),
        ("horses", "a brown horse jumps over a fence"),
        ("jumping jack", "a person exercises"),
        ("dóg beach", CAPTIONS[0]),
    ],
)
def test_the_best_hit(built, words, best):
    assert search_index(built, words)[0].caption == best


def test_hits_with_all_words_come_before_hits_with_some(built):
    found = [hit.caption for hit in search_index(built, "dog beach")]
    assert found[0] == CAPTIONS[0]
    assert set(found[1:]) == {CAPTIONS[1], CAPTIONS[7]}
    assert [hit.rank for hit in search_index(built, "dog beach")] == [1, 2, 3]


def test_whole_words_come_before_beginnings(built):
    found = [hit.caption for hit in search_index(built, "swim")]
    assert found == [CAPTIONS[4]]
    found = [hit.caption for hit in search_index(built, "snow")]
    assert found == [CAPTIONS[5]]
    found = [hit.caption for hit in search_index(built, "man")]
    assert set(found) == {CAPTIONS[2], CAPTIONS[3]}


def test_a_beginning_counts_less_than_the_whole_word(tmp_path):
    build_index(write(tmp_path, video("v", ["a carriage and a carpet", "a car"])), tmp_path / "i.sqlite")
    assert [hit.caption for hit in search_index(tmp_path / "i.sqlite", "car")] == ["a car", "a carriage and a carpet"]


def test_hits_carry_file_and_time_and_photos_none(built):
    hit = search_index(built, "bicycle")[0]
    where = {"file": "holiday.mp4", "start": 10.0, "end": 15.0}
    assert hit.to_dict() == {**where, "caption": CAPTIONS[2], "rank": 1, "unsure": None}
    photo = search_index(built, "fence")[0]
    assert (photo.file, photo.start, photo.end) == ("photo.jpg", None, None)
    assert str(hit) == "holiday.mp4  0:10 - 0:15  a man is riding a bicycle on a street"
    assert str(photo) == "photo.jpg  a brown horse jumps over a fence"
    assert str(dataclasses.replace(photo, file="a\nb")).startswith("a\\nb  ")


def test_small_words_are_ignored_unless_there_is_nothing_else(built):
    assert search_index(built, "elephant on a the") == []
    assert len(search_index(built, "on a")) >= 5


def test_a_failed_file_is_not_found(built):
    assert all(hit.file != "bad.mp4" for hit in search_index(built, "dog beach ate", limit=100))


def test_only_the_likeliest_label_counts(built):
    assert search_index(built, "diving") == []


def test_the_limit(built):
    assert len(search_index(built, "a", limit=3)) == 3
    with pytest.raises(ValueError, match="limit"):
        search_index(built, "dog", limit=0)


@pytest.mark.parametrize(
    "words",
    ['dog" OR', "dog*", "NEAR(dog beach)", "caption:dog", "-dog", "^dog", "(dog", "dog AND", "dog NOT",
     "dog'; DROP TABLE x", "dog\x00cat", "dog + beach", "{dog}", "\udcff dog", "AND dog OR"],
)  # fmt: skip
def test_no_character_is_syntax(built, words):
    assert search_index(built, words)[0].caption in CAPTIONS


@pytest.mark.parametrize("words", ["", "  ", "!!!", '""', "😀", "\udcff"])
def test_nothing_to_look_for(built, words):
    with pytest.raises(CaptionerError, match="no word") as caught:
        search_index(built, words)
    assert caught.value.kind == "usage"


@pytest.mark.parametrize(
    "name", ["a\nb.mp4", "😀.mp4", "</script>.mp4", "=cmd().mp4", os.fsdecode(b"\xff\xfe.mp4"), "\ud83d.mp4"]
)
def test_hostile_names_come_back_exactly(tmp_path, name):
    results = write(tmp_path, video(name, ["a dog"]))
    build_index(results, tmp_path / "i.sqlite")
    assert search_index(tmp_path / "i.sqlite", "dog")[0].file == json.loads(json.dumps(name))


def test_the_index_itself_may_have_a_hostile_name(tmp_path):
    folder = tmp_path / "a?b#c%41 😀"
    folder.mkdir()
    write(folder, video("v.mp4", ["a dog"]))
    assert search_folder(folder, "dog")[0].file == "v.mp4"
    assert (folder / "index.sqlite").is_file()


def test_search_folder_follows_the_results(tmp_path):
    results = write(tmp_path, video("v.mp4", ["a dog"]))
    assert [hit.file for hit in search_folder(tmp_path, "dog")] == ["v.mp4"]
    before = (tmp_path / "index.sqlite").stat().st_mtime_ns
    search_folder(tmp_path, "dog")
    assert (tmp_path / "index.sqlite").stat().st_mtime_ns == before  # made once
    write(tmp_path, video("v.mp4", ["a dog"]), video("w.mp4", ["another dog"]))
    assert {hit.file for hit in search_folder(tmp_path, "dog")} == {"v.mp4", "w.mp4"}
    write(tmp_path, video("v.mp4", ["a cat"]))
    os.utime(results, ns=(1, 1))
    assert search_folder(tmp_path, "dog") == []


def test_search_folder_makes_a_damaged_index_again(tmp_path):
    write(tmp_path, video("v.mp4", ["a dog"]))
    for damage in (b"", b"not a database" * 100):
        (tmp_path / "index.sqlite").write_bytes(damage)
        assert search_folder(tmp_path, "dog")[0].file == "v.mp4"
    build_index(tmp_path / "results.jsonl", tmp_path / "index.sqlite")
    whole = (tmp_path / "index.sqlite").read_bytes()
    assert b"CREATE TABLE source(" in whole
    (tmp_path / "index.sqlite").write_bytes(whole.replace(b"CREATE TABLE source(", b"CREATE \xff\xffBLE source("))
    assert search_folder(tmp_path, "dog")[0].file == "v.mp4"  # what SQLite says of it is no UTF-8 either
    with pytest.raises(CaptionerError, match="no word"):
        search_folder(tmp_path, "!")


def test_search_folder_works_where_nothing_may_be_written(tmp_path, monkeypatch):
    write(tmp_path, video("v.mp4", ["a dog"]))

    def refuse(results, index):
        raise CaptionerError("read-only", kind="permission")

    monkeypatch.setattr(index, "build_index", refuse)
    assert search_folder(tmp_path, "dog")[0].file == "v.mp4"
    assert not (tmp_path / "index.sqlite").exists()


def test_a_failed_rebuild_leaves_the_old_index_and_no_litter(tmp_path):
    results = write(tmp_path, video("v.mp4", ["a dog"]))
    build_index(results, tmp_path / "index.sqlite")
    results.write_text("broken\n")
    with pytest.raises(CaptionerError, match="line 1"):
        build_index(results, tmp_path / "index.sqlite")
    assert search_index(tmp_path / "index.sqlite", "dog")[0].file == "v.mp4"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.sqlite", "results.jsonl"]


def test_errors_name_the_file(tmp_path):
    with pytest.raises(CaptionerError, match="output folder"):
        search_folder(tmp_path, "dog")
    with pytest.raises(CaptionerError, match=r"none\.sqlite"):
        search_index(tmp_path / "none.sqlite", "dog")
    (tmp_path / "text.sqlite").write_text("this is not a database, it is text" * 50)
    with pytest.raises(CaptionerError, match="damaged"):
        search_index(tmp_path / "text.sqlite", "dog")
    results = write(tmp_path, video("v.mp4", ["a dog"]))
    with pytest.raises(CaptionerError) as caught:
        build_index(results, results / "index.sqlite")
    assert caught.value.kind == "not_a_folder"


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    results = write(tmp_path, video("v.mp4", CAPTIONS * 50))
    connect = sqlite3.connect

    def small(*arguments, **options):
        connection = connect(*arguments, **options)
        connection.execute("PRAGMA max_page_count = 5")
        return connection

    monkeypatch.setattr(sqlite3, "connect", small)
    with pytest.raises(CaptionerError, match="disk is full") as caught:
        build_index(results, tmp_path / "index.sqlite")
    assert caught.value.kind == "disk_full"
    assert not (tmp_path / "index.sqlite").exists()


def test_an_index_of_nothing(tmp_path):
    assert build_index(write(tmp_path), tmp_path / "i.sqlite") == 0
    assert search_index(tmp_path / "i.sqlite", "dog") == []


@pytest.mark.parametrize(
    "row",
    [(3, 0, 1, "a dog"), ("v.mp4", "0", 1, "a dog"), ("v.mp4", 0, None, "a dog"), ("v.mp4", 1e300, 1e300, "a dog"),
     (b"\xff", 0, 1, "a dog"), (None, None, None, "a dog")],
)  # fmt: skip
def test_an_index_of_other_values_is_damaged(tmp_path, row):
    build_index(write(tmp_path), tmp_path / "i.sqlite")
    with sqlite3.connect(tmp_path / "i.sqlite") as connection:
        connection.execute("INSERT INTO entries(file, start, end, caption) VALUES (?, ?, ?, ?)", row)
    connection.close()
    with pytest.raises(CaptionerError, match="not a search index, or damaged"):
        search_index(tmp_path / "i.sqlite", "dog")


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ('"red ball"', {1}),
        ('"ball red"', set()),
        ('"dogs play" street', {1}),
        ("beach -cat", {0}),
        ("beach -tag:chair", {0}),
        ("not:beach dog", {1}),
        ("tag:chair", {7}),
        ("tag:chairs beach", {7}),
        ("sits after 0:18", {3, 7}),
        ("sits after:0:36 before 1:00:00", {7}),
        ("sits before 0:16", {3}),
        ("video:HOLI dog", {0, 1}),
        ("video:gym dog", set()),
        ("dog photo:", set()),
        ("-video: -a", set()),
        ('-"beach chair" beach', {0}),
    ],
)
def test_what_is_asked_for_beside_words(tmp_path, words, found):
    film = video("holiday.mp4", CAPTIONS[:8])
    film["segments"][7]["tags"] = [{"tag": "chair", "probability": 0.9}]
    build_index(write(tmp_path, film), tmp_path / "i.sqlite")
    assert {CAPTIONS.index(hit.caption) for hit in search_index(tmp_path / "i.sqlite", words)} == found


def test_hits_say_what_is_unsure(tmp_path):
    film = video("v.mp4", ["a dog", "a cat"])
    film["segments"][0]["unsure"] = "unfamiliar"
    photo = {"file": "a.jpg", "caption": "a dog", "words": [], "unsure": "low confidence"}
    build_index(write(tmp_path, film, photo), tmp_path / "i.sqlite")
    reasons = {(hit.file, hit.caption): hit.unsure for hit in search_index(tmp_path / "i.sqlite", "dog cat")}
    assert reasons == {("v.mp4", "a dog"): "unfamiliar", ("v.mp4", "a cat"): None, ("a.jpg", "a dog"): "low confidence"}


def test_photos_alone_and_how_many_there_are(built):
    assert [hit.file for hit in search_index(built, "photo: a")] == ["photo.jpg"]
    assert [hit.file for hit in search_index(built, "photo:")] == ["photo.jpg"]
    hits = search_index(built, "beach dog", limit=1)
    assert (len(hits), hits.total, hits.unknown) == (1, 3, {})


def test_a_word_that_no_caption_has_is_answered_with_what_is_near(built):
    hits = search_index(built, "beech dogs")
    assert hits.unknown == {"beech": ["beach"]} and hits[0].caption in CAPTIONS[:2]
    assert search_index(built, "xylophone").unknown == {"xylophone": []}
    with pytest.raises(CaptionerError, match="after 'noon': no time"):
        search_index(built, "dog after:noon")
