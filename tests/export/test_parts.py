import json
import os
import subprocess
from pathlib import Path

import pytest

from avexp.core.errors import ExportError
from avexp.export.build_spec import build_script, spec_for, trtexec_flags
from avexp.export.bundle import BundleWriter
from avexp.export.gate import judge_losses
from avexp.export.plans import profile
from avexp.export.tensorrt_builder import build, can_build
from avexp.metrics.bootstrap import Interval
from avexp.runtime.manifest import read_manifest

XAVIER = [
    "--onnx=model.int8.qdq.opset17.onnx",
    "--saveEngine=xavier-trt-int8.plan",
    "--minShapes=image:1x360x640x3",
    "--optShapes=image:1x360x640x3",
    "--maxShapes=image:8x360x640x3",
    "--memPoolSize=workspace:1024",
    "--timingCacheFile=timing.cache",
    "--fp16",
    "--int8",
]
"""The recorded line: a wanted change is made here too."""


RECORD = Path(__file__).with_name("build_xavier_int8.sh.txt")


def xavier():
    return spec_for(profile("xavier"), "int8", "model.int8.qdq.opset17.onnx", "image", (360, 640), 8, 1024)


def test_the_trtexec_line_is_the_recorded_one():
    assert trtexec_flags(xavier(), 8) == XAVIER
    assert build_script(xavier()) == RECORD.read_text(), f"if the change is wanted, write the new text to {RECORD.name}"
    assert trtexec_flags(xavier(), 11) == XAVIER[:-2], "11 is strongly typed"


@pytest.mark.parametrize(
    ("name", "precision", "version", "code", "word"),
    [
        ("xavier", "int8", "v8502", 0, "--int8"),
        ("xavier", "int8", "v8601", 1, "TensorRT 8.6 does not serve xavier: it takes 8.5 to 8.5"),
        ("xavier", "int8", "v100300", 1, "TensorRT 10.3 does not serve xavier"),
        ("xavier", "int8", "", 1, "no version"),
        ("dgx1_v100", "fp16", "v100400", 0, "--fp16"),
        ("dgx1_v100", "fp16", "v100500", 1, "TensorRT 10.5 does not serve dgx1_v100: it takes 8.5 to 10.4"),
        ("dgx_h200", "fp32", "v110401", 0, "--noTF32"),
        ("dgx_h200", "int8", "v110401", 0, "dgx_h200-trt-int8.plan"),
        ("dgx_h200", "fp16", "v110401", 1, "builds no fp16 plan from a float graph"),
        ("dgx_h200", "fp16", "v101601", 0, "--fp16"),
    ],
)
def test_the_build_script_asks_trtexec_for_its_version(tmp_path, name, precision, version, code, word):
    spec = spec_for(profile(name), precision, "model.onnx", "image", (360, 640), 8, 1024)
    (tmp_path / "build.sh").write_text(build_script(spec))
    fake = tmp_path / "bin" / "trtexec"
    fake.parent.mkdir()
    fake.write_text(
        f'#!/bin/sh\n[ "$1" = --help ] && echo "&&&& RUNNING TensorRT.trtexec [TensorRT {version}]" && exit 0\necho "$@"\n'
    )
    fake.chmod(0o755)
    environment = {**os.environ, "PATH": f"{fake.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", str(tmp_path / "build.sh")], capture_output=True, text=True, env=environment, timeout=20, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert word in done.stdout


def test_a_dla_takes_one_batch_size_and_fp16():
    spec = spec_for(profile("orin"), "fp16", "m.onnx", "image", (360, 640), 8, 1024, dla_core=1)
    assert (spec.plan, spec.batch) == ("orin-trt-fp16-dla1", (1, 1, 1))
    assert trtexec_flags(spec, 10)[-3:] == ["--fp16", "--useDLACore=1", "--allowGPUFallback"]
    with pytest.raises(ExportError, match="the platform has 0 DLA cores"):
        spec_for(profile("t4"), "fp16", "m.onnx", "image", (360, 640), 8, 1024, dla_core=0)
    with pytest.raises(ExportError, match="takes no int8 graph of ours"):
        spec_for(profile("xavier"), "int8", "m.onnx", "image", (360, 640), 8, 1024, dla_core=0)


def test_what_cannot_be_built_here_says_where(tmp_path):
    if can_build():
        pytest.skip("TensorRT and a driver are here")
    with pytest.raises(ExportError, match="run the bundle's build script on the target"):
        build(tmp_path / "x.json", tmp_path / "x.plan")


@pytest.mark.parametrize(
    ("loss", "passed", "word"),
    [
        (Interval(0.002, -0.001, 0.005), True, "proven"),
        (Interval(0.008, -0.002, 0.02), True, "not proven on these frames"),
        (Interval(0.012, 0.002, 0.02), False, "not proven on these frames"),
        (Interval(0.3, 0.2, 0.4), False, "refuted"),
        (Interval(float("nan"), float("nan"), float("nan")), False, "more than"),
    ],
)
def test_the_gate_decides_by_the_estimate_and_says_how_sure_it_is(loss, passed, word):
    verdict = judge_losses({"objects/ap50": loss, "lanes/f1": Interval(0, 0, 0)}, 0.01)
    assert verdict.passed is passed
    assert word in verdict.reasons[0]


def test_nothing_to_judge_is_refused():
    assert not judge_losses({}, 0.01).passed


def test_a_bundle_appears_whole_or_not_at_all(tmp_path):
    writer = BundleWriter(tmp_path / "bundle")
    writer.path("a.onnx").write_bytes(b"graph")
    writer.add_file("a.onnx")
    assert not (tmp_path / "bundle").exists()
    manifest = writer.finish(model={"heads": []})
    assert read_manifest(str(tmp_path / "bundle")) == json.loads(json.dumps(manifest))
    with pytest.raises(ExportError, match="a bundle is there already"):
        BundleWriter(tmp_path / "bundle")
    other = BundleWriter(tmp_path / "other")
    other.discard()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle"]


def test_an_unknown_target_tells_the_known():
    with pytest.raises(ExportError, match="did you mean xavier"):
        profile("xaviar")
