import pytest

from training.recipe import load_recipe

MINIMAL = """
name: tiny
base:
  clock: steps
  steps: 4
  phases: [{name: only, share: 1, lr_start: 0.001, lr_end: 0, modes: {item: 1}}]
"""


def write(tmp_path, text: str) -> str:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return str(path)


def test_built_in_recipe_loads():
    recipe = load_recipe("built-in")
    assert recipe.base.phases[-1].lr_end == 0
    assert recipe.size.mrope_section == (4, 6, 6)
    assert not recipe.base.phases[0].answers  # the vision tower learns to see first


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("steps: 4", "stepz: 4", "stepz"),
        ("steps: 4", "steps: many", "base.steps is 'many', must be int"),
        ("share: 1", "share: 0.5", "sum to 0.5"),
        ("name: tiny", "", "name"),
    ],
)
def test_a_wrong_recipe_is_refused_by_name(tmp_path, old, new, message):
    with pytest.raises(ValueError, match=message):
        load_recipe(write(tmp_path, MINIMAL.replace(old, new)))


def test_unknown_recipe_names_the_known_ones():
    with pytest.raises(ValueError, match="built-in"):
        load_recipe("no-such")
