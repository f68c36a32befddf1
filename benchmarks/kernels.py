"""Loss kernels and metrics against their peers: a table of ratios, JSON and Markdown.

    pip install -e '.[bench]'
    python benchmarks/kernels.py [--quick] [--only=CASE ...] [--out=PREFIX]

Both sides of a row get the same inputs, are compared first, and then timed in turns, in this
process, on as many threads. Peak memory is that of each side alone, in a process of its own.
"""

import argparse
import ctypes
import gc
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import peers
from cases import CASES, Case, Pair

ONCE = 10.0  # seconds above which a peer is not run again after the comparison
PACKAGES = (
    "unirep_jax",
    "jax",
    "torch",
    "POT",
    "geomloss",
    "vector-quantize-pytorch",
    "pytorch-ood",
    "scikit-learn",
)


def timed(run: peers.Run) -> tuple[float, tuple]:
    time.sleep(0.002)  # threads of the other side may still be waiting for work
    start = time.perf_counter()
    output = run()
    return time.perf_counter() - start, output


def measure(case: Case, pair: Pair, size: int) -> dict:
    """One row of the table, without memory."""
    inputs, row = case.inputs(size), {"size": size, "peer": pair.peer}
    absent = importlib.util.find_spec(pair.needs) is None
    reached = None
    if not absent:
        theirs = pair.theirs(inputs)
        first, reached = timed(theirs)
    start = time.perf_counter()
    ours = pair.ours(inputs, reached)
    row["compile_s"] = time.perf_counter() - start
    output = timed(ours)[1]
    if absent:
        return row | {"ours_s": statistics.median(timed(ours)[0] for _ in range(3))}
    row |= pair.compare(output, reached)
    row["agrees"] = bool(row["difference"] <= pair.tolerance)
    del output, reached
    rounds = 1 if first > ONCE else 3 if first > 0.5 else max(5, min(30, int(1 / first)))
    our_seconds, their_seconds = [], [] if first <= ONCE else [first]
    for _ in range(rounds):
        our_seconds += [timed(ours)[0] for _ in range(3 if first > ONCE else 1)]
        their_seconds += [timed(theirs)[0]] if first <= ONCE else []
    row |= {"ours_s": statistics.median(our_seconds), "peer_s": statistics.median(their_seconds)}
    row |= {"repeats": len(their_seconds), "ratio": row["peer_s"] / row["ours_s"]}
    row["target"] = pair.target(size)
    return row


# --- memory --------------------------------------------------------------------------------------


def peak_memory(name: str, index: int, side: str, sizes: list[int]) -> dict[int, float]:
    """MB above what the process held before the call, by size; a process for each side."""
    command = [sys.executable, __file__, "--memory", name, str(index), side, *map(str, sizes)]
    # Large blocks are returned when they are freed, and so do not hide the next peak.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    if result.returncode:
        print(f"memory of {name}, {side}: {result.stderr.strip().splitlines()[-1:]}")
        return {}
    return {int(size): peak for size, peak in json.loads(result.stdout.splitlines()[-1]).items()}


def print_peak_memory(name: str, index: str, side: str, *sizes: str) -> None:
    """The process started by `peak_memory`."""
    case = CASES[name]
    pair = case.pairs[int(index)]

    def prepared(size):
        inputs = case.inputs(size) | dict(case.light)
        return pair.ours(inputs, None) if side == "ours" else pair.theirs(inputs)

    prepared(16)()  # what the first call loads is not what a call needs
    peaks = {}
    for size in map(int, sizes):
        run = prepared(size)
        peaks[size] = peak_of(run)
        del run
    print(json.dumps(peaks))


