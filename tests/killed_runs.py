"""Runs in processes that may be killed, and what two runs must agree on."""

import json
import multiprocessing

import torch

# a server that has imported everything and computed nothing: its forks start at once and inherit no thread
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["avexp.train.fit", "avexp.ingest.tusimple"])


def facts(run):
    """Final weights (also the average's), and every step's and epoch's values, the last said of each."""
    content = torch.load(run.step_checkpoints()[0], weights_only=True)
    said = {}
    for line in run.metrics.read_text().splitlines():
        entry = json.loads(line)
        for name, value in entry["values"].items():
            if not name.startswith(("cost/", "data/")):
                said[name, entry["step"]] = value
    return content["state_dict"], content["optimizer_states"][0]["state"], said, run.losses.read_text()


def assert_equal(one, two):
    for key, value in one[0].items():
        assert torch.equal(value, two[0][key]), key
    for index, state in one[1].items():
        for key, value in state.items():
            assert torch.equal(value, two[1][index][key]), (index, key)
    keys = one[2].keys() | two[2].keys()
    apart = {key: (one[2].get(key), two[2].get(key)) for key in keys if one[2].get(key) != two[2].get(key)}
    assert not apart, f"values by step: {apart}"
    assert one[3] == two[3], "the chain of losses"
