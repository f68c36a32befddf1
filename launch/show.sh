# Sourced by the other scripts. Each works from the root of the checkout.
# shellcheck shell=bash

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

# The help of a script is its head: all comment lines after the first line.
usage() {
  sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$1"
  exit "${2:-0}"
}

# Whether the first argument asks to print only; the script then drops it.
dry_run() {
  [[ ${1:-} == --dry-run ]] && DRY_RUN=1
}
DRY_RUN=

# Prints a command as it could be typed, and runs it unless that is all that was asked for.
show() {
  printf '%q ' "$@" | sed 's/ $//'
  echo
  [[ $DRY_RUN ]] || "$@"
}
