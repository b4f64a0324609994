#!/usr/bin/env bash
# Fuzzes: tests/fuzz/run.sh SECONDS [TARGET…]. Each target runs for SECONDS, two at a time; without names all do.
# Fails if one finds something, and says where the input is. What it learns is kept under target/fuzz/work.
#
# RocksDB is taken from the main build (`make build`); ROCKSDB_LIB_DIR and ROCKSDB_INCLUDE_DIR name another one.
# NACRE_FUZZ_DIR: where to build and to work instead of target/fuzz.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
export PATH="$HOME/.cargo/bin:$PATH"

AT_ONCE=2
INPUT_BYTES_MAX=8192
INPUT_SECONDS_MAX=20
MEMORY_MB_MAX=1024

fail() { echo "fuzz: $*" >&2; exit 1; }

seconds=${1:-}
[[ $seconds =~ ^[1-9][0-9]*$ ]] || fail "usage: tests/fuzz/run.sh SECONDS [TARGET…]"
shift
all=()
for file in "$here"/bins/*.rs; do all+=("$(basename "$file" .rs)"); done
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=("${all[@]}")
for target in "${targets[@]}"; do
  [ -e "$here/bins/$target.rs" ] || fail "no target $target; there are ${all[*]}"
done

main=${CARGO_TARGET_DIR:-$root/target}
work=${NACRE_FUZZ_DIR:-$main/fuzz}

# RocksDB is ten minutes of C++: it is compiled once, by the main build.
find_rocksdb() {
  export ROCKSDB_STATIC=1
  if [ -z "${ROCKSDB_LIB_DIR:-}" ]; then
    local library
    library=$(find "$main"/release/build/librocksdb-sys-*/out -maxdepth 1 -name librocksdb.a -printf '%T@ %p\n' 2>/dev/null |
      sort -n | tail -n 1 | cut -d' ' -f2-) || true
    [ -n "$library" ] || fail "no librocksdb.a under $main/release/build: run \`make build\` first, or set ROCKSDB_LIB_DIR"
    ROCKSDB_LIB_DIR=$(dirname "$library")
    export ROCKSDB_LIB_DIR
  fi
  if [ -z "${ROCKSDB_INCLUDE_DIR:-}" ]; then
    local manifest
    manifest=$(cargo metadata --manifest-path "$root/Cargo.toml" --locked --format-version 1 | python3 -c '
import json, sys
print(next(p["manifest_path"] for p in json.load(sys.stdin)["packages"] if p["name"] == "librocksdb-sys"))')
    ROCKSDB_INCLUDE_DIR=$(dirname "$manifest")/rocksdb/include
    export ROCKSDB_INCLUDE_DIR
  fi
}

build() {
  # The root's versions; cargo adds libFuzzer to the copy.
  cp "$root/Cargo.lock" "$here/Cargo.lock"
  local bins=()
  for target in "${targets[@]}"; do bins+=(--bin "$target"); done
  RUSTC_WRAPPER="$here/rustc.sh" CARGO_TARGET_DIR="$work/build" \
    cargo build --release --manifest-path "$here/Cargo.toml" "${bins[@]}"
}

run() { # TARGET
  local target=$1
  mkdir -p "$work/work/$target" "$work/found/$target"
  local seeds=("$here/corpus/$target")
  [ -d "$here/regressions/$target" ] && seeds+=("$here/regressions/$target")
  "$work/build/release/$target" -max_total_time="$seconds" -max_len=$INPUT_BYTES_MAX -timeout=$INPUT_SECONDS_MAX \
    -rss_limit_mb=$MEMORY_MB_MAX -print_final_stats=1 -artifact_prefix="$work/found/$target/" \
    "$work/work/$target" "${seeds[@]}" >"$work/$target.log" 2>&1
}

# Says what a run came to; fails if it found something.
judge() { # TARGET STATUS
  local target=$1 log=$work/$1.log runs
  runs=$(grep -a '^stat::number_of_executed_units' "$log" | awk '{print $2}') || true
  if [ "$2" = 0 ] && [ "${runs:-0}" -gt 0 ]; then
    echo "fuzz: $target: $runs inputs, nothing found"
    return 0
  fi
  tail -n 30 "$log"
  echo "fuzz: $target FAILED ($2): log $log, input $(grep -a -o 'Test unit written to .*' "$log" | tail -n 1 | cut -d' ' -f5- || true)"
  echo "fuzz: mend it, and keep the input in tests/fuzz/regressions/$target"
  return 1
}

find_rocksdb
build
failed=0
for ((at = 0; at < ${#targets[@]}; at += AT_ONCE)); do
  pids=()
  batch=("${targets[@]:at:AT_ONCE}")
  for target in "${batch[@]}"; do run "$target" & pids+=($!); done
  for n in "${!batch[@]}"; do
    status=0
    wait "${pids[$n]}" || status=$?
    judge "${batch[$n]}" "$status" || failed=1
  done
done
exit $failed
