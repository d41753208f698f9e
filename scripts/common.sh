# What test.sh, demo.sh and .ci/run have in common. To be sourced by bash.
# shellcheck shell=bash

# `su` without `-` leaves out the folders that iptables and sshd live in, and cargo's.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:${CARGO_HOME:-$HOME/.cargo}/bin

# Whoever is not root cannot make network namespaces; nobody is made root from here.
need_root() {
  [ "$(id -u)" = 0 ] && return
  printf '%s needs root: it makes network namespaces and firewall rules in them.\ntry: su -c %s\n' "$1" "$1" >&2
  exit 77
}

need_cargo() {
  command -v cargo >/dev/null && return
  printf 'cargo is not there; Rust 1.95 or newer is needed\ntry: https://rustup.rs, or add the folder of cargo to PATH\n' >&2
  exit 1
}

# Installs those of the Debian packages that are missing.
install_missing() {
  local package missing=()
  command -v dpkg-query >/dev/null || { echo "no Debian here: install the like of $*" >&2 && return; }
  for package; do
    dpkg-query -W -f='${Status}\n' "$package" 2>/dev/null | grep -q '^install ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} = 0 ] && return
  echo "installing what is missing: ${missing[*]}"
  (
    # Nobody asked for an sshd on this host: what a package brings is not started.
    if [ ! -e /usr/sbin/policy-rc.d ]; then
      trap 'rm -f /usr/sbin/policy-rc.d' EXIT
      printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod 0755 /usr/sbin/policy-rc.d
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update && apt-get -qq -y --no-install-recommends install "${missing[@]}" </dev/null >/dev/null
  ) || { echo "apt-get could not install all of it" >&2 && return 1; }
}

# Where cargo puts what it builds.
target_folder() {
  if [ -n "${CARGO_TARGET_DIR:-}" ]; then
    realpath -m "$CARGO_TARGET_DIR"
  else
    cargo metadata --format-version 1 --no-deps | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p'
  fi
}

# Seconds since $1, a value of EPOCHREALTIME, with one digit after the point; a second argument asks for more digits.
since() {
  local now=${EPOCHREALTIME/[.,]/} begun=${1/[.,]/} digits=${2:-1} us
  us=$((now - begun))
  printf '%d.%s' $((us / 1000000)) "$(printf '%06d' $((us % 1000000)) | cut -c "1-$digits")"
}
