#!/usr/bin/env bash
# Runs one training in N processes of this machine, which meet on loopback.
#
#   launch/local.sh [--dry-run] N FLAGS...
#   launch/local.sh 2 --config=configs/oom.py --workdir=runs/two
#
# FLAGS are those of unirep_jax.main. GPUs are shared out evenly; without any, all run on the CPU.
# Process 0 also prints here. SIGINT, SIGTERM and SIGHUP reach all of them as SIGTERM, on which they
# write a checkpoint and end; so does the end of this script, even by SIGKILL. When one fails the
# others are ended, and its last lines are shown.
#
#   DEVICE  cpu or gpu; by default gpu where nvidia-smi lists one
#   CUDA_VISIBLE_DEVICES  the GPUs to share out; by default all
#   PORT    where process 0 listens; by default a free one
#   LOGS    folder of the logs I.log; by default runs/logs
#   GRACE   seconds that the others have to end after a failure; by default 30
#   PYTHON  by default python
set -euo pipefail
# shellcheck source=launch/show.sh
source "$(dirname "${BASH_SOURCE[0]}")/show.sh"

dry_run "$@" && shift
[[ ${1:-} =~ ^[1-9][0-9]*$ ]] || usage "$PWD/launch/local.sh" 2
count=$1
shift

PYTHON=${PYTHON:-python}
LOGS=${LOGS:-runs/logs}
free_port='import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
PORT=${PORT:-$("$PYTHON" -c "$free_port")}
gpus=$(nvidia-smi --list-gpus 2>/dev/null | wc -l) || true
DEVICE=${DEVICE:-$( ((gpus)) && echo gpu || echo cpu)}
IFS=, read -ra devices <<<"${CUDA_VISIBLE_DEVICES:-$(seq -s, 0 $((gpus - 1)))}"
each=$((${#devices[@]} / count))
if [[ $DEVICE == gpu ]] && ((each == 0)); then
  echo "error: $count processes, but ${#devices[@]} GPUs" >&2
  exit 2
fi

# The command of process I, in `command`.
command_of() {
  local where=(JAX_PLATFORMS=cpu) mine
  if [[ $DEVICE == gpu ]]; then
    mine=$(IFS=, && echo "${devices[*]:$1 * each:each}")
    where=("CUDA_VISIBLE_DEVICES=$mine")
  fi
  command=(env "${where[@]}" "$PYTHON" -m unirep_jax.main "${@:2}" "--coordinator=127.0.0.1:$PORT"
    "--processes=$count" "--process=$1")
}

if [[ $DRY_RUN ]]; then
  for ((i = 0; i < count; i++)); do
    command_of "$i" "$@"
    show "${command[@]}"
  done
  exit
fi

processes=() pids=() stopping=
send() {
  kill -s "$1" "${pids[@]}" 2>/dev/null || true
}
trap 'stopping=1; send TERM' INT TERM HUP

# Reads the processes from a pipe that only this script holds open, and ends them when it is closed
# without a word that all have ended.
watch() {
  trap '' INT TERM HUP
  local line pids=()
  while read -r line; do
    [[ $line != ended ]] || return 0
    pids+=("$line")
  done
  send TERM
  sleep "${GRACE:-30}"
  send KILL
}
exec {watched}> >(watch)

# Becomes the process in `command`, known to the watch before it begins.
start() {
  echo "$BASHPID" >&"$watched"
  exec "${command[@]}" {watched}>&-
}

mkdir -p "$LOGS"
for ((i = 0; i < count; i++)); do
  command_of "$i" "$@"
  if ((i == 0)); then
    start > >(exec tee -i "$LOGS/0.log" {watched}>&-) 2>&1 &
  else
    start >"$LOGS/$i.log" 2>&1 &
  fi
  pids[i]=$!
  processes[$!]=$i
done

status=0 deadline=
while ((${#pids[@]})); do
  code=0 ended=''
  wait -n -p ended "${pids[@]}" || code=$?
  [[ ${ended:-} ]] || continue # a signal came, and was passed on
  i=${processes[ended]}
  unset "pids[i]"
  if ((code != 0 && status == 0)); then
    status=$code
    [[ ! $stopping ]] || continue # each ends in its own time
    echo "process $i failed with status $code; its log is $LOGS/$i.log" >&2
    ((i == 0)) || tail -n 20 "$LOGS/$i.log" >&2
    if ((${#pids[@]})); then
      send TERM
      (sleep "${GRACE:-30}" && send KILL) &>/dev/null {watched}>&- &
      deadline=$!
    fi
  fi
done
[[ -z $deadline ]] || kill "$deadline" 2>/dev/null || true
echo ended >&"$watched"
exit "$status"
