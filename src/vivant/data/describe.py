"""What a caption says of motion: how surely it tells any, in which words, and of what kind (DynamiCrafter, section D.1)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from . import captions

CATEGORIES = ("human", "animal", "nature", "machine", "others", "none")

Describe = Callable[[Sequence[str]], "list[Description]"]


@dataclass(frozen=True)
class Description:
    """`confidence` 0..100 that the caption tells of motion; `wording`: who does what, or "none"; `category`; `by` whom."""

    confidence: float
    wording: str
    category: str
    by: str = "rules"


NOTHING = Description(5, "none", "none")

_HUMAN = set(
    "man men woman women boy boys girl girls child children kid kids baby babies person people player players team couple"
    " family friend friends lady ladies guy guys gentleman worker workers businessman businesswoman doctor nurse dancer"
    " dancers singer musician athlete runner cyclist skier surfer swimmer farmer fisherman chef cook student students"
    " teacher tourist tourists crowd audience bride groom mother father mom dad hand hands finger fingers face eye eyes"
    " hair male female teenager soldier soldiers rider model barista driver hiker hikers pedestrians figure figures"
    " portrait grandmother grandfather someone".split()
)
_ANIMAL = set(
    "animal animals dog dogs puppy cat cats kitten horse horses cow cows sheep goat goats pig pigs chicken bear bears"
    " lion tiger elephant elephants giraffe monkey monkeys deer rabbit squirrel fox wolf fish fishes shark whale dolphin"
    " dolphins turtle jellyfish insect insects bee bees butterfly butterflies spider ant ants snake lizard frog penguin"
    " penguins parrot bird birds seagull seagulls gull gulls swan swans duck ducks eagle crow owl peacock wildlife".split()
)
_MACHINE = set(
    "car cars truck trucks bus buses train trains tram plane planes airplane aircraft helicopter drone bike bicycle"
    " motorcycle motorbike vehicle vehicles traffic boat boats ship ships sailboat yacht ferry machine machines robot"
    " engine turbine turbines windmill crane excavator tractor conveyor gear gears wheel wheels elevator escalator"
    " printer computer rocket clock fan ferris carousel vessel canoe".split()
)
_NATURE = set(
    "cloud clouds sky rain snow wind storm lightning fog mist smoke fire flame flames candle sun moon star stars aurora"
    " water sea ocean wave waves river stream waterfall lake pond rapids tide surf foam bubble bubbles drop drops"
    " raindrops tree trees leaf leaves branch branches grass flower flowers plant plants wheat reed reeds forest sand"
    " dust lava volcano ice snowflakes petals maple palm bamboo blossom blossoms field steam ripples".split()
)
_OTHERS = set(
    "flag flags curtain particles lights light ball balloon balloons kite paper ink paint food coffee milk".split()
)

# Words in -ing that are things, places or stillness.
_STILL = set(
    "building buildings morning evening ceiling painting paintings king ring spring string thing things wing wings wedding"
    " clothing nothing something everything anything during according including being having living meeting parking"
    " housing lightning pudding sibling darling feeling drawing setting opening ending beginning interesting amazing"
    " stunning charming outstanding sterling viking dining swimwear skyscraping shopping standing sitting lying wearing"
    " looking holding seeing showing featuring facing hanging resting posing leaning laying sleeping staying remaining"
    " containing surrounding overlooking isolating depending existing using king's bring".split()
)
# Words that move in another form than -ing; captions in the present tense use them.
_PRESENT = set(
    "walks runs jumps dances swims flies rides drives plays eats drinks cooks works talks sings laughs smiles waves"
    " turns moves spins rotates flows falls drifts blows sways swirls flickers ripples rises burns floats sails crashes"
    " shakes throws catches kicks hits opens closes pours stirs cuts writes types paints climbs crawls chases flaps"
    " splashes rolls glides hovers blooms grows melts explodes passes crosses travels races skates surfs skis".split()
)
_VERBS = {word for word in captions.words() if word.endswith("ing") and word not in _STILL}
# "Clouds drift": the plain form counts right after what moves.
_PLAIN = {stem for verb in _VERBS for stem in (verb[:-3], verb[:-3] + "e", verb[:-4]) if stem in captions.words()}
_SMALL = set(
    "a an the this that these those his her its their my our your some many several two three four five group of and or"
    " is are was were be been very".split()
)
_ENDS = set(
    "in at near with while during above below under behind beside between among from by before after against for"
    " on over across through along around into toward towards as when where during slow motion closeup close shot view"
    " aerial timelapse time lapse background 4k hd video footage and".split()
)


def by_rules(texts: Sequence[str]) -> list[Description]:
    """Describe captions by their words alone: a subject that is known, and a verb of motion after it."""
    return [_by_rules(text) for text in texts]


def _by_rules(text: str) -> Description:
    # A clause ends at punctuation; who moves in one does not move in the next.
    best = NOTHING
    for clause in re.split(r"[.;:!?()]|, (?=while\b)", text):
        found = _clause(captions.split(clause))
        if found.confidence > best.confidence:
            best = found
    return best


def _clause(words: list[str]) -> Description:
    for at, word in enumerate(words):
        plain = at > 0 and word in _PLAIN and _category(words[at - 1]) is not None
        if not (plain or _moves(word)):
            continue
        start, end, category = _subject(words, at)
        if category is None:
            # "Waving flag": the thing that moves may follow.
            after = next((w for w in words[at + 1 : at + 3] if _category(w)), None)
            if after is not None and not (at > 0 and words[at - 1] in ("of", "for")):
                return Description(45, f"{after} {word}", _category(after) or "others")
            continue
        said = [w for w in words[start:end] if w not in _SMALL] + [word] + _object(words, at)
        return Description({"human": 80, "animal": 80, "machine": 65}.get(category, 50), " ".join(said), category)
    if {"timelapse", "hyperlapse"} & set(words) or ("time", "lapse") in pairwise(words):
        seen = next((w for w in words if _category(w)), None)
        if seen is not None:
            return Description(50, f"{seen} moving", _category(seen) or "others")
    verb = next((w for w in words if w.endswith("ing") and _moves(w)), None)
    return Description(30, verb, "others") if verb else NOTHING


def _moves(word: str) -> bool:
    if word in _STILL or _category(word) is not None:
        return False
    return word in _VERBS or word in _PRESENT or (len(word) > 4 and word.endswith("ing"))


def _subject(words: list[str], at: int) -> tuple[int, int, str | None]:
    """(from, to, category) of the phrase of who moves: the nearest known noun before the verb, two words more before it."""
    for i in range(at - 1, max(0, at - 8) - 1, -1):
        if (category := _category(words[i])) is not None:
            start = i
            while start > max(0, i - 2) and words[start - 1] not in _SMALL | _ENDS and not _moves(words[start - 1]):
                start -= 1
            # Where it is ("man in gym") does not belong to who it is.
            where = next((k for k in range(i + 1, at) if words[k] in _ENDS), at)
            return start, where, category
    return at, at, None


def _category(word: str) -> str | None:
    for category, words in (
        ("human", _HUMAN), ("animal", _ANIMAL), ("machine", _MACHINE), ("nature", _NATURE), ("others", _OTHERS)
    ):  # fmt: skip
        if word in words:
            return category
    return None


def _object(words: list[str], at: int) -> list[str]:
    """Up to three words of what is done, without where."""
    out: list[str] = []
    for word in words[at + 1 :]:
        if word in _ENDS or len(out) == 3 or _moves(word):
            break
        if word not in _SMALL:
            out.append(word)
    return out
