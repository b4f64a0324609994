#!/bin/sh
# cargo's RUSTC_WRAPPER of the fuzz build: our own crates and the decompressor get libFuzzer's instrumentation. The two
# hundred others are only linked: unmarked they build several times as fast, and draw no inputs to code that is not ours.
# The flags are those of cargo-fuzz without a sanitizer, which finds nothing in code without `unsafe`.
rustc=$1
shift
previous=
for word in "$@"; do
  case "$previous $word" in
    "--crate-name nacre"* | "--crate-name zlib_rs" | "--crate-name httparse")
      exec "$rustc" "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
        -Cllvm-args=-sanitizer-coverage-trace-compares
      ;;
  esac
  previous=$word
done
exec "$rustc" "$@"
