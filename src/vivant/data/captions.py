"""Sentences about motion: which subjects of a painting move, where to, how fast, and the many ways to say so."""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SUBJECTS: tuple[str, ...] = (
    "sky",
    "sun",
    "water",
    "waterfall",
    "boat",
    "bird",
    "tree",
    "grass",
    "flower",
    "smoke",
    "fire",
    "flag",
    "figure",
    "lamp",
    "hill",
    "house",
    "frame",
)

KINDS: tuple[str, ...] = ("drift", "ripple", "sway", "swirl", "flicker")

SLOW, UNSAID, FAST = 0.33, 0.6, 1.0


@dataclass(frozen=True)
class Motion:
    """How one subject moves: a kind, a unit direction (x right, y down) or None, and a speed in (0, 1]."""

    kind: str
    direction: tuple[float, float] | None
    speed: float


Plan = dict[str, Motion]

# Per subject: singular nouns, plural nouns, mass nouns. An underscore joins the words of one noun.
_NOUNS: dict[str, tuple[str, str, str]] = {
    "sky": (
        "sky cloud heaven night_sky evening_sky sunset_sky storm_cloud atmosphere mackerel_sky aurora sunset twilight",
        "clouds skies heavens storm_clouds cloudlets thunderclouds",
        "air cloud_cover",
    ),
    "sun": (
        "sun moon star full_moon crescent_moon crescent evening_star morning_star comet planet",
        "stars moons suns rays sunbeams planets",
        "sunlight moonlight starlight sunshine daylight",
    ),
    "water": (
        "sea river lake ocean pond stream brook wave canal bay lagoon harbour harbor tide swell creek current puddle"
        " surf great_wave reflection channel inlet",
        "waves seas rivers waters lakes ripples reflections breakers rapids ponds streams oceans tides puddles"
        " whitecaps currents billows",
        "water foam spray seawater seafoam froth",
    ),
    "waterfall": ("waterfall cascade cataract fountain", "waterfalls falls cascades fountains", ""),
    "boat": (
        "boat ship sailboat canoe sailing_boat rowing_boat vessel gondola raft fishing_boat steamer barge yacht galleon"
        " rowboat ferry steamboat warship punt dinghy tugboat schooner frigate",
        "boats ships sailboats sails canoes vessels gondolas fishing_boats barges rafts yachts rowboats galleons punts",
        "",
    ),
    "bird": (
        "bird seagull gull crow swan duck eagle crane swallow raven goose heron dove flock pigeon sparrow magpie"
        " flock_of_birds owl hawk stork",
        "birds seagulls gulls crows swans ducks eagles cranes swallows ravens geese doves flocks pigeons sparrows"
        " magpies owls",
        "",
    ),
    "tree": (
        "tree forest cypress willow branch bush oak pine palm leaf orchard poplar wood treetop twig canopy shrub birch"
        " grove bough cypress_tree willow_tree pine_tree olive_tree hedge palm_tree elm",
        "trees branches leaves cypresses willows bushes pines palms poplars twigs woods forests treetops oaks"
        " olive_trees shrubs birches boughs palm_trees hedges pine_trees cypress_trees willow_trees elms",
        "foliage leafage ivy shrubbery",
    ),
    "grass": (
        "meadow field lawn wheat_field wheatfield prairie cornfield",
        "reeds grasses meadows fields crops wheat_fields rushes stalks blades_of_grass wheatfields cornfields ferns",
        "grass wheat hay corn barley straw rye moss",
    ),
    "flower": (
        "flower sunflower rose poppy lily tulip iris blossom petal bouquet water_lily daisy plant flower_bed lotus"
        " orchid garden",
        "flowers sunflowers roses poppies lilies tulips irises blossoms petals water_lilies daisies plants flower_beds"
        " bouquets blooms lotuses",
        "lavender heather wisteria",
    ),
    "smoke": ("mist fog vapour plume haze puff", "mists fumes vapours plumes puffs",
        "smoke steam fog mist haze vapor dust"),
    "fire": (
        "fire flame blaze bonfire campfire hearth torch volcano fireplace",
        "flames fires embers sparks torches bonfires fireworks",
        "lava",
    ),
    "flag": (
        "flag banner curtain cloth veil scarf cloak dress pennant robe drape ribbon gown cape sheet skirt shawl"
        " tablecloth",
        "flags banners curtains clothes draperies ribbons robes veils scarves pennants drapes streamers",
        "drapery fabric cloth laundry clothing",
    ),
    "figure": (
        "figure man woman person horse cow girl boy child lady dancer crowd rider dog sheep peasant fisherman sower"
        " soldier"
        " couple king queen angel animal walker shepherd carriage horseman farmer baby cat deer train cart car knight"
        " dancing_girl traveller monk saint",
        "figures people men women persons horses cows girls boys children ladies dancers riders dogs soldiers peasants"
        " angels animals walkers fishermen sheep cattle villagers crowds carriages farmers carts knights cats",
        "",
    ),
    "lamp": (
        "lamp lantern candle street_lamp streetlight window_light light light_bulb chandelier lighthouse lamplight"
        " gaslight",
        "lamps lanterns candles lights street_lamps streetlights window_lights city_lights",
        "candlelight lamplight",
    ),
    "hill": (
        "hill mountain cliff rock shore beach coast mount valley ground peak road path island volcano_slope desert land"
        " hillside mountainside slope landscape ridge stone",
        "hills mountains cliffs rocks peaks dunes slopes islands alps stones ridges valleys",
        "sand snow earth soil",
    ),
    "house": (
        "house building church castle town village bridge mill cottage tower city wall windmill barn temple palace hut"
        " roof farm chimney pier window steeple table chair door ruin cathedral room vase",
        "houses buildings towers walls roofs windows bridges cottages ruins huts chimneys castles churches farms",
        "architecture",
    ),
    "frame": ("frame border picture_frame margin mat gilded_frame passepartout", "frames borders edges", ""),
}  # fmt: skip

