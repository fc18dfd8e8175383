"""The controlled words of performance annotation, each with its meaning and where it comes from.

The paper (arXiv 2604.07823) counts 78 emotions and 22 expression bases but publishes no list. `paper_page` marks the
words its project page shows in demos; `openlpm` marks the words added here to complete the counts. Words are
lower-case with underscores, so that SQL needs no case folding. Costs nothing: data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Origin = Literal["paper_page", "openlpm"]


@dataclass(frozen=True, slots=True)
class Term:
    """One word of a vocabulary; `doc` is empty where the word speaks for itself."""

    name: str
    origin: Origin
    doc: str = ""


@dataclass(frozen=True)
class Vocabulary:
    """An ordered set of terms of one kind."""

    kind: str
    doc: str
    terms: tuple[Term, ...]

    def __post_init__(self) -> None:
        names = self.names
        if len(set(names)) != len(names):
            raise ValueError(f"vocabulary {self.kind}: a term is listed twice")

    @property
    def names(self) -> tuple[str, ...]:
        """Return the words in their listed order."""
        return tuple(term.name for term in self.terms)

    def __contains__(self, name: object) -> bool:
        return name in self.names


def _paper(words: str) -> tuple[Term, ...]:
    return tuple(Term(word, "paper_page") for word in words.split())


def _own(words: str) -> tuple[Term, ...]:
    return tuple(Term(word, "openlpm") for word in words.split())


def _defined(words: dict[str, str], origin: Origin = "openlpm") -> tuple[Term, ...]:
    return tuple(Term(name, origin, doc) for name, doc in words.items())


EMOTIONS = Vocabulary(
    "emotion",
    "what the person seems to feel; 78, as many as the paper counts",
    _paper(
        "wariness smugness terror desperation frustration sadness fear shame grief regret remorse somberness resentment"
        " nervousness doubt skepticism uncertainty relief nostalgia desire sympathy love gratitude anger unease"
        " determination adoration hurt contemplative explanatory disbelief pride disappointment hopefulness confidence"
        " satisfaction irritation"
    )
    + _own(
        "neutral calmness contentment happiness joy amusement excitement enthusiasm playfulness triumph admiration awe"
        " affection tenderness compassion trust interest curiosity anticipation surprise shock confusion embarrassment"
        " shyness guilt jealousy contempt disgust annoyance rage hostility defiance bitterness suspicion anxiety worry"
        " horror despair loneliness boredom weariness"
    ),
)

EXPRESSIONS = Vocabulary(
    "expression",
    "what the face shows; 22, as many as the paper counts",
    _paper(
        "neutral thoughtful concern focus indignation smiling downcast disgust surprise performative confusion distress"
        " amusement laughing"
    )
    + _own("frowning squinting wide_eyed brow_raised tight_lipped pouting smirking crying"),
)

STANCES = Vocabulary(
    "stance",
    "how a listener takes what is said",
    _paper(
        "positive positive_agreeable neutral neutral_thinking negative negative_resistant negative_thinking",
    ),
)

RELATIONSHIPS = Vocabulary(
    "relationship",
    "how the two people stand to each other",
    _paper("stranger acquaintance formal casual_chat intimate superior_subordinate friend_conflict"),
)

PERSONALITIES = Vocabulary(
    "personality",
    "how the person comes across",
    _paper(
        "cautious emotional reserved energetic confident calm thoughtful empathetic warm stoic introspective analytical"
        " nervous"
    ),
)

SHOT_TYPES = Vocabulary(
    "shot_type",
    "how much of the person the picture holds, closest first",
    _defined(
        {
            "extreme_close_up": "part of the face, or the face filling the picture",
            "close_up": "head and shoulders' upper edge",
            "medium_close_up": "head and chest",
            "medium": "down to waist or hips",
            "medium_full": "down to the thighs or knees, or a seated person",
            "full": "the whole body",
        }
    ),
)

GAZES = Vocabulary(
    "gaze",
    "where the person looks; left and right are the picture's",
    _defined(
        {
            "camera": "into the lens",
            "partner": "towards the other person of the conversation",
            "left": "to picture left",
            "right": "to picture right",
            "up": "upwards",
            "down": "downwards",
            "wandering": "no target holds most of the time",
            "closed": "eyes shut most of the time",
            "unknown": "not measured",
        }
    ),
)

HEAD_MOTIONS = Vocabulary(
    "head_motion",
    "what the head does; left and right are the picture's",
    _defined(
        {
            "nod": "down and up, once or repeatedly",
            "shake": "from side to side, repeatedly",
            "turn_left": "held turn to picture left of the usual pose",
            "turn_right": "held turn to picture right of the usual pose",
            "tilt_left": "top of the head leans to picture left",
            "tilt_right": "top of the head leans to picture right",
            "raise": "held with the chin up",
            "lower": "held with the chin down",
            "still": "no visible motion",
        }
    ),
)

BODY_MOTIONS = Vocabulary(
    "body_motion",
    "how much the person moves about",
    _defined(
        {
            "still": "no visible displacement",
            "low": "small sway",
            "moderate": "clear movement",
            "high": "constant or large movement",
            "unknown": "not measured",
        }
    ),
)

SPEAKING_STYLES = Vocabulary(
    "speaking_style",
    "how a person speaks, by limits on pitch, level and syllable rate: heuristics",
    _defined(
        {
            "energetic": "a wide pitch range, fast or raised",
            "fast": "many syllables a second",
            "slow": "few syllables a second",
            "raised": "louder than this voice usually is",
            "soft": "quieter than this voice usually is",
            "monotone": "hardly any change of pitch",
            "lively": "a wide pitch range",
        }
    ),
)

CAMERA_MOTIONS = Vocabulary(
    "camera_motion",
    "how the camera moves, by the background; left and right are the picture's",
    _defined(
        {
            "static": "no motion beyond noise",
            "pan_left": "turns or moves to the left",
            "pan_right": "turns or moves to the right",
            "tilt_up": "turns or moves up",
            "tilt_down": "turns or moves down",
            "zoom_in": "zooms in or comes nearer",
            "zoom_out": "zooms out or draws back",
            "handheld": "moves without a direction",
            "unknown": "not measured: too little background to follow",
        }
    ),
)

CLOTHING_COLOURS = Vocabulary(
    "clothing_colour",
    "the colour below the chin, by a heuristic on portraits",
    _own("white grey beige red orange yellow green blue purple pink brown")
    + _defined({"dark": "black, navy or dark grey, which look alike on video"}),
)

HAIR = Vocabulary(
    "hair",
    "what is seen of the hair, by a captioner that looks at pictures",
    _own("black brown blond red grey white")
    + _defined({"bald": "no hair on the top of the head", "covered": "under a cap, scarf, helmet or hood"}),
)

PLACES = Vocabulary(
    "place",
    "where the person is, by a captioner that looks at pictures",
    _own("home office studio stage classroom shop restaurant vehicle street nature")
    + _defined({"other": "another place", "plain": "a plain or blurred background that tells nothing"}),
)

FACIAL_ACTIONS = Vocabulary(
    "facial_action",
    "single movements of the face, near the action units (AU) of the facial action coding system",
    _defined(
        {
            "smile": "lip corners pulled up (AU12)",
            "laugh": "smile with the jaw opening in the rhythm of laughter (AU12+26)",
            "brow_raise": "brows up (AU1+2)",
            "frown": "brows lowered and drawn together (AU4)",
            "squint": "lids tightened (AU7)",
            "wide_eyes": "upper lids raised (AU5)",
            "blink": "both eyes shut for less than half a second (AU45)",
            "eyes_closed": "both eyes shut for longer",
            "nose_wrinkle": "nose wrinkled or upper lip raised against lowered brows (AU9+10)",
            "lip_press": "lips pressed together (AU24)",
            "pucker": "lips pursed (AU18)",
            "mouth_frown": "lip corners pulled down or chin raised (AU15+17)",
            "jaw_open": "jaw held open (AU26)",
            "downcast": "eyes lowered",
        }
    ),
)

BODY_ACTIONS = Vocabulary(
    "body_action",
    "what trunk and hands do, by limits on body points",
    _defined(
        {
            "gesture": "a hand strokes through the air while it is seen",
            "lean": "the trunk stays nearer, farther or to one side of where it is in most of the clip",
        }
    ),
)

HANDS = Vocabulary(
    "hands",
    "what is seen of the hands in the clip's picture",
    _defined(
        {
            "gesturing": "in strokes for a quarter of the time or more",
            "raised": "a hand above the shoulders for half of the time or more",
            "at_face": "a hand at the face or the head likewise",
            "joined": "together likewise",
            "resting": "seen likewise, and neither of these",
            "sometimes_visible": "seen in less than half of the time",
            "out_of_view": "no hand is seen",
            "unknown": "not measured",
        }
    ),
)

VOCABULARIES: dict[str, Vocabulary] = {
    v.kind: v
    for v in (
        EMOTIONS,
        EXPRESSIONS,
        STANCES,
        RELATIONSHIPS,
        PERSONALITIES,
        SHOT_TYPES,
        GAZES,
        HEAD_MOTIONS,
        BODY_MOTIONS,
        SPEAKING_STYLES,
        CAMERA_MOTIONS,
        CLOTHING_COLOURS,
        HAIR,
        PLACES,
        FACIAL_ACTIONS,
        BODY_ACTIONS,
        HANDS,
    )
}
"""Controlled vocabularies by kind. One more kind of tag, `motion`, is open: the paper has 5,000+ motion descriptors."""
