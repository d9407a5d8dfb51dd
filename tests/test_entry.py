"""The commands as a user types them, small."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import ROOT, TINY, call


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def trained(home, lane_folder):
    out = call(home, "train.py", *TINY, f"data.source={lane_folder}")
    run = next(line.split()[1] for line in out.splitlines() if line.startswith("run "))
    return Path(run), out


@pytest.fixture(scope="module")
def exported(home, trained):
    words = [
        "backends=[onnxruntime]",
        "calibration_frames=4",
        "resamples=50",
        "benchmark_runs=5",
        "loss_max=1.0",
        "pictures=2",
        "store=none",
    ]
    out = call(home, "export.py", "run=latest", *words)
    return Path(next(line.split()[1] for line in out.splitlines() if line.startswith("bundle "))), out


def test_train_ends_with_what_came_out_and_what_to_type_next(trained):
    run, out = trained
    assert "next        python export.py run=lanes_real/latest" in out
    assert (run / "report.html").stat().st_size > 10_000
    assert {"config.yaml", "lock.json", "kpis.json", "status.json", ".hydra", "metrics.jsonl"} <= {
        path.name for path in run.iterdir()
    }
    assert json.loads((run / "lock.json").read_text())["code"]["commit"]


def test_export_proves_each_plan(exported):
    bundle, out = exported
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert [plan["id"] for plan in manifest["plans"] if plan["status"] == "built"]
    assert {plan["status"] for plan in manifest["plans"]} == {"built", "pending_target"}
    assert (bundle / "plans" / "xavier-trt-int8.sh").is_file()
    assert "next        avexp predict" in out


def test_evaluate_on_a_slice(home, exported):
    out = call(home, "evaluate", "of=latest", "slice=night", "store=none", "pictures=2")
    assert "slice night, 6 frames" in out
    out = call(home, "evaluate", f"of={exported[0]}", "data=lanes_real@1", "store=none", "pictures=2")
    assert "bundle bundle on lanes_real@1" in out
    assert "did you mean night" in call(home, "evaluate", "of=latest", "slice=nigth", "store=none", code=3)


def test_lanes_by_clustering_are_an_option_of_evaluation(home, trained):
    out = call(home, "evaluate", "of=latest", "postprocess=clustered", "store=none", "pictures=1")
    assert "F1 (CULane)" in out


def test_predict_on_all_kinds_of_input(home, exported, lane_folder):
    frames = lane_folder / "highway_day" / "frames"
    session = next((home / "outputs/store/sessions").glob("highway*"))
    for source in (frames, frames / "000.jpg", session, session / "000000.tar"):
        out = call(
            home,
            "predict",
            f"bundle={exported[0]}",
            f"input={source}",
            "frames_max=3",
            "warmup=0",
            "allow_refused=true",
            "plan=cpu-onnxruntime-fp32",
        )
        lines = (
            Path(next(line.split()[1] for line in out.splitlines() if line.startswith("predictions ")))
            .read_text()
            .splitlines()
        )
        assert len(lines) == (1 if source.suffix == ".jpg" else 3)
        assert set(json.loads(lines[0])) == {"key", "timestamp_ns", "lanes"}
    assert "is nothing that can be predicted on" in call(
        home, "predict", f"bundle={exported[0]}", f"input={ROOT / 'README.md'}", code=3
    )


def test_a_tampered_bundle_is_one_line(home, exported, tmp_path):
    import shutil

    copy = tmp_path / "bundle"
    shutil.copytree(exported[0], copy)
    plan = copy / "plans" / "model.fp32.onnx"
    plan.write_bytes(plan.read_bytes()[:-1] + b"x")
    out = call(
        home, "predict", f"bundle={copy}", f"input={ROOT}", "plan=cpu-onnxruntime-fp32", "allow_refused=true", code=5
    )
    assert "was changed: its sha256 is not the manifest's" in out


def test_mistakes_cost_one_screen(home):
    began = os.times()
    out = call(
        home,
        "train.py",
        "+experiment=quickstart",
        "optimizr.lr=1",
        "model.heads.lanes.widht=3",
        "data.source=nowhere",
        "trainer.epochs=ten",
        code=2,
    )
    assert "4 faults in the config" in out
    for text in (
        "did you mean optimizer.lr?",
        "did you mean model.heads.lanes.width?",
        "nowhere: no such file",
        "'ten'",
    ):
        assert text in out
    used = os.times()
    cpu = used.children_user + used.children_system - began.children_user - began.children_system
    assert cpu < 3, "about half a second on an idle machine"
    full = call(home, "train.py", "+experiment=quickstart", "optimizr.lr=1", code=1, HYDRA_FULL_ERROR="1")
    assert "Traceback" in full


def test_without_the_packages_the_remedy_is_said(home):
    out = subprocess.run([sys.executable, "-S", ROOT / "train.py"], capture_output=True, text=True)
    assert (out.returncode, out.stdout) == (1, "")
    assert out.stderr.startswith("train: this Python has no ")
    assert out.stderr.endswith("run  make install  and then  . .venv/bin/activate\n")


@pytest.mark.parametrize("way", [["--config-dir", "{0}"], ["hydra.searchpath=[file://{0}]"]])
def test_options_of_ones_own_are_swept_with_keys_that_only_they_have(home, tmp_path, way):
    (tmp_path / "optimizer").mkdir()
    text = (ROOT / "conf" / "optimizer" / "sgd.yaml").read_text()
    (tmp_path / "optimizer" / "mine.yaml").write_text(text.replace("nesterov: true", "nesterov: false"))
    place = [word.format(tmp_path) for word in way]
    words = ["-m", "+experiment=quickstart", "optimizer=sgd,mine", "optimizer.momentum=0.7", *place, "--dry-run"]
    out = call(home, "train.py", *words)
    assert "optimizer=mine optimizer.momentum=0.7" in out
    out = call(home, "train.py", *words, "optimizer=sgd,adamw,nosuch", code=2)
    assert "optimizer=nosuch: no such option" in out
    out = call(home, "train.py", "+experiment=quickstart", "--config-dir", "nowhere", code=2)
    assert "nowhere: no such folder of configs" in out


def test_help_says_what_can_be_typed_and_chosen(home):
    out = call(home, "train.py", "--help")
    for text in ("+experiment=NAME", "lanes_real, quickstart", "hardware               cpu, dgx1_v100", "epochs: "):
        assert text in out
    assert "experiment" not in call(home, "export.py", "--help").split("CONFIG")[0]
    assert "optimizer" in call(home, "train.py", "--help", "optimiser.lr=1", code=2)


def test_questions_load_neither_torch_nor_mlflow(home):
    for words in (
        ["train.py", "--help"],
        ["train.py", "+experiment=quickstart", "--cfg", "job"],
        ["--help"],
        ["run", "ls"],
    ):
        command = [
            sys.executable,
            "-X",
            "importtime",
            *([str(ROOT / words[0]), *words[1:]] if words[0].endswith(".py") else ["-m", "avexp.cli", *words]),
        ]
        done = subprocess.run(
            command,
            cwd=home,
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=True,
        )
        loaded = {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
        assert not {"torch", "pytorch_lightning", "mlflow", "cv2"} & loaded


def test_dry_run_starts_nothing(home, lane_folder):
    before = sorted((home / "outputs").rglob("lock.json")) if (home / "outputs").exists() else []
    out = call(home, "train.py", *TINY, f"data.source={lane_folder}", "--dry-run")
    assert "would run, and has not" in out
    assert (sorted((home / "outputs").rglob("lock.json")) if (home / "outputs").exists() else []) == before


def test_a_saved_config_runs_again(home, trained):
    out = call(home, "train.py", "+replay=latest", "seed=7", "trainer.epochs=1")
    run = Path(next(line.split()[1] for line in out.splitlines() if line.startswith("run ")))
    assert json.loads((run / "lock.json").read_text())["seed"] == 7
    assert "a saved config has no groups" in call(home, "train.py", "+replay=latest", "debug=fast", code=2)
    out = call(
        home, "train.py", "--config-path", str(trained[0] / ".hydra"), "--config-name", "config", "trainer.epochs=1"
    )
    assert "epoch 1:" in out


def test_a_saved_config_names_no_foreign_code(home, trained, tmp_path):
    import shutil

    shutil.copytree(trained[0] / ".hydra", tmp_path / ".hydra")
    config = tmp_path / ".hydra" / "config.yaml"
    config.write_text(config.read_text().replace("torch.optim.AdamW", "os.system"))
    out = call(home, "train.py", "--config-path", str(tmp_path / ".hydra"), "--config-name", "config", code=2)
    assert "os.system may not be named by a config from elsewhere" in out


def test_a_sweep_goes_on_after_a_failed_trial(home, lane_folder):
    out = call(
        home,
        "train.py",
        *TINY,
        f"data.source={lane_folder}",
        "-m",
        "trainer.epochs=1",
        "loader.batch_size=6,6000",
        code=1,
    )
    assert "1 failed, 1 finished" in out
    assert "32 training frames make no batch of 6000" in out


def test_sigterm_saves_and_resume_goes_on(home, lane_folder):
    words = [
        str(ROOT / "train.py"),
        *TINY,
        f"data.source={lane_folder}",
        "trainer.epochs=400",
        "trainer.validate_every_epochs=400",
        "name=stopped",
    ]
    process = subprocess.Popen(
        [sys.executable, *words],
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    deadline = time.monotonic() + 90
    while not list((home / "outputs/train").glob("stopped/*/metrics.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 75, out
    assert "go on with: python train.py resume=" in out
    run = next((home / "outputs/train/stopped").iterdir())
    before = {path.name for path in (run / "checkpoints").iterdir()}
    assert before
    again = call(home, "train.py", f"resume={run}", "seed=3", code=2)
    assert "a run goes on with its own config" in again
    auto = call(
        home,
        "train.py",
        *TINY,
        f"data.source={lane_folder}",
        "trainer.epochs=400",
        "trainer.validate_every_epochs=400",
        "name=stopped",
        "resume=auto",
        "--dry-run",
    )
    assert str(run.name) in auto


@pytest.mark.slow
def test_the_continuous_integration_of_experiments(home):
    out = call(home, "ci", timeout=900)
    assert "failed" not in out