_ADJECTIVES: dict[str, str] = {
    "": "red blue dark white golden grey green yellow bright small large big old black orange purple pink beautiful"
    " little whole pale great tall distant lovely silver brown painted many tiny colourful violet gray",
    "sky": "cloudy stormy starry heavy fluffy evening grey low thick",
    "sun": "setting full rising shining round warm",
    "water": "deep blue clear foaming clean shallow cold wide stormy salty",
    "waterfall": "high foaming mighty roaring",
    "boat": "wooden fishing little lonely brown moored",
    "bird": "wild flying",
    "tree": "bare leafy autumn high lush",
    "grass": "tall long dry lush wild fresh",
    "flower": "wild fresh blooming fragrant",
    "smoke": "thick morning thin dense",
    "fire": "hot burning warm",
    "flag": "torn long silk striped",
    "figure": "young two three elderly lonely",
    "lamp": "warm lit yellow",
    "hill": "rocky high steep snowy",
    "house": "stone ancient tall",
    "frame": "wooden gilded ornate",
}

_VERBS: dict[str, str] = {
    "drift": "drift glide flow pass travel slide float advance shift wander sail proceed journey slip",
    "ripple": "ripple undulate shimmer heave tremble surge swell",
    "sway": "sway bend rustle flutter nod quiver swing rock shake bob lean wobble bow",
    "swirl": "swirl rotate turn spin whirl twist revolve circle twirl curl churn eddy spiral",
    "flicker": "flicker glow twinkle flash glimmer burn blink shine sparkle glitter gleam pulse glint glisten"
    " brighten dim",
}

# What a verb means for particular subjects, where that differs from or adds to the table above.
_SPECIAL: dict[str, dict[str, str]] = {
    "sky": {"roll": "drift", "sweep": "drift", "stream": "drift", "billow": "drift", "go": "drift", "blow": "drift"},
    "sun": {"shimmer": "flicker", "go": "drift", "wander": "drift", "tremble": "flicker"},
    "water": {
        "roll": "ripple", "lap": "ripple", "break": "ripple", "crash": "ripple", "stream": "drift", "run": "drift",
        "splash": "ripple", "quiver": "ripple", "rock": "ripple", "dance": "ripple", "foam": "ripple", "bob": "ripple",
        "sway": "ripple", "pulse": "ripple", "shake": "ripple", "rise and fall": "ripple", "whirl": "swirl",
        "flutter": "ripple", "glint": "flicker",
    },
    "waterfall": {"cascade": "drift", "pour": "drift", "stream": "drift", "run": "drift", "tumble": "drift",
        "roll": "drift",
                  "gush": "drift", "plunge": "drift", "splash": "drift"},
    "boat": {"cruise": "drift", "row": "drift", "go": "drift", "steam": "drift", "roll": "sway", "pitch": "sway",
             "leave": "drift"},
    "bird": {"fly": "drift", "soar": "drift", "glide": "drift", "go": "drift", "flap": "sway", "hover": "sway"},
    "tree": {"wave": "sway", "tremble": "sway", "dance": "sway", "stir": "sway", "blow": "sway"},
    "grass": {"wave": "sway", "tremble": "sway", "dance": "sway", "roll": "ripple", "stir": "sway", "blow": "sway"},
    "flower": {"wave": "sway", "tremble": "sway", "dance": "sway", "stir": "sway", "blow": "sway"},
    "smoke": {"roll": "drift", "billow": "drift", "stream": "drift", "waft": "drift", "spread": "drift",
        "blow": "drift",
              "coil": "swirl"},
    "fire": {"dance": "flicker", "blaze": "flicker", "tremble": "flicker", "leap": "flicker", "crackle": "flicker",
             "shimmer": "flicker", "quiver": "flicker", "flare": "flicker", "sway": "sway"},
    "flag": {"wave": "ripple", "billow": "ripple", "blow": "ripple", "flow": "ripple", "flap": "ripple",
        "dance": "sway"},
    "figure": {"walk": "drift", "march": "drift", "ride": "drift", "run": "drift", "stroll": "drift", "gallop": "drift",
               "go": "drift", "step": "drift", "dance": "sway", "trot": "drift", "wave": "sway", "tremble": "sway"},
    "lamp": {"shimmer": "flicker", "dance": "flicker", "tremble": "flicker", "blaze": "flicker", "dangle": "sway"},
}  # fmt: skip

