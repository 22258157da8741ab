import pytest

from deploy.k8s.values import load_values, merge, parse_setting


def test_later_values_win_key_by_key():
    merged = merge({"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"c": 3}, "d": [2]})

    assert merged == {"a": {"b": 1, "c": 3}, "d": [2]}


def test_a_setting_is_a_path_and_a_yaml_value():
    assert parse_setting("stages.llm.replicas.max=12") == {
        "stages": {"llm": {"replicas": {"max": 12}}}
    }
    assert parse_setting("a.b=x=y") == {"a": {"b": "x=y"}}
    assert parse_setting("a=[1, two]") == {"a": [1, "two"]}


@pytest.mark.parametrize("setting", ["a", "=1", "a..b=1", "a={"])
def test_a_broken_setting_is_refused_by_name(setting: str):
    with pytest.raises(ValueError, match=r"setting|YAML"):
        parse_setting(setting)


def test_files_profiles_and_settings_are_merged_in_this_order(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("redis: {enabled: true, size: 9Gi}\n")

    values = load_values(["local", str(file)], ["redis.size=7Gi"])

    assert values["redis"] == {"enabled": True, "size": "7Gi"}


def test_a_missing_file_is_named():
    with pytest.raises(ValueError, match=r"nowhere\.yaml"):
        load_values(["nowhere.yaml"])


def test_a_file_without_a_mapping_is_refused(tmp_path):
    (tmp_path / "list.yaml").write_text("[1, 2]\n")
    with pytest.raises(ValueError, match="mapping"):
        load_values([str(tmp_path / "list.yaml")])
