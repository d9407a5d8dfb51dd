import pytest

from avexp.core.errors import ConfigError
from avexp.core.instantiate import build, refuse_untrusted


def test_build_and_its_errors():
    built = build({"_target_": "avexp.models.loss_weights.FixedWeights", "lanes": 2.0}, "x")
    assert built.weights == {"lanes": 2.0}
    assert build(None, "x") is None
    with pytest.raises(ConfigError, match=r"model\.backbone: .*widths"):
        build({"_target_": "avexp.models.resnet.ResNet", "widths": [1], "depths": [1, 2]}, "model.backbone")


@pytest.mark.parametrize(
    "target", ["os.system", "avexp.core.files.write_bytes", "avexp.models.resnet.os.system", "torch.hub.load"]
)
def test_a_config_from_elsewhere_names_no_other_code(target):
    with pytest.raises(ConfigError, match="may not be named by a config from elsewhere"):
        refuse_untrusted({"deep": [{"_target_": target}]}, "model")


def test_a_team_allows_its_own(monkeypatch):
    monkeypatch.setenv("AVEXP_ALLOW", "team")
    refuse_untrusted({"_target_": "team.heads.Head"}, "model")
