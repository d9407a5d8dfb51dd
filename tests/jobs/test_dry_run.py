"""What a sweep would do, said before it does."""

from avexp.core.progress import console
from avexp.jobs.dry_run import dry_run


def said(plan):
    with console.capture() as captured:
        assert dry_run(plan) == 0
    assert not plan.folder.exists()
    return captured.get().splitlines()


def test_each_trial_with_its_difference(plan):
    first, each, *rows, folder = said(plan("seed=1,2,1", "steps=2"))
    assert first == "ci would run 3 trials with local, and has not:"
    assert each == "each        1 node x 1 rank"
    assert [row.split() for row in rows] == [["0", "seed=1"], ["1", "seed=2"], ["2", "seed=1", "equal", "to", "0"]]
    assert folder.startswith("sweep ")


def test_what_slurm_is_asked_for(plan):
    words = ("hardware.accelerator=cuda", "hardware.devices=8", "hardware.cpu_cores=40", "hardware.nodes=1,2")
    rows = said(plan(*words, name="slurm", partition="batch", time_min=600))[1:-1]
    told = "8 GPUs, 40 cores a node, partition batch, at most 600 min"
    assert [row.split("  ")[-1] for row in rows] == [f"1 node x {told}", f"2 nodes x {told}"]


def test_a_search_says_its_space(plan):
    search = {"trials": 7, "space": {"seed": "range(1,9)", "steps": {"values": "choice(1,2)", "when": "seed=3"}}}
    first, *rows, _ = said(plan(search=search))
    assert first == "ci would search 7 trials with local, and has not:"
    assert rows == ["  seed: range(1,9)", "  steps: choice(1,2) when seed=3", "each        1 node x 1 rank"]
