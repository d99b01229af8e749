"""The Penn Treebank tokenisation that coco-caption applies before it scores captions, without Java.

coco-caption pipes captions through the Stanford PTBTokenizer 3.4.1 with ``-preserveLines -lowerCase`` and drops
punctuation tokens. This port was written from the observed behaviour of that program. Its quirks are kept, because
scores depend on them: brackets survive as ``-lrb-`` and ``-rrb-`` (the list of punctuation spells them in capitals,
the tokens are in lower case by then), ``can't`` becomes ``ca n't``, ``gonna`` becomes ``gon na``, and a word at the
end of a caption keeps its full stop if it is a known abbreviation or a single letter.
"""

from __future__ import annotations

import re

# The list of coco-caption, as it stands there.
PUNCTUATION = frozenset(
    ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";"]
)

_REWRITTEN = {
    "(": "-lrb-",
    ")": "-rrb-",
    "[": "-lsb-",
    "]": "-rsb-",
    "{": "-lcb-",
    "}": "-rcb-",
    '"': "''",
    "“": "``",
    "”": "''",
    "‘": "`",
    "’": "'",
    "£": "#",
    "€": "$",
    "¢": "cents",
    "&amp;": "&",
    "½": "1/2",
    "¼": "1/4",
    "¾": "3/4",
    "…": "...",
}

_ABBREVIATIONS = (
    "mr|mrs|ms|dr|drs|st|jr|sr|vs|etc|inc|ltd|corp|co|bros|ave|blvd|rd|mt|ft|gen|col|lt|sgt|capt|maj|cpl|prof|rev|hon|gov|"
    "sen|rep|pres|supt|messrs|jan|feb|mar|apr|jun|jul|aug|sept|sep|oct|nov|dec|mon|tue|tues|wed|thu|thurs|fri|approx|"
    "dept|est|assn|univ|ph\\.d"
)
_LETTER = r"[^\W\d_]"
_WORD_CHAR = r"[^\W_]"
_CLITIC = r"'(?:s|m|d|ll|re|ve)"
_TWO_WORDS = {
    "cannot": "can not",
    "gonna": "gon na",
    "gotta": "got ta",
    "wanna": "wan na",
    "lemme": "lem me",
    "gimme": "gim me",
    "'tis": "'t is",
    "'twas": "'t was",
}

_TOKEN = re.compile(
    rf"""
    </?[a-z][^<>\s]*>                                     # markup
  | https?://[^\s"<>()]+ | www\.[^\s"<>()]+ | [\w.+-]+@[\w-]+(?:\.[\w-]+)+
  | &amp;
  | (?:{"|".join(_TWO_WORDS)})(?!{_WORD_CHAR})
  | {_CLITIC}(?!{_WORD_CHAR})
  | n't(?!{_WORD_CHAR})
  | '\d\ds?(?!{_WORD_CHAR})                               # '60s
  | '(?:em|n'|n)(?!{_WORD_CHAR})
  | (?:{_LETTER}\.)+{_LETTER}(?!{_WORD_CHAR})\.?          # u.s.
  | (?<!{_WORD_CHAR}){_LETTER}\.(?!{_WORD_CHAR})
  | (?:{_ABBREVIATIONS})\.(?!{_WORD_CHAR})
  | \d{{1,2}}:\d\d(?!\d)                                  # 5:30
  | [-+]?(?:\d+(?:[.,]\d+)*|\.\d+)(?:[-/]\d+)*(?![\w-])    # numbers, dates, fractions
  | [@#]{_LETTER}\w*
  | o'{_LETTER}+ | {_LETTER}'{_LETTER}{{3,}}              # o'clock, d'artagnan
  | {_WORD_CHAR}+?(?=n't(?!{_WORD_CHAR}))                 # ca|n't
  | {_WORD_CHAR}+(?:[-_&./]{_WORD_CHAR}+)*
  | \.\.\. | --+ | [!?]+
  | ``|''
  | \S
    """,
    re.VERBOSE | re.IGNORECASE,
)


def tokenize(caption: str) -> list[str]:
    """Splits a caption into the lower-case tokens that the metrics of coco-caption count.

    Args:
        caption: One caption; line breaks count as spaces.

    Returns:
        Its tokens without punctuation; an empty list for an empty caption.
    """
    tokens = []
    for match in _TOKEN.finditer(caption.replace("\n", " ")):
        token = match.group().lower()
        token = _REWRITTEN.get(token, token)
        tokens += _TWO_WORDS.get(token, token).split(" ")
    return [token for token in tokens if token not in PUNCTUATION]
