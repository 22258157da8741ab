"""Conversations in the style of LLaVA: pictures by path, turns of "human" and "gpt".

    {"id": "7", "image": "a.png", "conversations": [
        {"from": "human", "value": "<image> What is the code?"},
        {"from": "gpt", "value": "4071"}]}

`image` may be a list; the n-th `<image>` in the turns stands for the n-th picture, and pictures
without a mark come before the first question. The published Post-SFT files have this form. A
conversation of several rounds gives one record for each, with the rounds before it as its context.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from qzoom.contracts.conversation import Conversation, Picture, Role, Text, Turn
from qzoom.data.readers.fields import box_of, flag_of, texts_of
from qzoom.data.readers.images import ImageFolder
from qzoom.data.readers.lines import read_json_items
from qzoom.data.readers.problems import BadRecord, Problems
from qzoom.data.readers.record import Record

MARK = "<image>"
_ROLES: dict[str, Role] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}


def read_llava(path: Path, problems: Problems, image_root: Path | None = None) -> Iterator[Record]:
    """Read a LLaVA-style file.

    Args:
        path: `.jsonl`, or `.json` with one list.
        problems: Takes what is skipped.
        image_root: Folder of the pictures; the file's own if not given.

    Yields:
        One record for each answered round.

    Raises:
        InvalidRequest: If the file cannot be read at all.
    """
    folder = ImageFolder(image_root or path.parent)
    for where, item in read_json_items(path, problems):
        try:
            records = list(_records(item, where, folder))
        except BadRecord as error:
            problems.add(where, error)
        else:
            yield from records


def _records(item: Mapping[str, Any], where: str, folder: ImageFolder) -> Iterator[Record]:
    names = texts_of(item, "image", "images") if _has_image(item) else ()
    images = tuple(folder.find(name) for name in names)
    turns = _turns(item.get("conversations", item.get("messages")), len(images))
    identity = str(item.get("id", item.get("question_id", where)))
    rounds = [i for i, turn in enumerate(turns) if turn.role == "assistant"]
    if not rounds:
        raise BadRecord("the conversation has no answer")
    for number, index in enumerate(rounds):
        if index == 0 or turns[index - 1].role != "user":
            raise BadRecord("an answer does not follow a question")
        yield Record(
            id=identity if len(rounds) == 1 else f"{identity}/{number}",
            images=images,
            conversation=turns[:index],
            answers=(_text(turns[index]).strip(),),
            group=str(item.get("group", item.get("dataset", "all"))),
            needs_detail=flag_of(item, "needs_detail"),
            evidence_px=box_of(item, "evidence_px"),
        )


def _has_image(item: Mapping[str, Any]) -> bool:
    return item.get("image") is not None or bool(item.get("images"))


def _turns(said: object, num_images: int) -> Conversation:
    if not isinstance(said, list) or not said:
        raise BadRecord("the record has no conversations")
    turns, marks = [], 0
    for turn in said:
        role, text = _said(turn)
        parts: list[Text | Picture] = []
        for number, piece in enumerate(text.split(MARK)):
            if number:
                parts.append(Picture(marks))
                marks += 1
            if piece.strip("\n"):
                parts.append(Text(piece.strip("\n")))
        turns.append(Turn(role, tuple(parts)))
    if marks > num_images:
        raise BadRecord("there are more <image> marks than pictures", f"{marks} > {num_images}")
    unmarked = tuple(Picture(i) for i in range(marks, num_images))
    first = next((i for i, turn in enumerate(turns) if turn.role == "user"), None)
    if first is None:
        raise BadRecord("the conversation has no question")
    turns[first] = Turn("user", unmarked + turns[first].parts)
    if any(not _text(turn).strip() for turn in turns if turn.role == "user"):
        raise BadRecord("a question is empty")
    return tuple(turns)


def _said(turn: object) -> tuple[Role, str]:
    if not isinstance(turn, dict):
        raise BadRecord("a turn is no JSON object")
    speaker, text = turn.get("from", turn.get("role")), turn.get("value", turn.get("content"))
    if not isinstance(speaker, str) or speaker not in _ROLES:
        raise BadRecord("a turn is said by nobody known", repr(speaker)[:40])
    if not isinstance(text, str):
        raise BadRecord("a turn has no text", repr(text)[:40])
    return _ROLES[speaker], text


def _text(turn: Turn) -> str:
    return "".join(part.text for part in turn.parts if isinstance(part, Text))
