#!/usr/bin/env bash
# Trains on machines that SkyPilot finds in some cloud: fills in skypilot.yaml on its command line.
#
#   launch/skypilot.sh [--dry-run] FLAGS...
#   BUCKET=my-runs NODES=2 GPUS=H100:8 launch/skypilot.sh --config=configs/mover.py --workdir=/runs/m
#
#   NAME    of the cluster; by default unirep-jax
#   NODES   by default 1
#   GPUS    of each node; by default H100:1
#   BUCKET  mounted as /runs on all nodes; needed
#   SPOT    1 for machines that can be taken away
set -euo pipefail
# shellcheck source=launch/show.sh
source "$(dirname "${BASH_SOURCE[0]}")/show.sh"

dry_run "$@" && shift
(($#)) || usage "$PWD/launch/skypilot.sh" 2

: "${BUCKET:?for the folders of runs}"
options=("--cluster=${NAME:-unirep-jax}" "--num-nodes=${NODES:-1}" "--gpus=${GPUS:-H100:1}")
[[ -z ${SPOT:-} ]] || options+=(--use-spot)
printf -v flags '%q ' "$@"
show sky launch --yes "${options[@]}" "--env=BUCKET=$BUCKET" "--env=FLAGS=${flags% }" \
  launch/skypilot.yaml
