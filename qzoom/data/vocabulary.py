"""The closed world of the scenes: which shapes, colours and places exist, and their names."""

SHAPES: tuple[str, ...] = ("circle", "square", "triangle", "star", "diamond", "cross", "heart")

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 36, 36),
    "orange": (247, 140, 20),
    "yellow": (240, 208, 10),
    "green": (34, 150, 60),
    "blue": (36, 86, 214),
    "purple": (130, 50, 170),
    "pink": (250, 130, 190),
    "black": (28, 28, 28),
}

PLACES: tuple[tuple[str, str, str], ...] = (
    ("top left", "top", "top right"),
    ("left", "center", "right"),
    ("bottom left", "bottom", "bottom right"),
)
"""Name of each cell of the 3 x 3 layout, `PLACES[row][column]`."""

CODE_ALPHABET = "0123456789"
"""Characters that codes are made of (rung 1)."""


def plural(noun: str) -> str:
    """Plural of a shape's name ("cross" -> "crosses")."""
    return noun + ("es" if noun.endswith("s") else "s")
