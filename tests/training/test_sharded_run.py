"""A whole run whose weights are sharded (FSDP2) over two processes, on the CPU: train, stop, go on, keep.

`accelerate` knows FSDP on accelerators only; here the same `fully_shard` is put in its place.
"""

import os
import subprocess
import sys

import yaml

from timar_model import load_model

SCRIPT = """
import datetime
import dataclasses
import os
import sys
from pathlib import Path
import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from timar_training.training import trainer
from timar_training.training.config import TrainConfig
from timar_training.training.run import open_run

rank, patience = int(sys.argv[1]), datetime.timedelta(seconds=240)
os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", ACCELERATE_USE_CPU="true")
os.environ.update(MASTER_ADDR="localhost", MASTER_PORT="1")
store = dist.FileStore(sys.argv[2], 2)
store.set_timeout(patience)
dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=patience)

class Sharding(Accelerator):
    def prepare(self, module, optimiser):
        names = {id(value): name for name, value in module.named_parameters()}
        fully_shard(module, mesh=init_device_mesh("cpu", (2,)), reshard_after_forward=True)
        sharded = dict(module.named_parameters())
        for group in optimiser.param_groups:
            group["params"] = [sharded[names[id(value)]] for value in group["params"]]
        return module, super().prepare(optimiser)

trainer.Accelerator = Sharding
config = TrainConfig.from_yaml(Path(sys.argv[3]))
whole = open_run(config)
assert all(isinstance(value, DTensor) for value in whole._module.parameters())
norms = []
whole.run(lambda progress: norms.append(progress.gradient_norm))
cut = dataclasses.replace(config, out=config.out + "-cut", stop_step=2)
open_run(cut).run()
again = open_run(dataclasses.replace(cut, stop_step=0))
assert again.resume() and again.step == 2
again.run()
one, other = whole.averaged_weights(), again.averaged_weights()
is_same = all(torch.equal(one[name], other[name]) for name in one)
found = [None, None]
dist.all_gather_object(found, norms)
print("exact" if is_same and found[0] == found[1] else "different", flush=True)
store.set(f"process {rank} is done", "")
store.wait(["process 0 is done", "process 1 is done"])
os._exit(0)
"""
PROCESSES = 2


def test_a_sharded_run_goes_on_bit_exactly_and_keeps_a_whole_model(tmp_path, write_babble_clip, write_splits):
    """Each process must see the gradient's whole norm, or one might stop where the other goes on."""
    for number in range(3):
        write_babble_clip(tmp_path, f"clip{number}", seconds=6.0, seed=number)
    write_splits(tmp_path, train=["clip0", "clip1"], validation=["clip2"])
    small = {"window_frames": 25, "blocks": 1, "width": 32, "token_dim": 16, "head_width": 32}
    values = {"data": str(tmp_path), "out": str(tmp_path / "run"), "model": small, "window_frames": 25}
    values |= {"batch": 4, "steps": 4, "warmup_steps": 1, "threads": 1, "validate_every": 2}
    values |= {"validation_batches": 1, "checkpoint_every": 2, "log_every": 0, "precision": "float32"}
    config, script = tmp_path / "run.yaml", tmp_path / "sharded.py"
    config.write_text(yaml.safe_dump(values))
    script.write_text(SCRIPT)
    paths = {"PYTHONPATH": ":".join(place for place in sys.path if place), "GLOO_SOCKET_IFNAME": "lo"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), str(rank), str(tmp_path / "store"), str(config)],
            env={**os.environ, **paths},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(PROCESSES)
    ]
    said = [process.communicate(timeout=300)[0] for process in processes]
    assert all(text.endswith("exact\n") for text in said), "\n".join(said)
    assert load_model(tmp_path / "run" / "model").config.width == 32