_COMMON: dict[str, tuple[str, ...]] = {"water": ("flow", "roll"), "boat": ("sail",), "bird": ("fly",), "sky": ("flow",)}
_SPEEDY: dict[float, str] = {SLOW: "creep crawl inch", FAST: "race hurry rush dash speed"}
_STEEP: dict[int, str] = {-1: "rise climb ascend", 1: "fall descend sink"}

_DEFAULT: dict[str, str] = {
    "sky": "drift", "sun": "drift", "water": "ripple", "waterfall": "drift", "boat": "drift", "bird": "drift",
    "tree": "sway", "grass": "sway", "flower": "sway", "smoke": "drift", "fire": "flicker", "flag": "ripple",
    "figure": "drift", "lamp": "flicker", "hill": "drift", "house": "drift", "frame": "drift",
}  # fmt: skip

_NOUN_OF_KIND: dict[str, tuple[str, ...]] = {
    "drift": ("drift", "drifting", "flow", "passage"),
    "ripple": ("ripple", "rippling", "trembling", "shimmer", "undulation"),
    "sway": ("sway", "swaying", "swing", "rustling"),
    "swirl": ("swirl", "swirling", "rotation", "whirl", "spinning"),
    "flicker": ("flicker", "flickering", "glow", "twinkling", "glimmer"),
}

_TRANSITIVE: dict[str, tuple[str, ...]] = {
    "drift": ("carry", "push", "drive", "chase"),
    "ripple": ("ripple", "ruffle"),
    "sway": ("sway", "bend", "shake", "rock", "rustle"),
    "swirl": ("swirl", "whirl", "spin", "twist"),
    "flicker": (),
}

_SIDES: dict[tuple[int, int], tuple[str, ...]] = {
    (1, 0): ("right", "east"),
    (-1, 0): ("left", "west"),
    (0, -1): ("up", "north"),
    (0, 1): ("down", "south"),
}

_SLOWLY = (
    "slowly", "slowly", "gently", "gently", "gradually", "softly", "lazily", "calmly", "leisurely", "quietly",
    "slightly",
    "at a slow pace", "little by little", "very slowly", "in slow motion", "a little", "very gently", "peacefully",
    "faintly", "bit by bit", "slow", "subtly", "so slowly", "delicately", "tenderly", "sluggishly", "serenely", "a bit",
)  # fmt: skip
_QUICKLY = (
    "quickly", "quickly", "rapidly", "fast", "fast", "swiftly", "briskly", "at high speed", "violently", "wildly",
    "strongly", "furiously", "vigorously", "very fast", "very quickly", "hastily", "speedily", "at great speed",
    "energetically", "intensely", "fiercely", "with great force", "powerfully",
)  # fmt: skip
_EVENLY = (
    "steadily", "continuously", "smoothly", "constantly", "forever", "freely", "again and again", "naturally",
    "at a steady pace", "rhythmically", "silently", "majestically", "endlessly",
)  # fmt: skip
_SLOW_ADJ = ("slow", "gentle", "soft", "lazy", "slight", "gradual", "subtle", "leisurely", "faint")
_FAST_ADJ = ("fast", "quick", "rapid", "swift", "brisk", "strong", "violent", "wild", "vigorous")
_SLOW_WIND = ("gentle", "soft", "light", "faint", "mild", "slight", "weak", "slow")
_FAST_WIND = ("strong", "fierce", "violent", "powerful", "brisk", "fast")
_WIND = ("wind", "breeze", "air current")

_NOWHERE: dict[str, tuple[str, ...]] = {
    "drift": (
        "into the distance", "towards the distance", "towards the horizon", "away", "along", "by", "past", "on",
        "through the air", "toward the horizon", "to the distance", "toward the distance", "off into the distance",
        "towards the viewer", "forward", "onward", "ahead", "in the distance", "around", "about", "out to the horizon",
    ),
    "ripple": ("in the wind", "in the breeze", "up and down", "back and forth", "on the surface", "in the light"),
    "sway": (
        "in the wind", "in the breeze", "from side to side", "back and forth", "to and fro", "left and right",
        "up and down", "with the wind", "in a breeze", "in a gust",
    ),
    "swirl": ("around", "round and round", "in circles", "clockwise", "in spirals", "in the wind", "anticlockwise",
        "about"),
    "flicker": ("in the dark", "in the night", "on and off", "in the darkness", "at night", "in the wind"),
}  # fmt: skip

_WHERE = (
    "on the left", "on the right", "at the top", "at the bottom", "in the background", "in the foreground",
    "in the middle", "in the corner", "in the upper right", "in the lower left", "in the centre", "on the left side",
    "on the right side", "in the center", "at the left", "at the right", "at the left edge",
)  # fmt: skip
_SETTING = (
    "in the painting", "in the picture", "in this painting", "at dusk", "in the evening", "at night", "in the scene",
    "in the image", "at dawn", "all day", "all the time", "in the morning", "at sunrise", "in the rain", "in summer",
)  # fmt: skip
_OPENING = (
    "in the painting", "in this painting", "please", "a painting in which", "a painting where", "i want to see how",
    "we see how", "now", "here", "a scene where", "in this picture", "an oil painting in which", "in the scene", "then",
    "a video where", "as the wind blows", "a video in which", "an animation where", "imagine that", "a landscape where",
    "i would like it if", "it seems that", "at night", "in the evening",
)  # fmt: skip
_TITLE = ("painting", "picture", "view", "landscape", "seascape", "oil painting", "watercolour", "sketch", "scene",
    "portrait",
          "woodblock print", "masterpiece")  # fmt: skip
