import random
from collections import Counter

from qzoom.data.phrasing import PHRASINGS
from qzoom.data.questions import LOOKING, NONE_ANSWER, READING, sample_question
from qzoom.data.scene import sample_scene


def all_questions(count: int = 300):
    for seed in range(count):
        scene, rng = sample_scene(seed), random.Random(seed)
        for kind in (*READING, *LOOKING):
            question = sample_question(rng, scene, kind)
            if question is not None:
                yield scene, question


def test_every_kind_occurs():
    kinds = Counter(question.kind for _, question in all_questions())
    assert set(kinds) == set(PHRASINGS)


def test_reading_templates_occur_with_both_needs():
    """Else the wording alone would tell the gate what to do."""
    needs = {(q.kind, q.needs_detail) for _, q in all_questions()}
    for kind in READING:
        assert {(kind, True), (kind, False)} <= needs


def test_detail_questions_name_their_evidence():
    for scene, question in all_questions():
        assert question.needs_detail == (question.group == "detail")
        if question.needs_detail:
            assert question.evidence_px in [item.evidence_px for item in scene.items]


def test_answers_follow_from_the_scene():
    for scene, question in all_questions():
        codes = {item.code: f"{item.colour} {item.shape}" for item in scene.items}
        if question.kind == "code":
            assert question.answer in codes
        elif question.kind == "which":
            asked = "".join(char for char in question.text if char.isdigit())
            assert question.answer == codes.get(asked, NONE_ANSWER)
        elif question.kind == "count":
            assert 0 <= int(question.answer) <= len(scene.items)
        elif question.kind == "exists":
            pairs = [f"{item.colour} {item.shape}" for item in scene.items]
            assert question.answer == ("yes" if any(p in question.text for p in pairs) else "no")


def test_yes_and_no_are_balanced():
    answers = Counter(q.answer for _, q in all_questions(600) if q.kind == "exists")
    assert 0.4 < answers["yes"] / answers.total() < 0.6
