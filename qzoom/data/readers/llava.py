"""Conversations in the style of LLaVA: pictures by path, turns of "human" and "gpt".

    {"id": "7", "image": "a.png", "conversations": [
        {"from": "human", "value": "<image> What is the code?"},
        {"from": "gpt", "value": "4071"}]}

`<image>` stands where the picture goes, which is always before the first question. The published
Post-SFT files have this form. A conversation of several rounds gives one record for each, with the
rounds before it as its history. Records with no picture or with several are skipped: the method
looks at one.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from qzoom.data.readers.fields import box_of, flag_of
from qzoom.data.readers.images import ImageFolder
from qzoom.data.readers.lines import read_json_items
from qzoom.data.readers.problems import BadRecord, Problems
from qzoom.data.record import Record

MARK = "<image>"
_ASKING, _ANSWERING = ("human", "user"), ("gpt", "assistant")


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
    value = item.get("image", item.get("images"))
    names = value if isinstance(value, list) else [value]
    if value is None or len(names) != 1:
        count = 0 if value is None else len(names)
        raise BadRecord("the record must have one picture", f"it has {count}")
    picture = folder.find(names[0])
    rounds = _rounds(item.get("conversations", item.get("messages")))
    identity = str(item.get("id", item.get("question_id", where)))
    for number, (question, answer) in enumerate(rounds):
        yield Record(
            id=identity if len(rounds) == 1 else f"{identity}/{number}",
            picture=picture,
            question=question,
            answers=(answer,),
            history=tuple(rounds[:number]),
            group=str(item.get("group", item.get("dataset", ""))),
            needs_detail=flag_of(item, "needs_detail"),
            evidence_px=box_of(item, "evidence_px"),
        )


def _rounds(said: object) -> list[tuple[str, str]]:
    """Pairs of question and answer."""
    if not isinstance(said, list) or not said:
        raise BadRecord("the record has no conversations")
    if len(said) % 2:
        raise BadRecord("the last question has no answer")
    texts = [_said(turn, _ANSWERING if i % 2 else _ASKING) for i, turn in enumerate(said)]
    marks = [text.count(MARK) for text in texts]
    if marks[0] > 1 or any(marks[1:]):
        raise BadRecord("<image> stands elsewhere than once in the first question")
    texts[0] = texts[0].replace(MARK, "").strip()
    if not all(texts[::2]):
        raise BadRecord("a question is empty")
    return list(zip(texts[::2], texts[1::2], strict=True))


def _said(turn: object, speakers: tuple[str, ...]) -> str:
    if not isinstance(turn, dict):
        raise BadRecord("a turn is no JSON object")
    speaker, text = turn.get("from", turn.get("role")), turn.get("value", turn.get("content"))
    if speaker not in speakers:
        raise BadRecord(f"a turn of {' or '.join(speakers)} is missing", repr(speaker)[:40])
    if not isinstance(text, str):
        raise BadRecord("a turn has no text", repr(text)[:40])
    return text.strip()
