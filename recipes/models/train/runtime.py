"""Settings of the run. Import this before torch: OpenBLAS reads its environment only once."""
import os
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOKENIZER = str(HERE / "tokenizer.json")


def _core_type():
    """The OpenBLAS kernel for this CPU; its own detection may choose a slow one."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return None
    if "avx512vl" in flags:
        return "SKYLAKEX"
    return "HASWELL" if "avx2" in flags else None


if _core_type():
    os.environ.setdefault("OPENBLAS_CORETYPE", _core_type())
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Threads that wait by spinning take the CPU from others, and from each other.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def threads(n):
    """Let torch use n cores."""
    import torch

    torch.set_num_threads(n)
