#!/usr/bin/env bash
# Builds spa-client as one static file: for Termux on a phone, a borrowed laptop, a rescue system.
set -uo pipefail
cd "$(dirname "$(readlink -f "$0")")/.." || exit 1
. scripts/common.sh

usage() {
  cat <<'TXT'
usage: scripts/static.sh [x86_64|aarch64]...

Builds static spa-client programs, for this machine's processor unless named, and says where they are.

With Rust's standard library for musl (TARGET is x86_64-unknown-linux-musl or aarch64-unknown-linux-musl; `rustup target
add TARGET` brings it, Debian does not package it) the result runs on every Linux of that processor, and in Termux.
Without it, x86-64 is linked statically with glibc: that runs everywhere too, but see what it says about names.
The exit code is 1 when one of them could not be built.
TXT
}

case "${1:-}" in -h | --help) usage && exit ;; esac
for processor; do
  case "$processor" in x86_64 | aarch64) ;; *) echo "no processor is called $processor" >&2 && usage >&2 && exit 64 ;; esac
done
[ $# -gt 0 ] || set -- "$(uname -m)"
need_cargo
target=$(target_folder)
[ -n "$target" ] || exit 1
# Flags in the environment take the place of those in .cargo/config.toml: all of them stand here.
# Randomness comes from the system call itself: a rescue system may have no /dev/urandom to fall back to.
flags='--cfg poly1305_backend="soft" --cfg getrandom_backend="linux_raw"'

# Whether the standard library for a target is installed.
has_std() {
  compgen -G "$(rustc --print target-libdir --target "$1" 2>/dev/null)/libstd-*.rlib" >/dev/null
}

# build TARGET FLAGS: the program, in a folder of its own, so that other builds stay as they are.
build() {
  RUSTFLAGS="$flags $2" cargo build --release -p spa-client --target "$1" --target-dir "$target/static"
}

# Only what needs no shared library is handed out.
finish() {
  local program=$target/static/$1/release/spa-client
  if ldd "$program" 2>&1 | grep -qv -e 'statically linked' -e 'not a dynamic executable'; then
    echo "$program still needs shared libraries:" >&2
    ldd "$program" >&2
    return 1
  fi
  echo "static: $program ($(($(stat -c %s "$program") / 1024)) KiB)"
}

musl() {
  # spa-client has no C in it: Rust's own linker is enough, also for another processor.
  build "$1" '-C linker=rust-lld' && finish "$1"
}

glibc() {
  build x86_64-unknown-linux-gnu '-C target-feature=+crt-static' && finish x86_64-unknown-linux-gnu || return
  cat <<'TXT'
It is linked with glibc, since the standard library for x86_64-unknown-linux-musl is not installed. Names are looked up
in /etc/hosts and by DNS; other sources of /etc/nsswitch.conf (resolve, mdns, ldap) work only where the same glibc is.
TXT
}

failed=0
for processor; do
  triple=$processor-unknown-linux-musl
  if has_std "$triple"; then
    musl "$triple" || failed=1
  elif [ "$processor" = x86_64 ] && has_std x86_64-unknown-linux-gnu; then
    glibc || failed=1
  else
    failed=1
    printf 'not built for %s: the standard library for %s is not installed\n' "$processor" "$triple" >&2
    printf 'try: rustup target add %s (Debian has no package of it)\n' "$triple" >&2
  fi
done
exit $failed