_FROZEN = (
    "nothing moves", "a still painting", "no motion", "everything is frozen", "everything is still", "nothing happens",
    "a still scene", "no movement", "everything stays still", "the painting stays still", "keep everything still",
    "without any motion", "the whole scene is still", "all is calm and still", "a static picture", "static",
    "the picture does not move", "do not move anything", "nothing changes", "everything remains motionless",
    "there is no movement at all", "it stays as it is", "freeze everything", "a motionless scene", "no animation",
    "a frozen moment", "the scene is completely still", "nothing in the painting moves", "stillness", "still",
    "everything stands still", "time stands still", "absolutely nothing moves", "leave the painting as it is",
    "the image remains static", "all things stay in place", "a still life", "motionless", "none of it moves",
    "be still",
)  # fmt: skip
_ALIVE = (
    "everything moves", "everything is moving", "bring the painting to life", "the whole painting comes alive",
    "animate the painting", "animate everything", "the painting comes to life", "make everything move",
    "the picture moves",
    "the scene comes to life", "animate the whole picture", "bring the picture to life", "all things move",
    "animate this painting", "the whole scene moves", "let everything move", "the entire painting moves", "animate it",
    "make it move", "bring it to life", "make the painting move", "everything is in motion", "animate",
)  # fmt: skip
_STILL_ADJ = ("still", "motionless", "frozen", "unmoving", "fixed", "static", "in place", "calm", "immobile", "at rest",
              "unchanged", "where it is")  # fmt: skip
_PLACES: dict[str, tuple[str, ...]] = {
    "sky": ("across", "in", "through", "under", "over", "against", "up in", "below"),
    "sun": ("under", "below", "around", "beneath", "in"),
    "water": ("on", "across", "over", "in", "along", "by", "upon", "near", "above", "down", "through"),
    "hill": ("over", "behind", "above", "on", "near", "across", "around", "along", "past", "beyond", "towards"),
    "house": ("over", "behind", "above", "near", "around", "beside", "past", "in front of", "from", "towards"),
    "tree": ("through", "behind", "above", "over", "between", "among", "beyond", "under", "past", "on"),
    "grass": ("in", "over", "across", "through", "above"),
    "flower": ("in", "over", "among", "near", "above"),
    "frame": ("inside", "within", "in"),
}
_ANYWHERE = ("over", "behind", "above", "near", "around", "beside", "past", "in front of", "towards", "from", "next to")
_JOIN = (
    " and ",
    " and ",
    " and ",
    " while ",
    ", ",
    ", and ",
    " as ",
    "; ",
    ". ",
    ", while ",
    " with ",
    " whilst ",
    " but ",
)
_GLUE = (
    "the a an of to and while with as but not only also just both some any is are be being that which there where"
    " when make"
    " let have cause get set keep begin begins start starts begun beginning keeps continue continues starting seem"
    " seems"
    " move moves moving moved animate animated motion movement come comes coming alive life stir stirs stirring in its"
    " their his her my your our this these those it they we i you he she stay stays remain remains stand stands staying"
    " remaining does do not don't doesn't didn't without from towards toward into onto leftward leftwards rightward"
    " rightwards upward upwards downward downwards westward westwards eastward eastwards northward northwards southward"
    " southwards left right up down east west north south northeast northwest southeast southwest top bottom upper"
    " lower"
    " corner side diagonally direction blown freeze out sets setting no except for all everything else never stops stop"
    " very quite really side edge other sides one another more less then same whole directions way each"
)


def _ing(verb: str) -> str:
    """The -ing form of a (possibly compound) verb."""
    if " and " in verb:
        return " and ".join(_ing(v) for v in verb.split(" and "))
    if verb in ("swim", "run", "spin", "bob", "step", "lap", "nod", "slip", "flap", "dim", "trot", "get", "set"):
        return verb + verb[-1] + "ing"
    return (verb[:-1] if verb.endswith("e") and not verb.endswith(("ee", "oe")) else verb) + "ing"


def _third(verb: str) -> str:
    """The third person singular of a (possibly compound) verb."""
    if " and " in verb:
        return " and ".join(_third(v) for v in verb.split(" and "))
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb[:-1] + "ies"
    return verb + ("es" if verb.endswith(("s", "sh", "ch", "o", "x")) else "s")


def _verbs_of(subject: str, kind: str) -> tuple[str, ...]:
    special = _SPECIAL.get(subject, {})
    general = [v for v in _VERBS[kind].split() if special.get(v, kind) == kind]
    own = [v for v, k in special.items() if k == kind]
    common = [v for v in _COMMON.get(subject, ()) if special.get(v, "drift") == kind]
    return tuple(own * 2 + common * 5 + general + _VERBS[kind].split()[:1] * 3 * (special.get(kind, kind) == kind))


