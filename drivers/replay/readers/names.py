"""Names of recorded channels: identifiers that say what the file says, and the direction that is often part of them."""

import keyword
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, field

from twinscope.capabilities import RESERVED_NAMES
from twinscope.requests import Direction

_DIRECTION = re.compile(
    r"(?P<base>.*?)[\s_\-(\[]*(?P<word>retrace|trace|forward|backward|fwd|bwd)[)\]\s]*", re.IGNORECASE | re.DOTALL
)
_BACKWARD = ("retrace", "backward", "bwd")
# Where a word of "NapPhase2Lock" begins; "dI" is one word.
_WORD_STARTS = re.compile(r"(?<=[a-z][a-z])(?=[A-Z])|(?<=\d)(?=[A-Z][a-z])|(?<=[A-Z])(?=[A-Z][a-z][a-z])")
_UNIT = re.compile(r"(?P<before>.*?)\s*\((?P<unit>[^()]*)\)\s*(?P<after>[^()]*)", re.DOTALL)


def split_direction(name: str) -> tuple[str, Direction | None]:
    """Take the direction off the end of a name: "HeightRetrace" gives "Height" and "backward"."""
    matched = _DIRECTION.fullmatch(name)
    if matched is None or not matched["base"]:
        return name, None
    return matched["base"], "backward" if matched["word"].lower() in _BACKWARD else "forward"


def split_unit(name: str) -> tuple[str, str]:
    """Take the unit out of a name: "Current (A) [bwd]" gives "Current [bwd]" and "A"."""
    matched = _UNIT.fullmatch(name)
    if matched is None:
        return name.strip(), ""
    return f"{matched['before']} {matched['after']}".strip(), matched["unit"]


def identifier(name: str) -> str:
    """Return an identifier that may name a channel: "LI Demod 1 X" gives "li_demod_1_x", "Height" "height_signal"."""
    text = "".join(_in_ascii(letter) for letter in _WORD_STARTS.sub("_", name))
    text = re.sub(r"[^0-9a-zA-Z]+", "_", text).strip("_").lower() or "channel"
    if text[0].isdigit():
        text = f"channel_{text}"
    return f"{text}_signal" if text in RESERVED_NAMES or keyword.iskeyword(text) else text


@dataclass(slots=True)
class Names:
    """The names of the channels of one file: each is used once.

    Attributes
    ----------
    given
        Names by what they stand for.
    taken
        The same names, each with the number that the next one gets that would be called so.
    images
        How many images there are already, by what tells them apart.
    """

    given: dict[tuple[str, ...], str] = field(default_factory=dict)
    taken: dict[str, int] = field(default_factory=dict)
    images: Counter[tuple[str, Direction, float]] = field(default_factory=Counter)

    def name(self, original: str, *also: str) -> str:
        """Return the name of a channel; the same for the same arguments, with a number if it was taken."""
        key = (original, *also)
        if key not in self.given:
            wanted = free = identifier(original)
            number = self.taken.get(wanted, 2)
            while free in self.taken:
                free, number = f"{wanted}_{number}", number + 1
            self.taken[wanted] = number
            self.given[key] = free
            self.taken.setdefault(free, 2)
        return self.given[key]

    def image(self, original: str, direction: Direction, time: float = 0.0) -> str:
        """Return the name of the channel of an image: another one when there is such an image already."""
        same = original, direction, time
        self.images[same] += 1
        number = self.images[same]
        return self.name(original) if number == 1 else self.name(original, str(number))


def _in_ascii(letter: str) -> str:
    """Spell a letter: "Δ" as "delta", "é" as "e", and what cannot be spelled as a gap."""
    if letter.isascii():
        return letter
    if unicodedata.name(letter, "").startswith("GREEK"):
        return f"_{unicodedata.name(letter).split()[-1].lower()}_"
    return unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode() or "_"
