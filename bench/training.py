"""Not a benchmark: what ddp.py trains on either side. The demo's model and data; prints its steps per second."""

import os
import sys
import time

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.parallel import DistributedDataParallel

WARM_UP = 50


def main(steps: int) -> None:
    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    data = load_digits()
    images, labels = torch.tensor(data.data / 16.0, dtype=torch.float32), torch.tensor(data.target)
    torch.manual_seed(0)
    model = DistributedDataParallel(nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10)))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    criterion = nn.CrossEntropyLoss()
    for step in range(WARM_UP + steps):
        if step == WARM_UP:
            dist.barrier()
            began = time.perf_counter()
        mine = torch.randint(len(images), (64,))[rank::size]
        optimizer.zero_grad()
        criterion(model(images[mine]), labels[mine]).backward()
        optimizer.step()
    dist.barrier()
    if rank == 0:
        print(f"steps per second: {steps / (time.perf_counter() - began):.3f}", flush=True)
    dist.barrier()
    # Now and then torch aborts while its threads are torn down, on either side of the comparison, long after the clock.
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