_MEANING: dict[tuple[str, str], tuple[str, ...]] = {(s, k): _verbs_of(s, k) for s in SUBJECTS for k in KINDS}


def _toward(direction: tuple[float, float], r: random.Random) -> str:
    """One way to say where to."""
    x, y = direction
    sx = 0 if abs(x) < 0.383 else (1 if x > 0 else -1)
    sy = 0 if abs(y) < 0.383 else (1 if y > 0 else -1)
    if sx and sy:
        a, b = _SIDES[sx, 0], _SIDES[0, sy]
        across, along = a[0], b[0]
        high = {"up": ("upper", "top"), "down": ("lower", "bottom")}[along]
        return r.choice(
            (
                f"{along} and to the {across}", f"{along} to the {across}", f"{along} and {across}",
                f"{across} and {along}",
                f"{along}wards and to the {across}", f"to the {r.choice(high)} {across}",
                f"to the {across} and {along}",
                f"towards the {r.choice(high)} {across}", f"to the {r.choice(high)} {across} corner",
                f"diagonally {along} to the {across}", f"towards the {r.choice(high)} {across} corner",
                f"to the {b[1]}{a[1]}", f"{b[1]}{a[1]}", f"towards the {b[1]}{a[1]}", f"{along} {across}",
                f"diagonally {along} and {across}", f"{across}wards and {along}wards", f"towards the {b[1]} {a[1]}",
                f"from {r.choice(_OPPOSITE[along])} {_OPPOSITE[across][0]} to {r.choice(high)} {across}",
            )
        )  # fmt: skip
    word, compass = _SIDES[sx, sy]
    if sx:
        back = "left" if word == "right" else "right"
        return r.choice(
            (
                f"to the {word}", f"to the {word}", f"to the {word}", f"towards the {word}", f"{word}wards",
                f"{word}ward",
                f"toward the {word}", f"from {back} to {word}", f"from the {back} to the {word}", f"from the {back}",
                f"to the {compass}", f"{compass}wards", f"{compass}ward", f"towards the {compass}", word, compass,
                f"towards the {word} side", f"to the {word} side", f"to the {word} edge", f"in the {word} direction",
                f"out to the {word}", f"off to the {word}", f"to the {compass}", f"over to the {word}",
                f"from the {back} side to the {word} side", f"into the {word}",
            )
        )  # fmt: skip
    end, start = ("top", "bottom") if sy < 0 else ("bottom", "top")
    return r.choice(
        (
            word, f"{word}wards", f"{word}ward", f"from {start} to {end}", f"towards the {end}", f"to the {end}", word,
            f"from the {start} to the {end}", f"to the {compass}", f"{compass}wards", f"towards the {compass}",
            f"straight {word}", f"from the {start}", f"{word}wards",
        )
    )  # fmt: skip


_OPPOSITE = {"left": ("right",), "right": ("left",), "up": ("lower", "bottom"), "down": ("upper", "top")}
_TOWARD_WORDS = "straight off out over into"


def _nouns(subject: str) -> tuple[tuple[str, bool], ...]:
    one, many, mass = _NOUNS[subject]
    singles = [(w.replace("_", " "), False) for w in (one + " " + mass).split()]
    plurals = [(w.replace("_", " "), True) for w in many.split()]
    common = [n for n in (*singles[:3], *plurals[:3])]
    return tuple(singles + plurals * 2 + common * 3)


_NOUN_LIST = {s: _nouns(s) for s in SUBJECTS}
_MASS = {w.replace("_", " ") for one, many, mass in _NOUNS.values() for w in mass.split()}


def _phrase(subject: str, r: random.Random, adjective: str = "") -> tuple[str, bool]:
    """A noun phrase with article and adjective, and whether it is plural."""
    noun, plural = r.choice(_NOUN_LIST[subject])
    if not adjective and r.random() < 0.2:
        adjective = r.choice((_ADJECTIVES[""] if r.random() < 0.6 else _ADJECTIVES[subject]).split())
    body = f"{adjective} {noun}" if adjective else noun
    if ((plural or noun in _MASS) and r.random() < 0.4) or r.random() < 0.06:
        text = body
    elif not plural and noun not in _MASS and r.random() < 0.2:
        text = ("an " if body[0] in "aeiou" else "a ") + body
    else:
        text = r.choice(("the ", "the ", "the ", "the ", "the ", "these " if plural else "this ", "all the ")) + body
        text = text.replace("all the", "the") if not plural else text
    u = r.random()
    if u < 0.05:
        text += " " + r.choice(_WHERE)
    elif u < 0.09:
        text += " " + r.choice(("in", "on", "of")) + " the "
        text += r.choice(_NOUN_LIST[r.choice(("water", "tree", "hill", "sky", "house", subject))])[0]
    return text, plural


