#!/usr/bin/env bash
# Trains on a TPU slice of a Kubernetes cluster: fills in gke.yaml and hands it to kubectl.
#
#   launch/gke.sh [--dry-run] FLAGS...
#   IMAGE=REGISTRY/unirep_jax launch/gke.sh --config=configs/mover.py --workdir=/runs/mover
#
# --dry-run prints the filled file and the command. The cluster has to have JobSet installed.
#
#   NAME         of the JobSet; by default unirep-jax
#   IMAGE        with unirep_jax[train] and jax[tpu] installed and configs/ in its folder; needed
#   ACCELERATOR  by default tpu-v6e-slice
#   TOPOLOGY     by default 2x4
#   HOSTS        machines of a slice; by default 1
#   CHIPS        of each machine; by default 8
#   CLAIM        a volume that many can write, mounted as /runs; by default unirep-jax-runs
set -euo pipefail
# shellcheck source=launch/show.sh
source "$(dirname "${BASH_SOURCE[0]}")/show.sh"

dry_run "$@" && shift
(($#)) || usage "$PWD/launch/gke.sh" 2

NAME=${NAME:-unirep-jax} ACCELERATOR=${ACCELERATOR:-tpu-v6e-slice} TOPOLOGY=${TOPOLOGY:-2x4}
HOSTS=${HOSTS:-1} CHIPS=${CHIPS:-8} CLAIM=${CLAIM:-unirep-jax-runs}
: "${IMAGE:?with unirep_jax installed}"
printf -v FLAGS '%q ' "$@"
FLAGS=${FLAGS% }

filled=$(<launch/gke.yaml)
for name in NAME IMAGE ACCELERATOR TOPOLOGY HOSTS CHIPS CLAIM FLAGS; do
  filled=${filled//"\${$name}"/"${!name}"}
done

[[ -z $DRY_RUN ]] || echo "$filled"
show kubectl apply --filename=- <<<"$filled"
