"""Launch scripts: what they print is what they run, and several local processes live as one."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
LAUNCH = ROOT / "launch"
SCRIPTS = sorted([*LAUNCH.glob("*.sh"), LAUNCH / "slurm.sbatch"])
FLAGS = ["--config=configs/oom.py:erm", "--workdir=a folder", "--config.data.modalities=('a','&b')"]
# What a script needs to be told, and the programs that it calls.
CALLS = {
    "local.sh": ({"DEVICE": "cpu", "PORT": "1234"}, ("2",)),
    "slurm.sbatch": ({"NODES": "2", "GPUS": "4"}, ()),
    "tpu_vm.sh": ({"ZONE": "here", "TYPE": "v6e-8"}, ("all",)),
    "gke.sh": ({"IMAGE": "mine/unirep_jax"}, ()),
    "xpk.sh": ({"CLUSTER": "mine", "TYPE": "v6e-8", "IMAGE": "mine/unirep_jax"}, ()),
    "skypilot.sh": ({"BUCKET": "runs"}, ()),
}
PROGRAMS = ("sbatch", "srun", "gcloud", "git", "rm", "kubectl", "xpk", "sky")

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not here")


def launch(script: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    settings, first = CALLS[script]
    dry = [a for a in arguments if a == "--dry-run"]
    return subprocess.run(
        ["bash", str(LAUNCH / script), *dry, *first, *arguments[len(dry) :]],
        env=os.environ | settings | variables,
        capture_output=True,
        text=True,
        timeout=60,
    )


def printed(script: str, **variables: str) -> list[list[str]]:
    """The commands that a dry run prints, as words."""
    result = launch(script, "--dry-run", *FLAGS, **variables)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    if script == "gke.sh":
        lines = lines[-1:]  # after the filled file
    return [shlex.split(line) for line in lines]


@pytest.fixture
def programs(tmp_path):
    """Programs that only write down how they were called; gives the variables and the record."""
    folder, record = tmp_path / "programs", tmp_path / "record"
    folder.mkdir()
    for name in PROGRAMS:
        program = folder / name
        program.write_text(
            f'#!/bin/bash\nprintf "%q " {name} "$@" >>{record}\necho >>{record}\n'
            f"[[ {name} != kubectl ]] || cat >{record}.in\n"
            '[[ "$*" != *describe* ]] || echo ACTIVE\n'
        )
        program.chmod(0o755)
    path = f"{folder}:{os.environ['PATH']}"
    return {"PATH": path}, lambda: [shlex.split(x) for x in record.read_text().splitlines()]


# -- every script ----------------------------------------------------------------------------------


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_a_script_is_valid_bash_and_clean(script):
    subprocess.run(["bash", "-n", str(script)], check=True)
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not here")
    found = subprocess.run(
        ["shellcheck", "-x", str(script)], cwd=ROOT, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("script", CALLS)
def test_the_head_of_a_script_explains_every_variable_that_it_reads(script):
    head, _, source = (LAUNCH / script).read_text().partition("\nset -euo")
    assert f"launch/{script} [--dry-run]" in head
    read = {*re.findall(r"\$\{([A-Z_]+):[-?]", source)} - {"SLURM_JOB_ID", "PAUSE"}
    assert read
    for name in read:
        assert re.search(rf"^#   ([A-Z]+, )*{name}\b", head, re.MULTILINE), name


@pytest.mark.parametrize("script", [s for s in CALLS if s != "slurm.sbatch"])
def test_without_arguments_a_script_prints_its_head(script):
    result = subprocess.run(["bash", str(LAUNCH / script)], capture_output=True, text=True)
    assert result.returncode == 2
    head = (LAUNCH / script).read_text().partition("\nset -euo")[0].splitlines()[1:]
    assert result.stdout.splitlines() == [line.removeprefix("#").removeprefix(" ") for line in head]


@pytest.mark.parametrize("script", [s for s in CALLS if s != "local.sh"])
def test_what_a_dry_run_prints_is_what_is_run(script, programs):
    variables, record = programs
    expected = printed(script, **variables)
    assert not Path(variables["PATH"].partition(":")[0]).with_name("record").exists()
    if script == "slurm.sbatch":  # submitted, and later run by Slurm
        launch(script, *FLAGS, **variables)
        launch(script, *FLAGS, **variables, SLURM_JOB_ID="7")
    else:
        assert launch(script, *FLAGS, **variables).returncode == 0
    assert record() == expected


# -- one by one ------------------------------------------------------------------------------------


def test_local_processes_know_each_other_and_share_the_gpus():
    expected = [
        "env",
        "JAX_PLATFORMS=cpu",
        "python",
        "-m",
        "unirep_jax.main",
        *FLAGS,
        "--coordinator=127.0.0.1:1234",
        "--processes=2",
    ]
    assert printed("local.sh") == [[*expected, f"--process={i}"] for i in range(2)]
    gpus = printed("local.sh", DEVICE="gpu", CUDA_VISIBLE_DEVICES="4,5,6,7")
    assert [command[1] for command in gpus] == [
        "CUDA_VISIBLE_DEVICES=4,5",
        "CUDA_VISIBLE_DEVICES=6,7",
    ]
    result = launch("local.sh", "--dry-run", DEVICE="gpu", CUDA_VISIBLE_DEVICES="0")
    assert result.returncode == 2 and "2 processes, but 1 GPUs" in result.stderr


@pytest.mark.parametrize(("tasks", "count"), [("gpu", 4), ("node", 1)])
def test_slurm_starts_a_process_for_each_gpu_or_node(tasks, count):
    submitted, run = printed("slurm.sbatch", TASKS=tasks, TIME="1:00", PARTITION="p", ACCOUNT="a")
    assert submitted == [
        "sbatch",
        "--nodes=2",
        "--gpus-per-node=4",
        f"--ntasks-per-node={count}",
        "--time=1:00",
        "--partition=p",
        "--account=a",
        "launch/slurm.sbatch",
        *FLAGS,
    ]
    devices = [] if tasks == "gpu" else ["env", "JAX_LOCAL_DEVICE_IDS=0,1,2,3"]
    main = ["python", "-m", "unirep_jax.main", "--distributed"]
    assert run == ["srun", "--kill-on-bad-exit=1", *devices, *main, *FLAGS]


def test_a_tpu_is_asked_for_awaited_used_and_given_back():
    commands = printed("tpu_vm.sh", SPOT="1", PROJECT="p", NFS="host:/share")
    steps = [" ".join(command[3:5]) for command in commands if command[0] == "gcloud"]
    assert steps == [
        "queued-resources create",
        "queued-resources describe",
        "tpu-vm scp",
        "tpu-vm ssh",
        "tpu-vm ssh",
        "tpu-vm scp",
        "queued-resources delete",
    ]
    assert all({"--zone=here", "--project=p"} <= {*c} for c in commands if c[0] == "gcloud")
    create, install, run = commands[0], commands[5][-1], commands[6][-1]
    assert {"--accelerator-type=v6e-8", "--spot"} <= {*create}
    assert "mount host:/share runs" in install
    cd, _, main = run.removeprefix("--command=").partition(" && ")
    assert cd == "cd unirep_jax"
    assert shlex.split(main) == [
        ".venv/bin/python",
        "-m",
        "unirep_jax.main",
        "--distributed",
        *FLAGS,
    ]


@pytest.mark.parametrize("state", ["FAILED", "SUSPENDED"])
def test_a_tpu_that_will_not_come_stops_everything(state, programs):
    variables, record = programs
    gcloud = Path(variables["PATH"].partition(":")[0]) / "gcloud"
    gcloud.write_text(gcloud.read_text().replace("ACTIVE", state))
    result = launch("tpu_vm.sh", *FLAGS, **variables)
    assert result.returncode == 1 and f"unirep-jax: {state}" in result.stdout
    assert [command[4] for command in record()] == ["create", "describe"]


def test_kubernetes_gets_the_file_that_was_shown(programs, tmp_path):
    variables, _ = programs
    settings = {"NAME": "me", "HOSTS": "4", "CHIPS": "4", "TOPOLOGY": "4x4", "CLAIM": "disk"}
    shown = launch("gke.sh", "--dry-run", *FLAGS, **settings).stdout
    launch("gke.sh", *FLAGS, **settings, **variables)
    text = (tmp_path / "record.in").read_text()
    assert shown == f"{text}kubectl apply --filename=-\n"
    assert "${" not in text
    job = yaml.safe_load(text)
    assert (job["kind"], job["metadata"]["name"]) == ("JobSet", "me")
    (slices,) = job["spec"]["replicatedJobs"]
    spec = slices["template"]["spec"]
    assert spec["parallelism"] == spec["completions"] == 4
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == "mine/unirep_jax"
    assert container["resources"]["limits"] == {"google.com/tpu": 4}
    words = shlex.split(container["args"][0])
    assert words == ["exec", "python", "-m", "unirep_jax.main", "--distributed", *FLAGS]
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == "disk"


def test_a_sky_node_says_which_one_it_is():
    task = yaml.safe_load((LAUNCH / "skypilot.yaml").read_text())
    assert {*task["envs"]} == {"BUCKET", "FLAGS"}
    (command,) = printed("skypilot.sh", NODES="2", GPUS="H100:8", SPOT="1")
    assert {"--num-nodes=2", "--gpus=H100:8", "--use-spot", "--env=BUCKET=runs"} <= {*command}
    (flags,) = [w.removeprefix("--env=FLAGS=") for w in command if w.startswith("--env=FLAGS=")]
    nodes = {
        "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2",
        "SKYPILOT_NUM_NODES": "2",
        "SKYPILOT_NODE_RANK": "1",
        "FLAGS": flags,
    }
    script = task["run"].replace("exec python", "printf '%s\\n'")
    said = subprocess.run(
        ["bash", "-c", script], env=os.environ | nodes, capture_output=True, text=True, check=True
    )
    expected = [*FLAGS, "--coordinator=10.0.0.1:8476", "--processes=2", "--process=1"]
    assert said.stdout.splitlines() == ["-m", "unirep_jax.main", *expected]


def test_the_commands_of_the_page_are_those_of_the_scripts():
    page = (LAUNCH / "README.md").read_text()
    assert all(f"launch/{script}" in page for script in CALLS)
    commands = [line.strip() for line in page.splitlines() if " --dry-run " in line[4:]]
    assert len(commands) == len(CALLS)
    for command in commands:
        subprocess.run(["bash", "-c", command], cwd=ROOT, check=True, capture_output=True)


# -- several processes on this machine -------------------------------------------------------------


@pytest.fixture
def process(tmp_path):
    """Makes a program that stands for Python; gives the variables with which local.sh runs it."""

    def make(script: str) -> dict[str, str]:
        program = tmp_path / "python"
        program.write_text(f"#!/bin/bash\nprocess=${{@: -1}} process=${{process#*=}}\n{script}\n")
        program.chmod(0o755)
        return {"PYTHON": str(program), "LOGS": str(tmp_path / "logs"), "GRACE": "1"}

    return make


def test_each_local_process_has_a_log_and_the_first_one_also_prints(process, tmp_path):
    result = launch("local.sh", *FLAGS, **process('echo "$process: $*"; echo wrong >&2'))
    assert result.returncode == 0, result.stderr
    assert "0: " in result.stdout and "1: " not in result.stdout
    for i in range(2):
        log = (tmp_path / "logs" / f"{i}.log").read_text()
        assert f"{i}: -m unirep_jax.main {' '.join(FLAGS)} --coordinator=127.0.0.1:1234" in log
        assert "wrong" in log


@pytest.mark.parametrize("others", ["exec sleep 60", "trap '' TERM; while :; do sleep .1; done"])
def test_when_one_local_process_fails_all_end_with_its_status(process, tmp_path, others):
    running = tmp_path / "running"
    script = (
        f"((process == 0)) && {{ echo $$ >{running}; {others}; }}\n"
        f"until [[ -s {running} ]]; do sleep .05; done; echo no memory; exit 3"
    )
    result = launch("local.sh", **process(script))
    assert result.returncode == 3
    assert "process 1 failed with status 3" in result.stderr and "no memory" in result.stderr
    with pytest.raises(ProcessLookupError):
        os.kill(int(running.read_text()), 0)


def heeding_interrupts():
    """Bash cannot trap what it was started to ignore: SIGINT, where tests run in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("code", [0, 143])
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_reaches_every_local_process_which_ends_in_its_own_way(
    process, tmp_path, sent, code
):
    script = (
        f"trap 'sleep .$process; echo saved; exit {code}' TERM; touch {tmp_path}/up$process; "
        "while :; do sleep .1; done"
    )
    settings = os.environ | CALLS["local.sh"][0] | process(script)
    with subprocess.Popen(
        ["bash", str(LAUNCH / "local.sh"), "2"],
        env=settings,
        stdout=subprocess.DEVNULL,
        preexec_fn=heeding_interrupts,
    ) as launcher:
        try:
            while not all((tmp_path / f"up{i}").exists() for i in range(2)):
                time.sleep(0.05)
            launcher.send_signal(sent)
            assert launcher.wait(timeout=30) == code
        finally:
            launcher.send_signal(signal.SIGTERM)
    assert all((tmp_path / "logs" / f"{i}.log").read_text() == "saved\n" for i in range(2))


@pytest.mark.parametrize("others", ["trap 'exit 0' TERM", "trap '' TERM"])
def test_local_processes_end_with_their_launcher_even_by_sigkill(process, tmp_path, others):
    script = f"{others}; echo $$ >{tmp_path}/up$process; while :; do sleep .1; done"
    settings = os.environ | CALLS["local.sh"][0] | process(script)
    launcher = subprocess.Popen(
        ["bash", str(LAUNCH / "local.sh"), "2"], env=settings, stdout=subprocess.DEVNULL
    )
    running = [tmp_path / f"up{i}" for i in range(2)]
    try:
        while not all(file.exists() and file.read_text().strip() for file in running):
            time.sleep(0.05)
    finally:
        launcher.kill()
        launcher.wait()
    end = time.monotonic() + 30
    for file in running:
        while Path(f"/proc/{int(file.read_text())}").exists():
            assert time.monotonic() < end
            time.sleep(0.05)