def _place(r: random.Random) -> str:
    """Somewhere, named after a subject that the phrase does not set in motion."""
    subject = r.choice(("sky", "sky", "water", "water", "hill", "tree", *SUBJECTS))
    noun = r.choice(_NOUN_LIST[subject])[0]
    return f"{r.choice(_PLACES.get(subject, _ANYWHERE))} {r.choice(('the', 'the', 'the', 'the', 'a', 'this'))} {noun}"


def _pace(speed: float, r: random.Random) -> str:
    if speed < 0.45:
        return r.choice(_SLOWLY)
    if speed > 0.8:
        return r.choice(_QUICKLY)
    return r.choice(_EVENLY) if r.random() < 0.12 else ""


def _generic(subject: str, motion: Motion) -> bool:
    """Whether "moves" alone says the kind."""
    kind = "drift" if subject == "water" and motion.direction is not None else _DEFAULT[subject]
    return motion.kind == kind


def _clause(
    group: Sequence[str], motion: Motion, r: random.Random, only: bool = False, first: bool = True, alone: bool = True
) -> str:
    """A clause that sets one or two subjects in the same motion; `alone`: no other clause sets anything in motion."""
    generic = all(_generic(s, motion) for s in group)
    where = _toward(motion.direction, r) if motion.direction is not None else ""
    if not where and r.random() < 0.25:
        where = r.choice(_NOWHERE[motion.kind])
    pace = _pace(motion.speed, r)
    place = _place(r) if r.random() < (0.16 if where else 0.22) else ""
    phrases = [_phrase(s, r) for s in group]
    subject = " and ".join(p for p, _ in phrases)
    plural = len(phrases) > 1 or phrases[0][1]
    if len(group) > 1 and r.random() < 0.1:
        subject = "both " + subject
    if only:
        subject = "only " + subject
    pick = r.random()

    def tail(*parts: str) -> str:
        kept = [p for p in parts if p]
        r.shuffle(kept)
        return "".join(" " + p for p in kept)

    if r.random() < 0.25:  # plainly
        pick, place = 0.0, ""
    finite = pick < 0.5 or pick >= 0.92
    steep = motion.direction is not None and abs(motion.direction[1]) > 0.4
    basic = _VERBS[motion.kind].split()
    if generic and r.random() < 0.22:
        verb = r.choice(("move", "move", "move", "stir", "come and go") if group[0] not in ("sun",) else ("move",))
        if verb == "come and go" and motion.kind != "drift":
            verb = "move"
    elif motion.kind == "drift" and motion.speed in _SPEEDY and finite and r.random() < 0.16:
        verb, pace = r.choice(_SPEEDY[motion.speed].split()), (pace if r.random() < 0.3 else "")
    elif motion.kind == "drift" and steep and finite and r.random() < 0.4:
        x, y = motion.direction or (0.0, 0.0)
        verb = r.choice(_STEEP[-1 if y < 0 else 1].split())
        if abs(x) > 0.4:
            where = r.choice(("to the ", "towards the ", "over to the ", "")) + ("right" if x > 0 else "left")
        elif r.random() < 0.6:
            where = ""
        if group == ("sun",) and y > 0 and abs(x) < 0.4 and r.random() < 0.4:
            verb = "set"
    else:
        common = set(_MEANING[group[0], motion.kind])
        for s in group[1:]:
            common &= set(_MEANING[s, motion.kind])
        verb = r.choice([v for v in _MEANING[group[0], motion.kind] if v in common] or basic[:1])
        if verb not in basic[:5] and basic[0] in common and r.random() < 0.15:
            verb = basic[0]

    if pick < 0.5:  # finite
        form = r.random()
        if form < 0.72:
            said = verb if plural else _third(verb)
        elif form < 0.9:
            said = ("are " if plural else "is ") + _ing(verb)
        elif form < 0.95:
            said = r.choice(("begin", "start", "continue") if plural else ("begins", "starts")) + " to " + verb
        else:
            said = r.choice(("keep ", "start ") if plural else ("keeps ", "continues ")) + _ing(verb)
        u = r.random()
        if pace and " " not in pace and u < 0.35 and pace not in ("fast", "slow"):
            return f"{subject} {pace} {said}{tail(where, place)}"
        if pace and u < 0.45 and (first or " " not in pace):
            return f"{pace}{r.choice((' ', ', '))}{subject} {said}{tail(where, place)}"
        if where and motion.direction is not None and u > 0.95 and first:
            return f"{where}{r.choice((' ', ', '))}{subject} {said}{tail(pace, place)}"
        if place and u > 0.9 and first:
            return f"{place}{r.choice((' ', ', '))}{subject} {said}{tail(where, pace)}"
        return f"{subject} {said}{tail(where, pace, place)}"
    if pick < 0.62:  # imperative
        opening = r.choice(("make", "make", "make", "let", "have"))
        lively = group == ("sun",) and motion.kind == "flicker"
        if lively and r.random() < 0.3:
            return f"animate {subject}{tail(pace, place)}"
        if generic and r.random() < 0.3 and group[0] != "sun":
            return f"{r.choice(('animate', 'animate', 'move'))} {subject}{tail(where, pace, place)}"
        return f"{opening} {subject} {verb}{tail(where, pace, place)}"
    if pick < 0.72 and (_TRANSITIVE[motion.kind] or generic) and not only:  # something moves it
        adjective = ""
        if motion.speed < 0.45 and r.random() < 0.6:
            adjective, pace = r.choice(_SLOW_WIND), ""
        elif motion.speed > 0.8 and r.random() < 0.6:
            adjective, pace = r.choice(_FAST_WIND), ""
        agent = f"{r.choice(('the', 'a', 'the', ''))} {adjective} {r.choice(_WIND)}".strip().replace("  ", " ")
        if generic and r.random() < 0.25:
            moved = f"{'are' if plural else 'is'} {r.choice(('blown', 'moved'))}"
            return f"{subject} {moved} by {agent}{tail(where, pace)}"
        does = r.choice(("blow", "move", "stir", "blow")) if generic and r.random() < 0.6 else ""
        does = does or r.choice(_TRANSITIVE[motion.kind] or ("move",))
        if does == "rustle" and not all(s in ("tree", "grass", "flower") for s in group):
            does = "sway"
        return f"{agent} {_third(does)} {subject}{tail(where, pace)}"
    if pick < 0.84:  # participles
        if len(group) == 1 and r.random() < 0.5 and " " not in verb:
            few = _SLOW_ADJ[:4] if motion.speed < 0.45 else _FAST_ADJ[:5] if motion.speed > 0.8 else ()
            manner = (pace if pace.endswith("ly") and " " not in pace else r.choice(few) if few else "") + " "
            noun = r.choice(_NOUN_LIST[group[0]])[0]
            return f"{r.choice(('the ', '', ''))}{manner.lstrip()}{_ing(verb)} {noun}{tail(where, place)}"
        return f"{subject} {_ing(verb)}{tail(where, pace, place)}"
    if pick < 0.92 and alone:  # nominal
        quick = _SLOW_ADJ if motion.speed < 0.45 else _FAST_ADJ if motion.speed > 0.8 else ()
        names = _NOUN_OF_KIND[motion.kind] + (("motion", "movement") if generic else ())
        names = tuple(n for n in names if (n != "flow" or "flag" not in group)) if motion.kind != "sway" else names
        if set(group) & {"sun", "fire", "lamp"} and motion.kind == "ripple":
            names = ("ripple", "rippling", "undulation")
        name = f"{r.choice(quick)} {r.choice(names)}" if quick else r.choice(names)
        name = name.replace("trembling", "rippling")
        return f"{r.choice(('the', 'a', ''))} {name} of {subject}{tail(where, place)}".strip()
    return f"{subject} {verb if plural else _third(verb)}{tail(where, pace, place)}"


