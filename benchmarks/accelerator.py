"""Checks and times the package on a GPU or a TPU, with one command, within six minutes.

    python benchmarks/accelerator.py [--budget_s=330] [--out=PREFIX] [--only=WORD ...] [--tiny]

Writes PREFIX.jsonl and PREFIX.md after every case, so that a run which is cut off leaves what it
has. In this order, each stage in a process of its own:

machine        the device, versions, and the measured rates of matrix products and of a copy
kernels        every public kernel, value and gradient, against float64 on the CPU; two runs bit by
               bit; the losses over all devices, with pmap and shard_map
deterministic  under --xla_gpu_deterministic_ops: the kernels bit by bit; ten steps of methods and
               of every configuration, stopped and continued once, equal to the unbroken ten
times          medians beside PyTorch on the same device, and the share of the floor
memory         the peak against the formulas of docs/scaling.md

It needs JAX, Flax, Optax and jaxtyping. What needs a package that is absent is a row that says so:
PyTorch (the other side of times), ott-jax (the dense Sinkhorn), ml-collections, tqdm and TensorFlow
(configurations). Without beartype the shapes that kernels are given go unchecked.
"""

import argparse
import importlib.machinery
import importlib.util
import os
import subprocess
import sys
import time
import types
from pathlib import Path

from accelerator_rows import Options, Rows, read

FOLDER = Path(__file__).resolve().parent
ENDS = {"machine": 0.15, "kernels": 0.45, "deterministic": 0.65, "times": 0.92, "memory": 1.0}
GRACE = 15.0  # seconds by which a case that has begun may outlast its stage


def run_stage(stage: str, options: Options) -> None:
    """In a process of its own: an error, or memory that is full, ends one stage alone."""
    environment = dict(os.environ, XLA_PYTHON_CLIENT_PREALLOCATE="false")  # PyTorch needs some
    platforms = environment.get("JAX_PLATFORMS", "")
    if platforms and "cpu" not in platforms.split(","):
        environment["JAX_PLATFORMS"] = f"{platforms},cpu"  # where references are computed
    if stage == "deterministic":
        flags = environment.get("XLA_FLAGS", "")
        environment["XLA_FLAGS"] = f"{flags} --xla_gpu_deterministic_ops=true"
    command = [sys.executable, __file__, f"--stage={stage}", f"--out={options.out}"]
    command += [f"--deadline={options.deadline}", *(f"--only={word}" for word in options.only)]
    command += ["--tiny"] if options.tiny else []
    left = max(options.deadline + GRACE - time.time(), 1.0)
    try:
        subprocess.run(command, env=environment, timeout=left, check=True)
    except subprocess.TimeoutExpired:
        note = "a case took longer than the stage had left"
    except subprocess.CalledProcessError as error:
        note = f"the process ended with {error.returncode}"
    else:
        return
    Rows(options.out, stage).add("(stage)", {"status": "failed", "note": note})


def run_here(stage: str, options: Options) -> None:
    """The stage in this process."""
    stand_in_for_beartype()
    sys.path[:0] = [str(FOLDER), str(FOLDER.parent), str(FOLDER.parent / "tests" / "losses")]
    import accelerator_checks
    import accelerator_machine
    import accelerator_memory
    import accelerator_resume
    import accelerator_times

    functions = {
        "machine": (accelerator_machine.machine,),
        "kernels": (accelerator_checks.kernels, accelerator_checks.devices),
        "deterministic": (accelerator_checks.repeated, accelerator_resume.resumed),
        "times": (accelerator_times.times,),
        "memory": (accelerator_memory.memory,),
    }
    rows = Rows(options.out, stage, options.deadline, options.only)
    for function in functions[stage]:
        function(rows, options)


def stand_in_for_beartype() -> None:
    """Kernels check their inputs' shapes with it; where it is absent they are taken as they are."""
    if importlib.util.find_spec("beartype") is not None:
        return
    module = types.ModuleType("beartype")
    module.__spec__ = importlib.machinery.ModuleSpec("beartype", None)
    module.beartype = lambda function: function
    sys.modules["beartype"] = module


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget_s", type=float, default=330)
    parser.add_argument("--out", type=Path, default=FOLDER / "accelerator")
    parser.add_argument("--only", action="append", default=[], metavar="WORD")
    parser.add_argument("--tiny", action="store_true", help="sizes for a processor")
    parser.add_argument("--stage", choices=ENDS, help=argparse.SUPPRESS)
    parser.add_argument("--deadline", type=float, help=argparse.SUPPRESS)
    given = parser.parse_args()
    options = Options(given.tiny, given.out, given.deadline, tuple(given.only))
    if given.stage:
        run_here(given.stage, options)
        return
    started = time.time()
    options.out.with_suffix(".jsonl").write_text("")
    for stage, end in ENDS.items():
        run_stage(stage, options._replace(deadline=started + end * given.budget_s))
    rows = read(options.out)
    count = {s: sum(row["status"] == s for row in rows) for s in ("ok", "failed", "skipped")}
    print(f"{count} in {time.time() - started:.0f} s: {options.out.with_suffix('.md')}")


if __name__ == "__main__":
    main()
