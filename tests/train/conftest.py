"""A tiny run: two synthetic lane sessions, a net of a few thousand weights, 18 steps."""

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from avexp.core.lock import write_lock
from avexp.core.preflight import typed
from avexp.core.run_folder import RunFolder
from avexp.core.stage import conf_folder, prepare_hydra

TINY = [
    "+experiment=lanes_real",
    "name=tiny",
    "hardware.precision=fp32",
    "model.height_px=64",
    "model.width_px=64",
    "model.backbone.stem_width=4",
    "model.backbone.widths=[8,8,8,8]",
    "model.neck.width=8",
    "model.heads.lanes.width=8",
    "loader.batch_size=6",
    "loader.evaluation_batch_size=6",
    "trainer.epochs=3",
    "trainer.validate_every_epochs=1",
    "trainer.checkpoint_every_steps=2",
    "trainer.ema_decay=0.9",
    "store=none",
]


@pytest.fixture(scope="session")
def tiny_config(lane_folder, tmp_path_factory):
    """Makes a typed config and its run folder."""
    root = tmp_path_factory.mktemp("runs")
    prepare_hydra()
    made = []

    def make(*overrides, name=None):
        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            words = [
                *TINY,
                f"data.source={lane_folder}",
                f"storage.root={root}/store",
                "data.annotators=[a]",
                *overrides,
            ]
            config = compose("train", words)
        made.append(1)
        run = RunFolder(root / "train" / "tiny" / (name or f"20260101T0000{len(made):02d}Z-tiny00"))
        write_lock(
            run, "train", OmegaConf.create(OmegaConf.to_container(config, resolve=True, enum_to_str=True)), words
        )
        run.set_status("running")
        return typed(config, "train"), run

    return make