def _still_clause(subjects: Sequence[str], r: random.Random) -> str:
    """A clause that holds subjects in place."""
    phrases = [_phrase(s, r) for s in subjects]
    text, plural = " and ".join(p for p, _ in phrases), len(phrases) > 1 or phrases[0][1]
    verb = r.choice(("move", "move", r.choice(r.choice(tuple(_VERBS.values())).split())))
    adj = r.choice(_STILL_ADJ[:-1])
    return r.choice(
        (
            f"{text} {'stay' if plural else 'stays'} {adj}", f"{text} {'remain' if plural else 'remains'} {adj}",
            f"{text} {'stay' if plural else 'stays'} still", f"{text} {'are' if plural else 'is'} {adj}",
            f"{text} {'do' if plural else 'does'} not {verb}", f"{text} {'stand' if plural else 'stands'} still",
            f"{text} {r.choice(('dont', 'do not')) if plural else r.choice(('doesnt', 'never'))} {verb}",
            f"keep {text} {adj}", f"do not move {text}", f"freeze {text}", f"no motion of {text}", f"{text} {adj}",
        )
    )  # fmt: skip


def _finish(text: str, r: random.Random) -> str:
    """Capitals and punctuation as people leave them."""
    text = " ".join(text.split())
    u = r.random()
    if u < 0.6:
        text = text[0].upper() + text[1:]
    elif u < 0.65:
        text = text.upper()
    elif u < 0.68:
        text = text.title()
    return text + r.choice((".", ".", ".", "", "", "!", "..."))


def everything(speed: float = UNSAID) -> Plan:
    """The plan of "everything moves": each subject that can move does so in its own way."""
    return {s: Motion(_DEFAULT[s], None, speed) for s in SUBJECTS if s not in ("hill", "house", "frame")}


def describe(plan: Plan, rng: np.random.Generator, still: Sequence[str] = ()) -> str:
    """One of many sentences that mean `plan`; `still` names subjects that may be said to stay as they are."""
    r = random.Random(int(rng.integers(1 << 62)))
    for _ in range(20):
        text = _finish(_sentence(plan, r, [s for s in still if s not in plan]), r)
        if len(text.split()) <= 30:
            break
    return text


