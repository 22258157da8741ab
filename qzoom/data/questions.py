"""Questions about a scene, with answer, evidence box and whether the coarse picture suffices."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from qzoom.data.phrasing import NOUNS, PHRASINGS, PLACE_PHRASES
from qzoom.data.scene import Box, Item, Scene
from qzoom.data.vocabulary import COLOURS, SHAPES, plural

Group = Literal["detail", "print", "coarse"]
"""detail: small print; print: the same templates, but readable coarse; coarse: nothing to read."""

Kind = Literal["code", "which", "count", "exists", "where", "shape", "colour", "what"]
READING: tuple[Kind, ...] = ("code", "which")
LOOKING: tuple[Kind, ...] = ("count", "exists", "where", "shape", "colour", "what")

NONE_ANSWER = "none"


@dataclass(frozen=True, slots=True)
class Question:
    """A question that the scene answers."""

    text: str
    answer: str
    kind: Kind
    group: Group
    needs_detail: bool
    evidence_px: Box | None
    """Box that decides the answer, for measuring; None if the whole picture does."""
    reference: str = ""
    """The words of `text` that name what to look at, "" where there are none."""
    referents_px: tuple[Box, ...] = ()
    """Boxes of all items that these words fit."""


def sample_question(
    rng: random.Random, scene: Scene, kind: Kind, item: Item | None = None
) -> Question | None:
    """Ask one question.

    Args:
        rng: Source of all choices.
        scene: What is asked about.
        kind: Template to ask from.
        item: Ask about this item; any item when None. Ignored by "count".

    Returns:
        The question, or None where this scene has no unambiguous one of that kind.
    """
    return _SAMPLERS[kind](rng, scene, item or rng.choice(scene.items))


def phrase(rng: random.Random, kind: Kind, **parts: str) -> str:
    """Fill one of a kind's phrasings."""
    return rng.choice(PHRASINGS[kind]).format(**parts)


def _references(rng: random.Random, scene: Scene, item: Item) -> dict[str, str]:
    """Ways to name one item without doubt: what is named -> "the red star"."""
    pairs = Counter((i.colour, i.shape) for i in scene.items)
    shapes, colours = Counter(i.shape for i in scene.items), Counter(i.colour for i in scene.items)
    found = {}
    if pairs[item.colour, item.shape] == 1:
        found["both"] = f"the {item.colour} {item.shape}"
    if shapes[item.shape] == 1:
        found["shape"] = f"the {item.shape}"
    if colours[item.colour] == 1:
        found["colour"] = f"the {item.colour} {rng.choice(NOUNS)}"
    if len(scene.items) > 1:
        found["place"] = f"the {rng.choice(NOUNS)} {rng.choice(PLACE_PHRASES[item.place])}"
    return found


def _choose(rng: random.Random, scene: Scene, item: Item, allowed: str) -> str | None:
    names = _references(rng, scene, item)
    if "both" in names and "both" in allowed and rng.random() < 0.6:
        return names["both"]
    ways = [text for way, text in names.items() if way in allowed.split()]
    return rng.choice(ways) if ways else None


def _code(rng: random.Random, scene: Scene, item: Item) -> Question | None:
    ref = _choose(rng, scene, item, "both shape colour place")
    if ref is None:
        return None
    group: Group = "detail" if item.is_small else "print"
    text = phrase(rng, "code", ref=ref)
    box = item.evidence_px
    return Question(text, item.code, "code", group, item.is_small, box, ref, (box,))


def _which(rng: random.Random, scene: Scene, item: Item) -> Question | None:
    """From code to icon; asked where at most one code is small, so that one look can settle it."""
    small = [i for i in scene.items if i.is_small]
    if len(small) > 1:
        return None
    if rng.random() < 0.25:
        code = _absent_code(rng, scene)
        text = phrase(rng, "which", code=code)
        group: Group = "detail" if small else "print"
        box = small[0].evidence_px if small else None
        return Question(text, NONE_ANSWER, "which", group, bool(small), box)
    if small and rng.random() < 0.4:
        item = small[0]
    group = "detail" if item.is_small else "print"
    text = phrase(rng, "which", code=item.code)
    answer = f"{item.colour} {item.shape}"
    return Question(text, answer, "which", group, item.is_small, item.evidence_px)


