import ast
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from toy_bundle import HEIGHT, WIDTH, toy_bundle

from avexp.runtime.errors import BundleError
from avexp.runtime.loading import load
from avexp.runtime.manifest import manifest_digest

ROOM = Path(__file__).resolve().parents[2] / "avexp" / "runtime"
FRAMES = np.random.default_rng(3).integers(0, 255, (6, HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.fixture
def bundle(tmp_path):
    return toy_bundle(tmp_path / "bundle")


def test_the_first_plan_that_fits_is_taken_and_the_others_reasons_are_told(bundle):
    runtime = load(str(bundle), threads=1)
    assert runtime.plan["id"] == "ort"
    assert runtime.reasons == ["trt: is pending_target", "bad: was refused by its gate"]


def test_engines_agree_and_batches_are_split(bundle):
    one = load(str(bundle), plan="ort", threads=1).infer(FRAMES)
    two = load(str(bundle), plan="ov", threads=1).infer(FRAMES)
    assert one["path"].shape == (6, 2, 2)
    assert np.abs(one["path"] - two["path"]).max() < 1e-5
    assert np.allclose(one["curvature"], one["path"].sum((1, 2)), atol=1e-5)


def test_a_refused_plan_needs_a_word(bundle):
    with pytest.raises(BundleError, match="refused by its gate"):
        load(str(bundle), plan="bad")
    assert load(str(bundle), plan="bad", allow_refused=True).plan["id"] == "bad"
    with pytest.raises(BundleError, match="it has trt, bad, ort, ov"):
        load(str(bundle), plan="nope")


def test_backend_and_precision_choose_too(bundle):
    assert load(bundle, backend="openvino").plan["id"] == "ov"
    assert load(bundle, precision="int8", allow_refused=True).plan["id"] == "bad"
    with pytest.raises(BundleError, match="backend=openvino precision=int8: is not in the bundle"):
        load(bundle, backend="openvino", precision="int8")


def test_an_engine_that_breaks_is_passed_over_with_its_reason(bundle, monkeypatch):
    def broken(self, path, plan, threads):
        raise ImportError("libgomp.so.1: cannot open shared object file")

    monkeypatch.setattr("avexp.runtime.engine_onnxruntime.Engine.__init__", broken)
    runtime = load(bundle, threads=1)
    assert runtime.plan["id"] == "ov"
    assert runtime.reasons[-1] == "ort: its engine cannot load it (libgomp.so.1: cannot open shared object file)"
    with pytest.raises(BundleError, match="no plan of it runs here .ort: its engine cannot load it"):
        load(bundle, plan="ort")


def tamper_file(bundle):
    path = bundle / "plans" / "toy.onnx"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(bytes(content))


def edit(bundle, sealed=True, **changes):
    manifest = json.loads((bundle / "manifest.json").read_text())
    for plan in manifest["plans"]:
        plan.update(changes)
    if sealed:
        manifest["digest"] = manifest_digest(manifest)
    (bundle / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (tamper_file, "was changed: its sha256"),
        (lambda b: (b / "plans" / "toy.onnx").write_bytes(b"x"), "has 1 bytes"),
        (lambda b: (b / "plans" / "toy.onnx").unlink(), "is missing"),
        (lambda b: (b / "manifest.json").unlink(), "no such file"),
        (lambda b: (b / "manifest.json").write_text("{"), "cannot be read"),
        (lambda b: (b / "manifest.json").write_text('{"format": 9}'), "format 9 is unknown"),
        (lambda b: edit(b, sealed=False, batch={"max": 100}), "was changed after it was written"),
        (lambda b: edit(b, file="../toy.onnx"), "outside the bundle"),
        (lambda b: edit(b, file="/etc/passwd"), "outside the bundle"),
        (lambda b: edit(b, requires={"arch": "riscv"}), "needs arch riscv"),
        (lambda b: edit(b, backend="nowhere"), "backend nowhere is unknown"),
        (lambda b: edit(b, batch={}), "has no largest batch"),
        (lambda b: edit(b, requires={"isa": ["avx9000"]}), "needs the CPU's avx9000"),
    ],
)
def test_a_damaged_bundle_is_one_line(bundle, damage, text):
    damage(bundle)
    with pytest.raises(BundleError, match=text) as fault:
        load(str(bundle))
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize(
    ("frames", "text"),
    [
        (FRAMES.astype(np.float32), "are float32"),
        (FRAMES[0], "have shape"),
        (FRAMES[:, :4], "takes .B, 8, 12, 3."),
        ([1], "are list"),
    ],
)
def test_frames_that_do_not_fit_are_one_line(bundle, frames, text):
    with pytest.raises(BundleError, match=text):
        load(str(bundle)).infer(frames)


def test_benchmark(bundle):
    figures = load(str(bundle), threads=1).benchmark(FRAMES[:1], runs=5, warmup=1)
    assert figures["p50_ms"] <= figures["p99_ms"] <= figures["max_ms"]
    assert figures["fps"] == pytest.approx(1000 / figures["avg_ms"])
    assert figures["runs"] == 5
    assert load(bundle, threads=1).benchmark(FRAMES[:1], warmup=0, seconds=0.0)["runs"] == 1


@pytest.mark.parametrize("file", sorted(ROOM.glob("*.py")), ids=lambda path: path.name)
def test_the_room_stands_alone_and_is_python_3_8(file):
    source = file.read_text()
    tree = ast.parse(source, feature_version=(3, 8))
    engines = {"onnxruntime", "openvino", "tensorrt", "PIL", "cv2"}
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module]
        for name in names:
            top = name.split(".")[0]
            assert top in sys.stdlib_module_names | {"numpy"} | engines, f"{file.name} imports {name}"
            assert top not in engines or node.col_offset > 0, "engines are imported late"


def test_it_ships_as_its_own_wheel(bundle, tmp_path):
    wheels, clean = tmp_path / "wheels", tmp_path / "clean"
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(wheels),
        str(ROOM),
    ]
    subprocess.run(build, check=True, capture_output=True, timeout=120)
    (wheel,) = wheels.glob("avexp_runtime-*.whl")
    subprocess.run([sys.executable, "-m", "zipfile", "-e", str(wheel), str(clean)], check=True, timeout=60)
    assert (clean / "avexp_runtime" / "loading.py").is_file()
    np.save(tmp_path / "frame.npy", FRAMES[0])
    # -I: neither the checkout nor the current folder is on the path
    program = f"import sys; sys.path.insert(0, {str(clean)!r}); sys.argv = ['x', {str(bundle)!r}, {str(tmp_path / 'frame.npy')!r}]; import runpy; runpy.run_module('avexp_runtime', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["path"]) == 2
    assert "plan ort: p50" in done.stderr
    assert "passed over bad: was refused by its gate" in done.stderr
