"""Invented words: cases worked by hand, and the table itself."""

from importlib import resources

import pytest

from captioner.evaluation.diversity import FUNCTION_WORDS
from captioner.evaluation.invented import invented, things
from captioner.evaluation.ptb import tokenize


def made_up(caption: str, *people: str) -> list[str]:
    return invented(tokenize(caption), [tokenize(text) for text in people])


@pytest.mark.parametrize(
    ("caption", "people", "expected"),
    [
        # The same, by another name or in another number.
        ("a couch and two dogs", ["A puppy sleeps on the sofa."], []),
        ("a guy on a bike", ["Men riding bicycles"], []),
        ("knives, berries and leaves", ["a knife, a berry and a leaf"], []),
        ("a grey wall", ["The walls are gray"], []),
        # A broader word is right, a narrower one is more than anybody said.
        ("a person with an animal", ["A boy and his cat"], []),
        ("a boy with a cat", ["a person with an animal"], ["boy", "cat"]),
        ("a man", ["A skier races down a slope"], []),
        ("a skier", ["A man in the snow"], ["skier"]),
        ("a skier", ["A man is skiing"], []),
        ("water", ["the ocean"], []),
        ("the ocean", ["a lake"], ["ocean"]),
        # What one name can mean is asked of every meaning.
        ("a ball", ["playing basketball"], []),
        ("a basketball", ["boys play soccer"], ["basketball"]),
        ("a motorcycle", ["a bike"], []),
        ("a motorcycle", ["a bicycle"], ["motorcycle"]),
        # Colours.
        ("a red and tan shirt", ["a brown t-shirt"], ["red"]),
        ("a yellow dog", ["a golden retriever"], []),
        # Words that belong together.
        ("a hot dog", ["a dog"], ["hot dog"]),
        ("a hot dog", ["hot dogs with ketchup"], []),
        ("a dog", ["hot weather, a dog"], []),
        ("a dog", ["two hot dogs"], ["dog"]),
        ("a truck", ["a fire truck"], []),
        ("a teddy bear", ["a stuffed animal"], []),
        # Twice said is twice made up; verbs and amounts are no things.
        ("a dog and a brown dog", ["a cat"], ["dog", "brown", "dog"]),
        ("a couple of dogs", ["dogs"], []),
        ("a couple kisses", ["dogs"], ["couple"]),
        ("a batter swings and watches", ["a batter"], []),
        ("it is blurry", [], []),
    ],
)
def test_by_hand(caption, people, expected):
    assert made_up(caption, *people) == expected


def test_one_person_is_enough():
    assert made_up("a red dog", "a red cat", "a dog") == []


def test_things_are_what_is_counted():
    assert things(tokenize("Two men in white shirts quickly throw a frisbee near a traffic light.")) == [
        "men", "white", "shirts", "frisbee", "traffic light",
    ]  # fmt: skip
    assert things(["grass", "glass", "dress", "glasses"]) == ["grass", "glass", "dress", "glasses"]


def test_every_name_of_the_table_is_found_and_is_its_own_proof():
    text = resources.files("captioner.evaluation").joinpath("things.txt").read_text("utf-8")
    lines = [line for line in text.splitlines() if not line.startswith(("#", "!"))]
    verbs = {word for line in text.splitlines() if line.startswith("!") for word in line.split()}
    for line in filter(None, lines):
        names = line.removeprefix("=").partition("<")[0].partition("~")[0].split()
        assert names and len(set(names)) == len(names), line
        for name in names:
            words = name.split("_")
            assert name not in FUNCTION_WORDS
            assert invented(words, [words]) == []
            if name not in verbs:
                assert things(words) == [" ".join(words)]
