from pathlib import Path

from avexp.core.command_line import take_apart


def test_late_groups_come_in_order_and_get_their_plus():
    line = take_apart(["debug=fast", "seed=1,2", "-m", "experiment=quickstart"])
    assert line.overrides == ["+experiment=quickstart", "+debug=fast", "seed=1,2"]
    assert line.multirun
    assert line.for_hydra() == ["-m", "+experiment=quickstart", "+debug=fast", "seed=1,2"]


def test_our_own_words_are_taken_out():
    line = take_apart(["--dry-run", "resume=auto", "+experiment=x"])
    assert (line.dry_run, line.resume, line.overrides) == (True, "auto", ["+experiment=x"])
    assert take_apart(["+replay=latest", "seed=7"]).replay == "latest"


def test_flags_with_values_stay_together():
    line = take_apart(["--config-path", "runs/.hydra", "--config-name=config", "--cfg", "job"])
    saved = Path("runs/.hydra").absolute()  # from where it is typed, not from the script's folder as Hydra would
    assert line.flags == ["--config-path", str(saved), "--config-name", "config", "--cfg", "job"]
    assert line.saved_config == saved
    assert line.asks


def test_aliases():
    assert take_apart(["source=a.mp4"], {"source": "reader.source"}).overrides == ["reader.source=a.mp4"]


def test_one_run_with_a_launcher_is_submitted():
    line = take_apart(["+experiment=x", "hydra/launcher=slurm"])
    assert line.multirun
    assert line.for_hydra() == ["-m", "+experiment=x", "hydra/launcher=slurm"]
    assert not take_apart(["+experiment=x", "hydra/launcher=basic"]).multirun
    assert take_apart(["hydra/launcher=slurm", "--cfg", "job"]).flags == ["--cfg", "job"]


def test_further_folders_of_configs_are_found_however_they_are_given():
    words = ["--config-dir", "mine", "hydra.searchpath=[file:///team/conf, pkg://avexp.core.conf]"]
    here = Path(__file__).parents[2] / "avexp" / "core" / "conf"
    assert take_apart(words).config_dirs == [Path("mine"), Path("/team/conf"), here]
    assert take_apart(["seed=1"]).config_dirs == []
