#!/usr/bin/env bash
# Trains on TPU slices of a cluster that xpk has made: one command of xpk.
#
#   launch/xpk.sh [--dry-run] FLAGS...
#   CLUSTER=mine TYPE=v6e-8 IMAGE=REGISTRY/unirep_jax launch/xpk.sh --config=configs/mover.py
#
#   NAME     of the workload; by default unirep-jax
#   CLUSTER, TYPE   for instance v6e-8; needed
#   IMAGE    with unirep_jax[train] and jax[tpu] installed and configs/ in its folder; needed
#   SLICES   by default 1
#   PROJECT, ZONE   by default gcloud's
set -euo pipefail
# shellcheck source=launch/show.sh
source "$(dirname "${BASH_SOURCE[0]}")/show.sh"

dry_run "$@" && shift
(($#)) || usage "$PWD/launch/xpk.sh" 2

: "${CLUSTER:?of xpk cluster create}" "${TYPE:?for instance v6e-8}"
: "${IMAGE:?with unirep_jax installed}"
options=("--workload=${NAME:-unirep-jax}" "--cluster=$CLUSTER" "--tpu-type=$TYPE")
options+=("--num-slices=${SLICES:-1}" "--docker-image=$IMAGE")
[[ -z ${PROJECT:-} ]] || options+=("--project=$PROJECT")
[[ -z ${ZONE:-} ]] || options+=("--zone=$ZONE")
show xpk workload create "${options[@]}" \
  "--command=python -m unirep_jax.main --distributed$(printf ' %q' "$@")"
