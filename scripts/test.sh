#!/usr/bin/env bash
# Runs every test there is and ends with one line: N passed, M failed, K skipped.
set -uo pipefail
cd "$(dirname "$(readlink -f "$0")")/.." || exit 1
. scripts/common.sh

usage() {
  cat <<'TXT'
usage: scripts/test.sh [PART...]

Runs the tests, as root, on Debian with Rust; installs the packages that are missing. Parts, all unless named:

  rust      cargo test --workspace: unit tests, properties, the firewall in network namespaces, documentation examples
  vectors   the protocol's vectors, read by spa-proto
  outside   the same vectors, read by a second implementation in Python
  system    the programs as users meet them: real iptables, ipset, sshd, nmap, knock and knockd in network namespaces
  nftables  the most important of these again, with nftables in the place of iptables
  fuzz      the fuzz targets compile

The last line is `N passed, M failed, K skipped`; the exit code is 1 when anything failed.
TXT
}

parts=(rust vectors outside system nftables fuzz)
case "${1:-}" in -h | --help) usage && exit ;; esac
for part; do
  [[ " ${parts[*]} " == *" $part "* ]] || { echo "no part is called $part" >&2 && usage >&2 && exit 64; }
done
[ $# = 0 ] || parts=("$@")

need_root scripts/test.sh
need_cargo
install_missing gcc g++ libc6-dev libpcap-dev iproute2 iptables ipset nftables conntrack procps openssh-server \
  openssh-client tcpd tcpdump nmap knockd fwknop-server fwknop-client rsync git faketime strace binutils \
  ansible-core fail2ban tmux python3 python3-cryptography python3-prometheus-client mandoc man-db systemd

target=$(target_folder)
[ -n "$target" ] || exit 1
passed=0 failed=0 skipped=0
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT

count() {
  passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
}

# A part that did not get as far as counting.
broken() {
  echo "$1" && count 0 1 0
}

part_rust() {
  local ok bad ignored self_skipped code=0
  # --show-output also shows the tests that skipped themselves and why; the rest of what passing tests print is left out.
  cargo test --workspace --no-fail-fast -- --show-output 2>&1 | tee "$log" |
    awk '/^successes:$/ { quiet = 1 } /^failures:$|^test result:/ { quiet = 0 } !quiet || /^skipped: / { print; fflush() }' || code=$?
  read -r ok bad ignored < <(sed -n 's/^test result: .* \([0-9]*\) passed; \([0-9]*\) failed; \([0-9]*\) ignored.*/\1 \2 \3/p' "$log" |
    awk '{ ok += $1; bad += $2; ignored += $3 } END { print ok + 0, bad + 0, ignored + 0 }')
  self_skipped=$(grep -c '^skipped: ' "$log")
  count $((ok - self_skipped)) "$bad" $((ignored + self_skipped))
  [ "$code" = 0 ] || [ "$bad" != 0 ] || broken "cargo test ended with $code"
}

# Programs that print `N passed, M failed` as their last line.
part_counting() {
  local ok bad code=0
  "$@" 2>&1 | tee "$log" || code=$?
  read -r ok bad < <(sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p' "$log" | tail -n 1)
  count "${ok:-0}" "${bad:-0}" 0
  [ "$code" = 0 ] || [ "${bad:-0}" != 0 ] || broken "$1 ended with $code"
  [ -n "${ok:-}" ] || [ "$code" != 0 ] || broken "$1 counted nothing"
}

part_vectors() {
  part_counting cargo run -q --example check-vectors -- vectors/*.json
}

part_outside() {
  part_counting /usr/bin/python3 tests/outside/spa1.py check vectors/*.json
}

# The named system tests, with the debug programs that part rust has built: a second, optimised build would take longer
# than it saves.
run_system() {
  local ok bad out code=0
  if [ -z "${SPA_BIN:-}" ] && ! cargo build --workspace --bins; then
    broken "the programs do not build"
    return
  fi
  SPA_BIN=${SPA_BIN:-$target/debug} /usr/bin/python3 -u tests/system/run.py "$@" 2>&1 | tee "$log" || code=$?
  read -r ok bad out < <(sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed, \([0-9]*\) skipped$/\1 \2 \3/p' "$log" | tail -n 1)
  count "${ok:-0}" "${bad:-0}" "${out:-0}"
  [ -n "${ok:-}" ] || broken "the system tests ended with $code before they were counted"
}

# All but test_nftables, which has a part of its own.
part_system() {
  local file modules=()
  for file in tests/system/test_*.py; do
    file=${file##*/}
    [ "$file" = test_nftables.py ] || modules+=("${file%.py}")
  done
  run_system "${modules[@]}"
}

# What the backend has to do with; the rest is the same with either. Within about 90 s on two slow cores.
part_nftables() {
  local path=test_path.Path.test
  SPA_BACKEND=nftables run_system test_nftables test_crash.Killed \
    test_crash.Reload.test_a_good_file_is_loaded_and_doors_stay \
    ${path}_a_scan_sees_nothing ${path}_from_an_invite_to_a_command_over_ssh \
    ${path}_always_allowed_gets_in_without_a_knock ${path}_loopback_gets_in_without_a_knock \
    ${path}_a_door_is_widened_where_the_policy_says_so ${path}_an_established_connection_outlives_the_door \
    ${path}_taking_the_service_away_shuts_the_door
}

# What the fuzzer needs is one test: it compiles. It is run by hand, see fuzz/README.md.
part_fuzz() {
  if cargo check --manifest-path fuzz/Cargo.toml --target-dir "$target"; then count 1 0 0; else count 0 1 0; fi
}

whole=$EPOCHREALTIME
for part in "${parts[@]}"; do
  begun=$EPOCHREALTIME before="$passed $failed $skipped"
  printf '\n== %s\n' "$part"
  "part_$part"
  read -r ok bad out <<<"$before"
  printf '== %s: %d passed, %d failed, %d skipped in %s s\n' \
    "$part" $((passed - ok)) $((failed - bad)) $((skipped - out)) "$(since "$begun")"
done
printf '\n%s s in all\n' "$(since "$whole")"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
