#!/usr/bin/env bash
# Runs every fuzz target for a while, one after the other, and ends with one line: N passed, M failed.
set -uo pipefail
cd "$(dirname "$(readlink -f "$0")")/.." || exit 1
. scripts/common.sh

usage() {
  cat <<'TXT'
usage: scripts/fuzz.sh [SECONDS [TARGET...]]

Builds the fuzz targets and runs them one after the other, SECONDS in all (60), beginning with fuzz/seeds and what
earlier runs found (fuzz/corpus). Each says how often it ran and how many edges of the code it met. What fails is kept
in fuzz/artifacts, with the command that plays it again. Needs g++ and nothing else that the project does not need.

The last line is `N passed, M failed`; the exit code is 1 when anything failed.
TXT
}

case "${1:-}" in -h | --help) usage && exit ;; esac
seconds=${1:-60}
[[ $seconds =~ ^[1-9][0-9]{0,5}$ ]] || { usage >&2 && exit 64; }
[ $# = 0 ] || shift
targets=("$@")
[ ${#targets[@]} != 0 ] || mapfile -t targets < <(cd fuzz/fuzz_targets && printf '%s\n' *.rs | sed 's/\.rs$//')

need_cargo
host=$(rustc -vV | sed -n 's/^host: //p')
# The flags of `cargo fuzz build --sanitizer none`: counters at each edge, which libFuzzer reads.
flags=(-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
  -Cllvm-args=-sanitizer-coverage-pc-table --cfg fuzzing --cfg 'poly1305_backend="soft"')
built=fuzz/target/$host/release
begun=$EPOCHREALTIME
CARGO_ENCODED_RUSTFLAGS=$(printf '%s\x1f' "${flags[@]}" | sed 's/\x1f$//') \
  cargo build -q --manifest-path fuzz/Cargo.toml --release --target "$host" --target-dir fuzz/target || exit 1
echo "built in $(since "$begun") s"

log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
each=$((seconds / ${#targets[@]}))
[ "$each" -gt 0 ] || each=1
passed=0 failed=0
for target in "${targets[@]}"; do
  mkdir -p "fuzz/corpus/$target" "fuzz/artifacts/$target"
  folders=("fuzz/corpus/$target")
  [ ! -d "fuzz/seeds/$target" ] || folders+=("fuzz/seeds/$target")
  options=(-artifact_prefix="fuzz/artifacts/$target/" -max_len=4096 -max_total_time="$each" -timeout=20 -print_final_stats=1)
  [ ! -f "fuzz/dictionaries/$target.dict" ] || options+=(-dict="fuzz/dictionaries/$target.dict")
  if "$built/$target" "${options[@]}" "${folders[@]}" >"$log" 2>&1; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    tail -n 40 "$log"
    echo "$target failed; try: $built/$target fuzz/artifacts/$target/FILE"
  fi
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log") rate=$(sed -n 's/^stat::average_exec_per_sec: *//p' "$log")
  edges=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
  printf '%-16s %10s runs %8s a second %6s edges\n' "$target" "${runs:-?}" "${rate:-?}" "${edges:-?}"
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
