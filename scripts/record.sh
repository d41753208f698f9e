#!/usr/bin/env bash
# Draws the README's pictures from real runs: a first session, from the gateway's set-up to ssh on the device, and what
# `spa-server status --watch` shows.
set -uo pipefail
cd "$(dirname "$(readlink -f "$0")")/.." || exit 1
. scripts/common.sh

case "${1:-}" in
-h | --help)
  cat <<'TXT'
usage: scripts/record.sh [session | watch]

session runs the commands of a first session for real, on a gateway and a device that are network namespaces with files
of their own, and writes what they printed and how long they took into docs/first-session.svg. watch lets people knock
and strangers send junk there, and writes what `spa-server status --watch` shows of it into docs/status-watch.svg. Both
unless told. As root, on Debian with Rust.
With SPA_BIN=FOLDER it builds nothing and takes the programs from there.
TXT
  exit
  ;;
"" | session | watch) ;;
*) echo "unknown: $1; see scripts/record.sh --help" >&2 && exit 64 ;;
esac

need_root scripts/record.sh
if [ -z "${SPA_BIN:-}" ]; then
  need_cargo
  cargo build --workspace --bins || exit 1
  SPA_BIN=$(target_folder)/debug
fi
install_missing iproute2 iptables ipset openssh-server openssh-client python3 python3-cryptography tmux
export SPA_BIN
if [ "${1:-session}" = session ]; then
  /usr/bin/python3 tests/system/record.py docs/first-session.svg || exit 1
fi
if [ "${1:-watch}" = watch ]; then
  /usr/bin/python3 tests/system/record_watch.py docs/status-watch.svg || exit 1
fi
