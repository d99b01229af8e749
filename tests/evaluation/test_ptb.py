"""The tokenisation of captions: examples whose tokens the original program gave, and the program itself."""

import shutil
import subprocess
from pathlib import Path

import pytest

from captioner.evaluation.ptb import PUNCTUATION, tokenize

# Caption and the tokens of the Stanford PTBTokenizer 3.4.1 in lower case, without coco-caption's punctuation.
OBSERVED = [
    ("A dog runs , jumps -- and sits .", "a dog runs jumps and sits"),
    ("A man's dogs' don't can't won't cannot", "a man 's dogs do n't ca n't wo n't can not"),
    ("he's she'll they've we're I'd I'm", "he 's she 'll they 've we 're i 'd i 'm"),
    ("dog’s don’t it’s", "dog 's do n't it 's"),
    ("gonna gotta wanna lemme gimme wanna-be", "gon na got ta wan na lem me gim me wanna-be"),
    ("a (small) dog [sic]", "a -lrb- small -rrb- dog -lsb- sic -rsb-"),
    ("says \"hello\" 'hi' “you” ``there''", "says hello hi you there"),
    ("a half-eaten t-shirt, a 10-year-old's", "a half-eaten t-shirt a 10-year-old 's"),
    ("mr. smith of st. louis, u.s. at 5:30pm", "mr. smith of st. louis u.s. at 5:30 pm"),
    ("the wash. no. No. 5 fig. 3 of 2.5", "the wash no no. 5 fig. 3 of 2.5"),
    ("1,000 of 10.5cm 1/2 24/7 50/50 '60s 1960's", "1,000 of 10.5 cm 1/2 24/7 50/50 '60s 1960 's"),
    ("$5 5% #1 #dog @bob foo@bar.com", "$ 5 5 % # 1 #dog @bob foo@bar.com"),
    ("AT&T R&B m&m a & b A&amp;M", "at&t r&b m & m a & b a&m"),
    ("dog.The man?in end!next mid-air.dog", "dog.the man?in end!next mid-air dog"),
    ("dog -the dog- dog–cat dog—cat dog---cat", "dog the dog dog cat dog cat dog cat"),
    ("wait... wait.. wait….", "wait wait wait"),
    ("rock 'n' roll o'clock ma'am O'Neil c'mon 'em", "rock 'n' roll o'clock ma'am o'neil c'mon 'em"),
    ("and/or w/o a/c dog-house/cat", "and/or w/o a/c dog-house/cat"),
    ("café naïve señor", "café naïve señor"),
    ("letter P. A dog", "letter p a dog"),
    ("a big J. Smith", "a big j. smith"),
    ("dogs., cats", "dogs. cats"),
    ("line\nbreak\tand  spaces", "line break and spaces"),
    ("...", ""),
    ("", ""),
]


@pytest.mark.parametrize(("caption", "tokens"), OBSERVED)
def test_examples(caption, tokens):
    assert tokenize(caption) == tokens.split()


def test_tokens_hold_neither_spaces_nor_punctuation():
    for caption, _ in OBSERVED:
        for token in tokenize(caption):
            assert token and token == token.lower() and not any(char.isspace() for char in token)
            assert token not in PUNCTUATION


def test_any_text_is_accepted():
    hypothesis = pytest.importorskip("hypothesis")

    @hypothesis.settings(max_examples=100, deadline=None)
    @hypothesis.given(hypothesis.strategies.text(max_size=60))
    def check(text):
        assert all(token.split() == [token] for token in tokenize(text))

    check()


def test_letters_survive_in_order():
    caption = "Two dogs, one of them brown, aren't far from the (old) man's t-shirt; it is 5:30!"
    letters = [char for char in caption.lower() if char.isalpha()]
    kept = [char for char in "".join(tokenize(caption)).replace("-lrb-", "").replace("-rrb-", "") if char.isalpha()]
    assert kept == letters


def original_tokens(captions: list[str], folder) -> list[list[str]]:
    """What the jar of pycocoevalcap makes of captions."""
    module = pytest.importorskip("pycocoevalcap.tokenizer.ptbtokenizer")
    if shutil.which("java") is None:
        pytest.skip("the original tokeniser needs Java")
    source = folder / "captions.txt"
    source.write_text("\n".join(caption.replace("\n", " ") for caption in captions), encoding="utf-8")
    jar = str(next(Path(module.__file__).parent.glob("stanford-corenlp-*.jar")))
    command = ["java", "-cp", jar, "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase", str(source)]
    lines = subprocess.run(command, capture_output=True, check=True).stdout.decode().split("\n")
    # The original joins "3 1/2" with a no-break space, where the scorers split again.
    return [[token for token in line.split() if token not in module.PUNCTUATIONS] for line in lines[: len(captions)]]


def test_examples_against_the_original(tmp_path):
    captions = [caption for caption, _ in OBSERVED]
    for caption, tokens in zip(captions, original_tokens(captions, tmp_path), strict=True):
        assert tokenize(caption) == tokens


@pytest.mark.data
def test_all_captions_of_flickr8k_against_the_original(shared, tmp_path):
    lines = (shared / "flickr8k" / "Flickr8k.token.txt").read_text(encoding="utf-8").splitlines()
    captions = [line.split("\t", 1)[1] for line in lines if "\t" in line]
    assert len(captions) > 35_000
    pairs = zip(captions, original_tokens(captions, tmp_path), strict=True)
    differing = [caption for caption, tokens in pairs if tokenize(caption) != tokens]
    assert len(differing) <= 0.001 * len(captions), differing[:20]