def _sentence(plan: Plan, r: random.Random, still: list[str]) -> str:
    if not plan:
        u = r.random()
        if still and u < 0.5:
            return _still_clause(still[:2], r) + r.choice(("", "", "", " " + r.choice(_SETTING)))
        if still and u < 0.62:
            return f"a {r.choice(_TITLE)} of " + " and ".join(_phrase(s, r)[0] for s in still[:2])
        return r.choice(_FROZEN)
    if len(plan) > 5 and plan == everything(next(iter(plan.values())).speed):
        pace = _pace(next(iter(plan.values())).speed, r)
        return r.choice(_ALIVE) + (" " + pace if pace else "")
    groups: list[tuple[tuple[str, ...], Motion]] = []
    for subject in r.sample(sorted(plan), len(plan)):
        motion = plan[subject]
        for i, (group, other) in enumerate(groups):
            if other == motion and len(group) < 2 and r.random() < 0.5:
                groups[i] = ((*group, subject), motion)
                break
        else:
            groups.append(((subject,), motion))
    if len(groups) < 3 and r.random() < 0.1:
        group, motion = r.choice(groups)
        groups.append((group[:1], motion))
    only = len(groups) == 1 and r.random() < 0.04
    clauses = [_clause(g, m, r, only, i == 0, len(groups) == 1) for i, (g, m) in enumerate(groups)]
    spoken = still[: r.choice((1, 1, 2))]
    if spoken and r.random() < 0.5:
        clauses.insert(len(clauses) if r.random() < 0.7 else 0, _still_clause(spoken, r))
    text = clauses[0]
    for clause in clauses[1:]:
        text += r.choice(_JOIN) + clause
    u = r.random()
    if u < 0.08:
        text = r.choice(_OPENING) + r.choice((" ", " ", ", ")) + text
    elif u < 0.11:
        shown = _phrase(r.choice(still or sorted(plan)), r)[0]
        text = f"a {r.choice(_TITLE)} of {shown}{r.choice((' where ', ', ', ': ', '. ', ' in which '))}{text}"
    elif u < 0.13:
        text = r.choice(("as the wind blows, ", "the wind blows and ", "in the wind, ", "when the wind blows ")) + text
    elif u < 0.15 and len(groups) == 1:
        text += " and nothing else moves" if r.random() < 0.5 else " while everything else stays still"
    if r.random() < 0.05:
        text += " " + r.choice(_SETTING)
    return text


def random_plan(rng: np.random.Generator) -> tuple[Plan, list[str]]:
    """A plan to train on and up to two subjects said to be still: every subject, kind, direction and speed occurs."""
    r = random.Random(int(rng.integers(1 << 62)))
    order = r.sample(SUBJECTS, len(SUBJECTS))
    if r.random() < 0.1:
        return {}, order[: r.choice((0, 1, 2))]
    if r.random() < 0.012:
        return everything(r.choice((SLOW, UNSAID, FAST))), []
    order.sort(key=lambda s: s in ("hill", "house", "frame") and r.random() < 0.75)
    plan: Plan = {}
    count = r.choices((1, 2, 3), (0.5, 0.38, 0.12))[0]
    for subject in order[:count]:
        if plan and r.random() < 0.3:
            shared = next(iter(plan.values()))
            plan[subject] = shared
            continue
        kind = _DEFAULT[subject] if r.random() < 0.5 else r.choice(KINDS)
        direction = None
        if r.random() < {"drift": 0.6, "ripple": 0.25, "sway": 0.15, "swirl": 0.08, "flicker": 0.0}[kind]:
            x, y = r.choice(((1, 0), (-1, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)))
            norm = (x * x + y * y) ** 0.5
            direction = (x / norm, y / norm)
        plan[subject] = Motion(kind, direction, r.choice((SLOW, UNSAID, UNSAID, FAST)))
    return plan, order[count : count + r.choice((0, 0, 1, 2))]


def split(text: str) -> list[str]:
    """Lower-case words without punctuation; an apostrophe joins, anything else parts."""
    return re.findall(r"[^\W_]+", re.sub(r"['’`]", "", text.lower()))


@functools.cache
def words() -> tuple[str, ...]:
    """Every word a description may hold, sorted."""
    found: set[str] = set(split(_GLUE + " " + _TOWARD_WORDS + " by dont doesnt up down north south in"))
    verbs = {v for table in _VERBS.values() for v in table.split()}
    verbs |= {v for table in _SPECIAL.values() for v in table}
    verbs |= {v for table in (*_SPEEDY.values(), *_STEEP.values()) for v in table.split()}
    verbs |= {v for group in _TRANSITIVE.values() for v in group} | {"move", "blow", "stir", "come and go", "set"}
    for verb in verbs:
        found.update(split(f"{verb} {_third(verb)} {_ing(verb)}"))
    for nouns in _NOUNS.values():
        found.update(split(" ".join(nouns).replace("_", " ")))
    for text in _ADJECTIVES.values():
        found.update(split(text))
    tables = (
        _SLOWLY, _QUICKLY, _EVENLY, _SLOW_ADJ, _FAST_ADJ, _SLOW_WIND, _FAST_WIND, _WIND, _WHERE, _SETTING, _OPENING,
        _TITLE, _FROZEN, _ALIVE, _STILL_ADJ, _ANYWHERE, _JOIN, *_NOUN_OF_KIND.values(), *_NOWHERE.values(),
        *_PLACES.values(),
    )  # fmt: skip
    for table in tables:
        found.update(split(" ".join(table)))
    return tuple(sorted(found))
