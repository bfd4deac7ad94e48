import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from small_study import write_table

from cotrain import Task
from cotrain.study import StudyConfig
from cotrain.study.network import make_network
from cotrain.study.setting import Setting
from cotrain.study.weights import save_network


@pytest.fixture
def setting(tmp_path):
    targets = ("positive", "level", "amount")
    return Setting.load(StudyConfig(str(write_table(tmp_path / "table.csv")), targets=targets, width=8))


def test_a_saved_network_can_be_rebuilt_without_the_study(setting, tmp_path):
    network = setting.make_network()
    file = tmp_path / "models" / "network.safetensors"
    save_network(file, network, setting, ["positive", "amount"], ["amount"])

    with safe_open(file, framework="pt") as opened:
        saved = json.loads(opened.metadata()["cotrain"])
    tasks = [
        Task(task["name"], task["kind"], task["n_outputs"], location=task["location"], scale=task["scale"])
        for task in saved["tasks"]
    ]
    architecture = saved["network"]
    rebuilt = make_network(architecture["kind"], tasks, tuple(architecture["input_shape"]), architecture["width"])
    rebuilt.load_state_dict(load_file(file))

    assert torch.equal(rebuilt(setting.data.test.inputs), network(setting.data.test.inputs))
    assert tasks == list(setting.data.tasks)
    assert (saved["trains"], saved["serves"]) == (["positive", "amount"], ["amount"])
