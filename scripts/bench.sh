#!/usr/bin/env bash
# Measures spa beside fwknop and knockd, in one run, and writes docs/performance.md.
set -uo pipefail
cd "$(dirname "$(readlink -f "$0")")/.." || exit 1
. scripts/common.sh

usage() {
  cat <<'TXT'
usage: scripts/bench.sh [--quick] [--out DIR]

As root, on Debian with Rust; installs the packages that are missing. Builds with --release and measures for about ten
minutes, in network namespaces that it makes and removes: spa, fwknopd and knockd, each with its usual and its best
settings, and the limits of this machine. Prints the tables and what became of each aim, and writes performance.md and
performance/*.svg into DIR (docs). The machine should do nothing else meanwhile.

  --quick      a minute's run, to see that everything works; writes nothing unless --out is given
  --out DIR    write there

The exit code is 1 when a part failed; it says which. A missed aim is no failure.
TXT
}

quick=() out=docs
while [ $# != 0 ]; do
  case $1 in
    -h | --help) usage && exit ;;
    --quick) quick=(--quick) out='' && shift ;;
    --out) [ $# -ge 2 ] || { usage >&2 && exit 64; } && out=$2 && shift 2 ;;
    *) usage >&2 && exit 64 ;;
  esac
done

need_root scripts/bench.sh
need_cargo
install_missing gcc libc6-dev libpcap-dev iproute2 iptables ipset procps fwknop-server fwknop-client knockd git python3 \
  python3-cryptography || exit 1
for tool in ip iptables ipset fwknopd fwknop knockd knock; do
  command -v "$tool" >/dev/null || { echo "$tool is not there" >&2 && exit 1; }
done

begun=$EPOCHREALTIME
cargo build -q --release --workspace && cargo bench -q --no-run -p spa-proto || exit 1
echo "built in $(since "$begun") s"
target=$(target_folder)
SPA_BIN=$target/release exec /usr/bin/python3 -u tests/bench/bench.py "${quick[@]}" ${out:+--out "$out"}
