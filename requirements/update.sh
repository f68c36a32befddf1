#!/usr/bin/env bash
# Writes test.txt and train.txt again, with the hashes of every file of every package.
#
#   pip install uv && requirements/update.sh             keeps versions that still fit pyproject.toml
#   pip install uv && requirements/update.sh --upgrade   the newest that it allows
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# For every platform and for Python from 3.11 on; no configuration of this machine has a say in it.
for name in test train; do
  uv pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes \
    --no-annotate --no-emit-package unirep-jax --custom-compile-command requirements/update.sh \
    "$@" --extra "$name" pyproject.toml --output-file "requirements/$name.txt"
done
