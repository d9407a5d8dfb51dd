from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from avexp.core.hardware import Hardware, Precision, auto_precision, device_faults, faults

CONF = Path(__file__).resolve().parents[2] / "conf" / "hardware"


def profile(name, **changes):
    merged = OmegaConf.merge(
        OmegaConf.structured(Hardware), yaml.safe_load((CONF / f"{name}.yaml").read_text()), changes
    )
    return OmegaConf.to_object(merged)


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_profile_is_typed_and_names_its_sources(path):
    found = profile(path.stem)
    assert found.name == path.stem
    assert found.sources or found.accelerator.name == "cpu"


def test_what_does_not_fit_is_told_with_the_reason():
    assert faults(profile("cpu"), "train") == []
    assert "does not train" in faults(profile("xavier"), "train")[0]
    assert faults(profile("xavier"), "export") == []
    assert "bf16 needs compute capability 8.0" in faults(profile("dgx1_v100", precision="bf16"), "train")[0]
    assert "fp16 needs a GPU" in faults(profile("cpu", precision="fp16"), "train")[0]
    assert "no fp16 tensor cores" in faults(profile("p100", precision="fp16"), "train")[0]


def test_a_torch_without_the_cards_kernels(monkeypatch):
    monkeypatch.setattr("avexp.core.hardware.version", lambda name: "2.13.0+cu130")
    assert "install torch<=2.14 of the cu126 line" in faults(profile("dgx1_v100"), "train")[0]
    monkeypatch.setattr("avexp.core.hardware.version", lambda name: "2.13.0+cu126")
    assert faults(profile("dgx1_v100"), "train") == []
    monkeypatch.setattr("avexp.core.hardware.version", lambda name: "2.15.0+cu126")
    assert "holds no sm_70" in faults(profile("dgx1_v100"), "train")[0]


def test_too_few_gpus():
    assert "wants 8 GPUs a node, torch sees 0" in device_faults(profile("dgx1_v100"), 0, [])[0]
    assert "built for sm_90, the card is sm_70" in device_faults(profile("dgx1_v100"), 8, ["sm_90"])[0]
    assert device_faults(profile("cpu"), 0, []) == []


def test_auto_precision_says_why():
    assert auto_precision(profile("cpu"), {"avx512_bf16"}) == (
        Precision.bf16,
        "this CPU multiplies bf16 natively: avx512_bf16",
    )
    assert auto_precision(profile("cpu"), set())[0] is Precision.fp32
    assert auto_precision(profile("dgx_h200"))[0] is Precision.bf16
    assert auto_precision(profile("dgx1_v100"))[0] is Precision.fp16


def test_counts_are_checked():
    with pytest.raises(Exception, match="devices must be at least 1"):
        profile("cpu", devices=0)
