"""Two real processes that work together, and what each of them found."""

import os
import warnings
from pathlib import Path

import torch
import torch.distributed as dist


def found_by_two(work, folder):
    """What `work(rank)`, a function of a module, returns in each of two processes that are connected by gloo."""
    torch.multiprocessing.spawn(_launch, args=(work, str(folder)), nprocs=1, daemon=False)
    return torch.load(folder / "found.pt", weights_only=False)


def _launch(_, work, folder):
    """Entry of the first process: it loads everything, and only then becomes two, which saves the second loading."""
    context = torch.multiprocessing.get_context("fork")  # nothing was computed yet, so no thread is left behind
    processes = [context.Process(target=_run, args=(rank, work, folder)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]


def _run(rank, work, folder):
    """One of the two; the first writes what both found."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    try:
        gathered = [None, None]
        dist.all_gather_object(gathered, work(rank))
        if rank == 0:
            torch.save(gathered, Path(folder) / "found.pt")
    finally:
        dist.destroy_process_group()
