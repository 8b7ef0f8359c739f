"""Learn to read handwritten digits (1,797 of them, shipped inside scikit-learn), on as many processes as there are."""

import argparse
import os
import sys
import time

import numpy
import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.parallel import DistributedDataParallel

SEED = 20
TESTED = 360  # of the 1,797 images, never trained on


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch", type=int, default=64, help="images of one step, over all processes")
    arguments = parser.parse_args()

    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    images, labels, test_images, test_labels = digits()
    if rank == 0:
        print(f"{len(images)} images to learn from, {len(test_images)} to be tested with, {size} processes", flush=True)

    torch.manual_seed(SEED)
    model = DistributedDataParallel(nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10)))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    criterion = nn.CrossEntropyLoss()
    began = time.monotonic()
    for epoch in range(1, arguments.epochs + 1):
        # Every process draws the same order and takes its own part of each batch: no image is seen twice in an epoch.
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(SEED + epoch))
        steps = len(order) // arguments.batch
        for batch in order[: steps * arguments.batch].view(steps, arguments.batch):
            mine = batch[rank::size]
            optimizer.zero_grad()
            loss = criterion(model(images[mine]), labels[mine])
            loss.backward()
            optimizer.step()
        if rank == 0:
            show_progress(epoch, arguments.epochs, loss.item())

    took = time.monotonic() - began
    model.eval()
    with torch.no_grad():
        accuracy = (model.module(test_images).argmax(1) == test_labels).float().mean().item()
    if rank == 0:
        print(f"trained {arguments.epochs} epochs in {took:.1f} s on {os.uname().nodename}")
        print(f"test accuracy {accuracy:.4f}", flush=True)
    # Nobody tears its connections down while another still uses them; and torch 2.13 now and then aborts while it
    # tears down its threads, long after all is done.
    dist.barrier()
    sys.stdout.flush()
    os._exit(0)


def digits() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images and labels to learn from, then those to test with: the same split on every process."""
    data = load_digits()
    order = numpy.random.default_rng(SEED).permutation(len(data.target))
    images = torch.tensor(data.data[order] / 16.0, dtype=torch.float32)
    labels = torch.tensor(data.target[order])
    return images[TESTED:], labels[TESTED:], images[:TESTED], labels[:TESTED]


def show_progress(epoch: int, epochs: int, loss: float) -> None:
    """Draw the bar over its last drawing; only the last one gets a line of its own."""
    width = 30
    filled = width * epoch // epochs
    bar = "━" * filled + "─" * (width - filled)
    sys.stdout.write(f"\r{bar} epoch {epoch:>{len(str(epochs))}}/{epochs}  loss {loss:.4f}" + "\n" * (epoch == epochs))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
