"""Checkpoints gather what FSDP has sharded and put it back: two processes, on the CPU."""

import os
import subprocess
import sys

SCRIPT = """
import datetime
import os
import sys
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from timar_model.architecture.config import ModelConfig
from timar_model.architecture.model import TrainingBatch
from timar_model.architecture.sequences import lead_frames
from timar_training.training.checkpoints import put_moments, put_weights, whole_moments, whole_weights
from timar_training.networks.variants import TrainingStep, build_network

rank, patience = int(sys.argv[1]), datetime.timedelta(seconds=120)
store = dist.FileStore(sys.argv[2], 2)
store.set_timeout(patience)
dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=patience)
torch.manual_seed(0)
config = ModelConfig(blocks=2, width=32, token_dim=16, head_width=32, window_frames=10)
network = build_network("timar", config)
start = {name: value.clone() for name, value in network.state_dict().items()}
module = TrainingStep(network, "float32")
fully_shard(module, mesh=init_device_mesh("cpu", (2,)))
optimiser = torch.optim.AdamW(module.parameters(), lr=1e-3)
frames = lead_frames([5, 5], config) + 10
batch = TrainingBatch([5, 5], *(torch.randn(2, frames, size) for size in (160, 56, 160, 56)))

def step():
    optimiser.zero_grad()
    module(batch, torch.Generator().manual_seed(1)).backward()
    optimiser.step()

def same(one, other):
    return set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)

is_gathered = same(whole_weights(module), start)
step()
weights, moments = whole_weights(module), whole_moments(module, optimiser)
step()
once = whole_weights(module)
put_weights(module, weights)
put_moments(module, optimiser, moments)
step()
good = is_gathered and not same(once, weights) and same(once, whole_weights(module))
print("exact" if good else "different", flush=True)
store.set(f"process {rank} is done", "")
store.wait(["process 0 is done", "process 1 is done"])
os._exit(0)
"""
PROCESSES = 2


def test_sharded_weights_and_moments_are_gathered_on_every_process_and_go_on_bit_exactly(tmp_path):
    """Offloading while gathering once gave the first process everything and the others nothing.

    Gloo aborts a process whose partner leaves early, so nobody leaves before both are done. They meet by a
    file and the loopback device, for a machine's own name may lead nowhere.
    """
    script = tmp_path / "sharded.py"
    script.write_text(SCRIPT)
    paths = {"PYTHONPATH": ":".join(place for place in sys.path if place), "GLOO_SOCKET_IFNAME": "lo"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), str(rank), str(tmp_path / "store")],
            env={**os.environ, **paths},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(PROCESSES)
    ]
    try:
        said = [process.communicate(timeout=240)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    statuses = [process.returncode for process in processes]
    whole = "\n".join(f"-- process {rank} said:\n{lines}" for rank, lines in enumerate(said))
    assert statuses == [0] * PROCESSES, f"exit statuses {statuses}\n{whole}"
    assert [lines.splitlines()[-1] for lines in said] == ["exact"] * PROCESSES, whole