def peak_of(run: peers.Run) -> float:
    """MB above what the process held before the call."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = _memory("VmRSS")
    run()
    return (_memory("VmHWM") - before) / 1e6


def _memory(field: str) -> float:
    status = Path("/proc/self/status").read_text()
    return 1024 * float(status.split(f"{field}:")[1].split()[0])


def add_memory(name: str, index: int, rows: list[dict], known: dict) -> None:
    """`known` holds what our side needs, which several pairs may share."""
    pair, sizes = CASES[name].pairs[index], [row["size"] for row in rows]
    if pair.ours not in known:
        known[pair.ours] = peak_memory(name, index, "ours", sizes)
    runs = [row["size"] for row in rows if "peer_s" in row]
    theirs = peak_memory(name, index, "theirs", runs) if runs else {}
    for row in rows:
        row["ours_mb"], row["peer_mb"] = known[pair.ours].get(row["size"]), theirs.get(row["size"])


# --- floor ---------------------------------------------------------------------------------------


def machine_rates() -> dict:
    """Operations a second of a float32 matrix product, bytes a second of reading; best of five."""
    import jax
    import jax.numpy as jnp

    def best(function, *arguments):
        run = jax.jit(function).lower(*arguments).compile()
        return min(timed(lambda: jax.block_until_ready(run(*arguments)))[0] for _ in range(6))

    square, large = jnp.ones((2048, 2048)), jnp.ones((8192, 8192))
    product, reading = best(jnp.dot, square, square), best(jnp.dot, large[0], large)
    return {"flops": 2 * 2048**3 / product, "bytes": large.nbytes / reading}


def add_floor(case: Case, row: dict, rates: dict) -> None:
    """Share of the time that the matrix products and the compulsory reads take by themselves."""
    flops, read = case.work(row["size"])
    floor = max(flops / rates["flops"], read / rates["bytes"])
    row["floor_share"] = floor / row["ours_s"] if floor else None


# --- the table -----------------------------------------------------------------------------------

HEADER = (
    "B",
    "peer",
    "ours ms",
    "peer ms",
    "ratio",
    "target",
    "ours MB",
    "peer MB",
    "of floor",
    "compile s",
    "difference",
    "note",
)


def cells(row: dict) -> list[str]:
    def number(name, scale=1.0, digits=3):
        value = row.get(name)
        return "" if value is None else f"{value * scale:.{digits}g}"

    notes = verdict(row) if "peer_s" in row else ["not installed"]
    if row.get("repeats") == 1:
        notes.append("peer ran once")
    if "our_marginal_error" in row:
        notes.append(f"L1 error {row['our_marginal_error']:.1e} / {row['peer_marginal_error']:.1e}")
    return [
        str(row["size"]),
        row["peer"],
        number("ours_s", 1e3),
        number("peer_s", 1e3),
        number("ratio"),
        number("target"),
        number("ours_mb"),
        number("peer_mb"),
        number("floor_share", 1, 2),
        number("compile_s", 1, 2),
        number("difference", 1, 1),
        "; ".join(notes),
    ]


def verdict(row: dict) -> list[str]:
    """What is wrong with a row that both sides ran: nothing, if all is well."""
    problems = [] if row["agrees"] else ["**outputs differ**"]
    if row["ratio"] < row["target"]:
        share, floor = row["ratio"] / row["target"], row.get("floor_share")
        limit = f"; at the floor the ratio would be {row['ratio'] / floor:.1f}" if floor else ""
        problems.append(f"**missed**: {share:.2f} of the target{limit}")
    wanted = row.get("memory_target")
    if wanted and row.get("ours_mb") and row.get("peer_mb"):
        saved = row["peer_mb"] / row["ours_mb"]
        problems.append(f"memory {saved:.1f}x less" + ("" if saved >= wanted else ", **missed**"))
    return problems


def markdown(results: dict, environment: dict) -> str:
    rates = environment["rates"]
    lines = [
        "# Loss kernels and metrics against their peers",
        "",
        f"{environment['processor']}, {environment['threads']} threads, load average "
        f"{environment['load']:.1f} at the start; matrix product {rates['flops'] / 1e9:.0f} "
        f"GFLOP/s, reading {rates['bytes'] / 1e9:.0f} GB/s.",
        ", ".join(f"{name} {number}" for name, number in environment["versions"].items()) + ".",
        "",
        "Medians; ratio = the peer's time / ours, held against target. MB: peak above inputs "
        "and program. Of floor: the time that matrix products and compulsory reads take, as a "
        "share of ours. Difference: of outputs, relative; 1 − cosine for transport.",
        "",
    ]
    for name, rows in results.items():
        lines += [f"## {CASES[name].title}", "", "| " + " | ".join(HEADER) + " |"]
        lines += ["|" + "---|" * len(HEADER)]
        lines += ["| " + " | ".join(cells(row)) + " |" for row in rows]
        if any("missed" in cells(row)[-1] for row in rows):
            lines += ["", f"What bounds it: {CASES[name].bound}"]
        lines.append("")
    return "\n".join(lines)


def write(out: Path, surroundings: dict, results: dict) -> None:
    found = json.dumps({"environment": surroundings, "results": results}, indent=1)
    out.with_suffix(".json").write_text(found + "\n")
    out.with_suffix(".md").write_text(markdown(results, surroundings))


def environment() -> dict:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "absent"
    return {
        "processor": platform.processor() or platform.machine(),
        "threads": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "versions": versions,
        "rates": machine_rates(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the smallest size of each case")
    parser.add_argument("--only", action="append", choices=list(CASES), metavar="CASE")
    parser.add_argument("--out", type=Path, help="prefix of the .json and .md files")
    parser.add_argument("--memory", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        print_peak_memory(*options.memory)
        return
    partial = options.quick or options.only
    out = options.out or Path(__file__).with_name("kernels_partial" if partial else "kernels")
    if importlib.util.find_spec("torch") is not None:
        peers.same_threads()
    surroundings, results = environment(), {}
    for name in options.only or CASES:
        case, known, results[name] = CASES[name], {}, []
        print(f"\n{case.title}\n" + " | ".join(HEADER))
        for index, pair in enumerate(case.pairs):
            sizes = case.sizes[:1] if options.quick else case.sizes
            rows = [measure(case, pair, size) for size in sizes]
            add_memory(name, index, rows, known)
            for row in rows:
                add_floor(case, row, surroundings["rates"])
                row["memory_target"] = case.memory_target(row["size"])
                print(" | ".join(cells(row)), flush=True)
            results[name] += rows
        write(out, surroundings, results)  # after every case: a peer may end the process
    print(f"\nwritten: {out.with_suffix('.json')}, {out.with_suffix('.md')}")


if __name__ == "__main__":
    main()
