#!/usr/bin/env bash
# Records a first session, from the gateway's set-up to ssh on the device, as docs/first-session.svg.
set -uo pipefail
cd "$(dirname "$(readlink -f "$0")")/.." || exit 1
. scripts/common.sh

case "${1:-}" in
-h | --help)
  cat <<'TXT'
usage: scripts/record.sh

Runs the commands of a first session for real, on a gateway and a device that are network namespaces with files of their
own, and writes what they printed and how long they took into docs/first-session.svg. As root, on Debian with Rust.
With SPA_BIN=FOLDER it builds nothing and takes the programs from there.
TXT
  exit
  ;;
"") ;;
*) echo "unknown: $1; see scripts/record.sh --help" >&2 && exit 64 ;;
esac

need_root scripts/record.sh
if [ -z "${SPA_BIN:-}" ]; then
  need_cargo
  cargo build --workspace --bins || exit 1
  SPA_BIN=$(target_folder)/debug
fi
install_missing iproute2 iptables ipset openssh-server openssh-client python3 python3-cryptography
SPA_BIN=$SPA_BIN exec /usr/bin/python3 tests/system/record.py docs/first-session.svg
