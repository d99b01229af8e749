"""English words that carry no meaning of their own."""

from __future__ import annotations

# Words after which something must follow. Those that people do end captions with ("looks up", "stands behind") are not
# among them; "on" is, although some people wear "a coat with a hood on".
_DANGLING = (
    "a an the its their his of in on at to with for from into onto near between through under across against toward "
    "towards during while among atop next like and or but that which where when as than is are was were be being am "
    "has have had can will very"
)
_OTHER_FUNCTION_WORDS = (
    "this these those her by behind beside beneath over along around above below inside outside off up down out who do "
    "does did been he she it they him them theirs himself herself itself themselves one other another each some there "
    "what whom whose i you we my your our 's n't not"
)
DANGLING = frozenset(_DANGLING.split())
"""Words that no sentence ends with."""

FUNCTION_WORDS = DANGLING | frozenset(_OTHER_FUNCTION_WORDS.split())
"""Articles, prepositions, pronouns, auxiliaries: all that a sentence may well use twice."""
