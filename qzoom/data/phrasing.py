"""How people word a question: several phrasings for each kind.

Placeholders: {ref} "the red star", {ref_a} "a red star", {many} "red stars", {code} "4071".
The tokenizer lowercases, and training drops question marks now and then.
"""

PHRASINGS: dict[str, tuple[str, ...]] = {
    "code": (
        "What is the code on {ref}?",
        "What is the code of {ref}?",
        "What code is printed on {ref}?",
        "What number is on {ref}?",
        "Which code does {ref} have?",
        "Read the code of {ref}.",
        "What is the number of {ref}?",
        "What does the text on {ref} say?",
        "What is written on {ref}?",
        "What is the code next to {ref}?",
        "What is the number under {ref}?",
        "Tell me the code of {ref}.",
    ),
    "which": (
        "Which icon has the code {code}?",
        "Which shape has the code {code}?",
        "What has the code {code}?",
        "Which object has the number {code}?",
        "What is next to the code {code}?",
    ),
    "count": (
        "How many {many} are there?",
        "How many {many} do you see?",
        "How many {many} are in the picture?",
        "Count the {many}.",
    ),
    "exists": (
        "Is there {ref_a}?",
        "Is there {ref_a} in the picture?",
        "Do you see {ref_a}?",
        "Can you see {ref_a} in the image?",
    ),
    "where": (
        "Where is {ref}?",
        "Where do you see {ref}?",
        "In which part of the picture is {ref}?",
        "Where in the image is {ref}?",
    ),
    "shape": (
        "What shape is {ref}?",
        "What is the shape of {ref}?",
        "Which shape is {ref}?",
    ),
    "colour": (
        "What color is {ref}?",
        "What colour is {ref}?",
        "What is the color of {ref}?",
        "Which color is {ref}?",
        "Which colour does {ref} have?",
    ),
    "what": (
        "What is {at}?",
        "What do you see {at}?",
        "Which icon is {at}?",
        "What is shown {at}?",
    ),
}

PLACE_PHRASES: dict[str, tuple[str, ...]] = {
    "top left": ("in the top left", "in the top left corner", "at the top left"),
    "top": ("at the top", "in the top middle"),
    "top right": ("in the top right", "in the top right corner", "at the top right"),
    "left": ("on the left", "on the left side"),
    "center": ("in the center", "in the middle", "in the centre"),
    "right": ("on the right", "on the right side"),
    "bottom left": ("in the bottom left", "in the bottom left corner", "at the bottom left"),
    "bottom": ("at the bottom", "in the bottom middle"),
    "bottom right": ("in the bottom right", "in the bottom right corner", "at the bottom right"),
}

NOUNS: tuple[str, ...] = ("icon", "object", "shape", "thing")
"""Words for any item, used where only its colour or place is named."""

PREFIXES: tuple[str, ...] = ("please tell me", "look at the picture", "hello", "question")
"""Said before a question now and then, followed by a comma or colon."""

SUFFIXES: tuple[str, ...] = (
    "\nAnswer the question using a single word or phrase.",
    " Answer briefly.",
    " Please answer.",
)
"""Said after a question now and then; the first is what Qwen's evaluation prompts append."""
