#!/usr/bin/env bash
# Looks at what this depends on: licences, sources, crates that must not come in.
set -uo pipefail
cd "$(dirname "$(readlink -f "$0")")/.." || exit 1
. scripts/common.sh

usage() {
  cat <<'TXT'
usage: scripts/deny.sh [CHECK...]

Runs `cargo deny check` by deny.toml: licenses, bans and sources unless named. These need no network beyond `cargo
fetch`. `advisories` needs RustSec's database, from https://github.com/rustsec/advisory-db.

Needs cargo-deny (cargo install cargo-deny --locked).
TXT
}

case "${1:-}" in -h | --help) usage && exit ;; esac
[ $# -gt 0 ] || set -- licenses bans sources
need_cargo
command -v cargo-deny >/dev/null || {
  printf 'cargo-deny is not there\ntry: cargo install cargo-deny --locked\n' >&2
  exit 1
}
cargo fetch --locked && exec cargo deny --locked check "$@"
