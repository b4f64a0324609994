#!/usr/bin/env bash
# The figures of FIGURES.md, with the peers in the same run.
#   run.sh NACRE [ROUNDS [ROW …]]     all rows that are missing or were cut short, or these rows; 5 rounds
#   run.sh NACRE 1 list               what rows there are
# Needs 20 GB in $B (default target/bench) and the image builder beside this repository (../shared/bench), which
# makes python-app, node-app, debian-min and many-layers from packages and serves them on 127.0.0.1:5000.
# The images are made once; remove $B/ready to have them looked after again.
set -euo pipefail
cd "$(dirname "$0")/../.."
nacre=$(realpath "${1:?usage: run.sh NACRE [ROUNDS [ROW …]]}")
rounds=${2:-5}; shift $(( $# < 2 ? $# : 2 ))
[ "$(id -u)" = 0 ] || { echo "bench: needs root" >&2; exit 1; }
builder=${NACRE_BENCH_BUILDER:-../shared/bench/build-images.sh}
[ -e "$builder" ] || { echo "bench: $builder is missing: set NACRE_BENCH_BUILDER to the script that builds and serves the images" >&2; exit 1; }
export B=${B:-$PWD/target/bench}
mkdir -p "$B"
if [ ! -e "$B/ready" ]; then
  bash "$builder" all
  bash "$(dirname "$builder")/prep-assets.sh" > "$B/assets.log"   # trees for the rows about filesystems
  rm -f "$B"/assets/*.erofs "$B"/assets/*.sqfs                     # 3 GB that no row reads
  touch "$B/ready"
fi
bash "$builder" registry
# podman's crun refuses a hybrid cgroup mount: a private mount namespace without it
exec unshare -m bash -c 'umount /sys/fs/cgroup/unified 2>/dev/null; exec python3 tests/bench/figures.py "$@"' _ "$nacre" "$rounds" "$@"
