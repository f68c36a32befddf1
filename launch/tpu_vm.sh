#!/usr/bin/env bash
# Trains on a Cloud TPU that is asked for as a queued resource.
#
#   launch/tpu_vm.sh [--dry-run] STEP [FLAGS...]
#   ZONE=us-east5-b TYPE=v6e-8 launch/tpu_vm.sh all --config=configs/mover.py --workdir=runs/mover
#
#   create   ask for the machines
#   wait     until they are there
#   copy     the last commit of this checkout to all of them, and install it
#   run      unirep_jax.main with FLAGS on all of them
#   fetch    runs/ of the first one to here
#   delete   give them back
#   all      all of these in turn; stops at the first that fails, and keeps the machines then
#
#   NAME     of the machines; by default unirep-jax
#   ZONE, TYPE   for instance us-east5-b and v6e-8; needed
#   VERSION  of the software; by default v2-alpha-tpuv6e
#   PROJECT  by default gcloud's
#   SPOT     1 for machines that can be taken away
#   NFS      HOST:/SHARE, mounted as runs/: several machines need a common --workdir
set -euo pipefail
# shellcheck source=launch/show.sh
source "$(dirname "${BASH_SOURCE[0]}")/show.sh"

dry_run "$@" && shift
(($#)) || usage "$PWD/launch/tpu_vm.sh" 2
step=$1
shift

NAME=${NAME:-unirep-jax} VERSION=${VERSION:-v2-alpha-tpuv6e}
: "${ZONE:?for instance us-east5-b}" "${TYPE:?for instance v6e-8}"
where=("--zone=$ZONE")
[[ -z ${PROJECT:-} ]] || where+=("--project=$PROJECT")
queue=(gcloud compute tpus queued-resources)
machine=(gcloud compute tpus tpu-vm)

everywhere() {
  show "${machine[@]}" ssh "$NAME" "${where[@]}" --worker=all "--command=$1"
}

create() {
  local options=("--node-id=$NAME" "--accelerator-type=$TYPE" "--runtime-version=$VERSION")
  [[ -z ${SPOT:-} ]] || options+=(--spot)
  show "${queue[@]}" create "$NAME" "${where[@]}" "${options[@]}"
}

wait_for() {
  local describe=("${queue[@]}" describe "$NAME" "${where[@]}" "--format=value(state.state)") state
  if [[ $DRY_RUN ]]; then
    show "${describe[@]}"
    return
  fi
  while state=$("${describe[@]}") && [[ $state != ACTIVE ]]; do
    echo "$NAME: $state"
    case $state in
      FAILED | SUSPENDING | SUSPENDED | DELETING) return 1 ;;
    esac
    sleep "${PAUSE:-30}"
  done
  [[ $state == ACTIVE ]]
}

copy() {
  local install="mkdir -p unirep_jax/runs && tar -xzf unirep_jax.tar.gz -C unirep_jax"
  install+=" && sudo apt-get update -q && sudo apt-get install -qy python3.11-venv nfs-common"
  install+=" && cd unirep_jax && python3.11 -m venv .venv"
  install+=" && .venv/bin/pip install -q --require-hashes -r requirements/train.txt"
  install+=" && .venv/bin/pip install -q -e '.[train]' 'jax[tpu]'"
  [[ -z ${NFS:-} ]] || install+=" && sudo mount $NFS runs && sudo chmod 777 runs"
  show git archive --output=unirep_jax.tar.gz HEAD
  show "${machine[@]}" scp unirep_jax.tar.gz "$NAME:" "${where[@]}" --worker=all
  show rm unirep_jax.tar.gz
  everywhere "$install"
}

run() {
  everywhere "cd unirep_jax && .venv/bin/python -m unirep_jax.main --distributed$(printf ' %q' "$@")"
}

fetch() {
  show "${machine[@]}" scp --recurse "$NAME:unirep_jax/runs" . "${where[@]}" --worker=0
}

delete() {
  show "${queue[@]}" delete "$NAME" "${where[@]}" --force --quiet
}

case $step in
  create | copy | fetch | delete) "$step" ;;
  run) run "$@" ;;
  wait) wait_for ;;
  all)
    create
    wait_for
    copy
    run "$@"
    fetch
    delete
    ;;
  *) usage "$PWD/launch/tpu_vm.sh" 2 ;;
esac
