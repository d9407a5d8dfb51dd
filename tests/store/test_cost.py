import json
import subprocess
import sys
import time

import pytest

from avexp.core.errors import DataError
from avexp.store.cost import Cost, CostMeter, tree_cpu_s

BURN = "import time\nwhile time.process_time() < 0.3: pass"


def test_costs_add_up():
    total = Cost(10.0, 1.0, 2.0, 3.0) + Cost(5.0, 0.5, 0.0, 1.0)
    assert total == Cost(15.0, 1.5, 2.0, 4.0)
    assert total.values() == {"cost/wall_s": 15.0, "cost/cpu_hours": 1.5, "cost/gpu_hours": 2.0, "cost/money": 4.0}


def test_gpu_hours_and_money_follow_wall_time(tmp_path):
    meter = CostMeter(tmp_path / "cost.json", gpus=8, price_per_hour=4.5)
    time.sleep(0.05)
    cost = meter.now()
    assert cost.gpu_hours == pytest.approx(cost.wall_s / 3600 * 8)
    assert cost.money == pytest.approx(cost.wall_s / 100)  # 8 times 4.5 an hour is a hundredth a second
    shared = CostMeter(tmp_path / "cost.json", nodes=0.5, price_per_hour=72.0)
    time.sleep(0.05)
    cost = shared.now()
    assert cost.money == pytest.approx(cost.wall_s / 100)


def test_other_ranks_count(tmp_path):
    meter = CostMeter(tmp_path / "cost.json")
    meter.others_cpu_s = 7200.0
    assert meter.now().cpu_hours == pytest.approx(2.0, abs=0.001)


def test_children_count_living_and_ended(tmp_path):
    meter = CostMeter(tmp_path / "cost.json")
    subprocess.run([sys.executable, "-c", BURN], check=True)
    ended_s = meter.now().cpu_hours * 3600
    assert ended_s >= 0.25  # burnt 0.3 s; the kernel counts in steps of 0.01 s, user and system apart
    with subprocess.Popen(
        [sys.executable, "-c", f"{BURN}\nprint('done', flush=True)\ninput()"], stdin=-1, stdout=-1
    ) as child:
        child.stdout.readline()
        assert meter.now().cpu_hours * 3600 >= ended_s + 0.25
        child.communicate(b"\n")


def test_a_resumed_run_adds_up(tmp_path):
    file = tmp_path / "cost.json"
    file.write_text(json.dumps({"wall_s": 3600.0, "cpu_hours": 2.0, "gpu_hours": 8.0, "money": 25.0}))
    cost = CostMeter(file, gpus=1).save()
    assert 3600.0 <= cost.wall_s < 3601.0
    assert 2.0 <= cost.cpu_hours < 2.001
    assert CostMeter(file).now().wall_s >= cost.wall_s
    assert json.loads(file.read_text())["money"] == 25.0


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "cost.json").write_text('{"wall": 1}')
    with pytest.raises(DataError, match=r"cost\.json: is no cost file .*; remove it"):
        CostMeter(tmp_path / "cost.json")


def test_a_process_that_is_gone_costs_nothing():
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        pass
    assert tree_cpu_s(child.pid) == 0.0
