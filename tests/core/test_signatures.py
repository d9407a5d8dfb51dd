import pytest

from avexp.core.signatures import UnknownTargetError, signature_of


def test_own_class_without_importing_it():
    found = signature_of("avexp.models.resnet.ResNet")
    assert found.parameters["depths"].annotation == "Sequence[int]"
    assert not found.open_ended


def test_third_party_through_its_re_export():
    found = signature_of("torch.optim.AdamW")
    assert found.parameters["params"].required
    assert not found.parameters["lr"].required


def test_inherited_constructor():
    assert "steps" in signature_of("avexp.train.schedule.Constant").parameters


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("avexp.models.resnet.ResNit", "has no ResNit; it has ResidualBlock, ResNet"),
        ("avexp.models.nowhere.X", "no module avexp.models.nowhere"),
        ("nopackage.X", "no package nopackage"),
        ("X", "no dotted name"),
    ],
)
def test_unknown_targets_say_what_is_missing(target, text):
    with pytest.raises(UnknownTargetError, match=text):
        signature_of(target)


def test_a_file_that_is_no_python_is_named_with_its_line(tmp_path, monkeypatch):
    (tmp_path / "torn_team.py").write_text("import os\nclass Half(:\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UnknownTargetError, match=r"torn_team\.py, line 2, is no Python: invalid syntax"):
        signature_of("torn_team.Half")
