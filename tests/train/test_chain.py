import hashlib

import numpy as np
import torch

from avexp.core.run_folder import RunFolder
from avexp.train.chain import LINE_BYTES, LossChain, tensor_digests


def feed(chain, values):
    for value in values:
        chain.on_train_batch_end(None, None, {"loss": torch.tensor(value)}, None, 0)


def test_each_line_hashes_the_one_before_and_the_loss(tmp_path):
    chain = LossChain(RunFolder(tmp_path), 2)
    feed(chain, [1.5, 0.25, 3.0])
    chain.flush()
    lines = chain.run.losses.read_text().splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["0000000000", (1.5).hex()],
        ["0000000001", (0.25).hex()],
        ["0000000002", (3.0).hex()],
    ]
    digest = "0" * 64
    for number, value in enumerate([1.5, 0.25, 3.0]):
        content = digest.encode() + number.to_bytes(8, "little") + np.float32(value).tobytes()
        digest = hashlib.sha256(content).hexdigest()
    assert lines[2].split()[2] == digest
    assert {len(line) + 1 for line in lines} == {LINE_BYTES}


def test_how_often_it_is_flushed_changes_nothing(tmp_path):
    values = np.random.default_rng(1).normal(size=23).astype(np.float32).tolist()
    texts = set()
    for every in (1, 4, 100):
        chain = LossChain(RunFolder(tmp_path / str(every)), every)
        chain.run.path.mkdir()
        feed(chain, values)
        chain.flush()
        texts.add(chain.run.losses.read_text())
    assert len(texts) == 1


def test_a_resumed_run_cuts_what_came_after_its_checkpoint(tmp_path):
    class Rank0:
        is_global_zero = True

    whole, killed = (LossChain(RunFolder(tmp_path / name), 3) for name in ("whole", "killed"))
    for chain in (whole, killed):
        chain.run.path.mkdir()
    feed(whole, [1.0, 2.0, 3.0, 4.0, 5.0])
    whole.flush()
    feed(killed, [1.0, 2.0])
    state = killed.state_dict()
    feed(killed, [3.0, 4.0])
    killed.flush()
    again = LossChain(killed.run, 3)
    again.load_state_dict(state)
    again.on_train_start(Rank0(), None)
    feed(again, [3.0, 4.0, 5.0])
    again.flush()
    assert killed.run.losses.read_text() == whole.run.losses.read_text()


def test_tensor_digests_see_names_types_shapes_and_bytes():
    base = {"state_dict": {"a": torch.zeros(2, 3), "b": torch.ones(1)}, "optimizer_states": [{"step": 3}]}
    same = {"optimizer_states": [{"step": 3}], "state_dict": {"b": torch.ones(1), "a": torch.zeros(2, 3)}, "x": 1}
    assert tensor_digests(base) == tensor_digests(same)
    for other in ({"a": torch.zeros(3, 2)}, {"a": torch.zeros(2, 3).half()}, {"c": torch.zeros(2, 3)}):
        changed = {**base, "state_dict": {"b": torch.ones(1), **other}}
        assert tensor_digests(changed)["weights"] != tensor_digests(base)["weights"]
        assert tensor_digests(changed)["optimizer"] == tensor_digests(base)["optimizer"]
    one_bit = {**base, "state_dict": {"a": torch.zeros(2, 3), "b": torch.tensor([1.0000001])}}
    assert tensor_digests(one_bit)["weights"] != tensor_digests(base)["weights"]