def _absent_code(rng: random.Random, scene: Scene) -> str:
    taken = {i.code for i in scene.items}
    while True:
        code = "".join(rng.choice("0123456789") for _ in range(rng.choice((3, 4))))
        if code not in taken:
            return code


def _count(rng: random.Random, scene: Scene, item: Item) -> Question:
    colour, shape = item.colour, item.shape
    if rng.random() < 0.3:  # now and then what may not be there
        colour, shape = rng.choice(sorted(COLOURS)), rng.choice(SHAPES)
    way = rng.random()
    if way < 0.15:
        many, matching = plural(rng.choice(NOUNS)), list(scene.items)
    elif way < 0.5:
        many, matching = plural(shape), [i for i in scene.items if i.shape == shape]
    elif way < 0.8:
        many = f"{colour} {plural(rng.choice(NOUNS))}"
        matching = [i for i in scene.items if i.colour == colour]
    else:
        many = f"{colour} {plural(shape)}"
        matching = [i for i in scene.items if (i.colour, i.shape) == (colour, shape)]
    found, count = tuple(i.icon_px for i in matching), len(matching)
    return Question(
        phrase(rng, "count", many=many), str(count), "count", "coarse", False, None, many, found
    )


def _exists(rng: random.Random, scene: Scene, item: Item) -> Question:
    colour, shape = item.colour, item.shape
    pairs = {(i.colour, i.shape) for i in scene.items}
    if rng.random() < 0.5:
        # Mostly pairs of a colour and a shape that are both there, so that half a look is no help.
        colours, shapes = {c for c, _ in pairs}, {s for _, s in pairs}
        absent = sorted((c, s) for c in colours for s in shapes if (c, s) not in pairs)
        if not absent or rng.random() < 0.3:
            absent = sorted((c, s) for c in COLOURS for s in SHAPES if (c, s) not in pairs)
        colour, shape = rng.choice(absent)
    there = (colour, shape) in pairs
    article = "an" if colour[0] in "aeiou" else "a"
    text = phrase(rng, "exists", ref_a=f"{article} {colour} {shape}")
    found = tuple(i.icon_px for i in scene.items if (i.colour, i.shape) == (colour, shape))
    answer, ref = "yes" if there else "no", f"{colour} {shape}"
    return Question(text, answer, "exists", "coarse", False, None, ref, found)


def _where(rng: random.Random, scene: Scene, item: Item) -> Question | None:
    ref = _choose(rng, scene, item, "both shape colour") if len(scene.items) > 1 else None
    if ref is None:
        return None
    return _coarse("where", phrase(rng, "where", ref=ref), item.place, item, ref)


def _shape(rng: random.Random, scene: Scene, item: Item) -> Question | None:
    ref = _choose(rng, scene, item, "colour place")
    if ref is None:
        return None
    return _coarse("shape", phrase(rng, "shape", ref=ref), item.shape, item, ref)


def _colour(rng: random.Random, scene: Scene, item: Item) -> Question | None:
    ref = _choose(rng, scene, item, "shape place")
    if ref is None:
        return None
    return _coarse("colour", phrase(rng, "colour", ref=ref), item.colour, item, ref)


def _what(rng: random.Random, scene: Scene, item: Item) -> Question | None:
    if len(scene.items) == 1:
        return None
    at = rng.choice(PLACE_PHRASES[item.place])
    answer = f"{item.colour} {item.shape}"
    return _coarse("what", phrase(rng, "what", at=at), answer, item, at)


def _coarse(kind: Kind, text: str, answer: str, item: Item, ref: str) -> Question:
    box = item.icon_px
    return Question(text, answer, kind, "coarse", False, box, ref, (box,))


_SAMPLERS: dict[Kind, Callable[[random.Random, Scene, Item], Question | None]] = {
    "code": _code,
    "which": _which,
    "count": _count,
    "exists": _exists,
    "where": _where,
    "shape": _shape,
    "colour": _colour,
    "what": _what,
}
