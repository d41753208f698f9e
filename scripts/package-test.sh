#!/usr/bin/env bash
# Tries the Debian packages on a Debian of their own, with systemd as pid 1, in namespaces that are gone afterwards.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.." || exit 1
. scripts/common.sh

usage() {
  cat <<'TXT'
usage: scripts/package-test.sh [--debug] [--root FOLDER]

Builds the packages in two versions and makes a fresh root with debootstrap. There they are installed, set up, knocked
at, upgraded with a door open, killed, frozen, booted, removed, installed again and purged; at the end every file is what
it was. It takes some minutes, and nothing stays but target/debian.

  --debug         from the programs of `cargo build`
  --root FOLDER   a root that debootstrap and this script have made before; it is copied. One that is not there is made
                  and kept
TXT
}

debug=() root=''
while [ $# -gt 0 ]; do
  case "$1" in
    --debug) debug=(--debug) ;;
    --root) root=$(realpath -m "${2:?}") && shift ;;
    -h | --help) usage && exit ;;
    *) usage >&2 && exit 64 ;;
  esac
  shift
done
need_root scripts/package-test.sh
install_missing debootstrap dpkg-dev lintian iproute2 util-linux python3 python3-cryptography iptables ipset nftables
# On a disk: a root takes some 400 MB.
work=$(mktemp -d /var/tmp/spa-packages-XXXXXX)
# All mounts are made in namespaces that end with the machine; should one be left, it is not followed.
trap 'rm -rf --one-file-system "$work"' EXIT

# make_root FOLDER: Debian with all that the packages recommend, so that they alone are what is put in and taken out.
make_root() {
  local extra=iproute2,procps,man-db,openssh-server,tcpd,iptables,ipset,nftables,libpcap0.8
  local suite
  suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
  timeout 1200 debootstrap --variant=minbase "--include=systemd,systemd-sysv,dbus,$extra" "$suite" "$1" >"$work/log" ||
    { tail -n 20 "$work/log" >&2 && return 1; }
  rm -rf "$1"/var/cache/apt/archives/*.deb
}

scripts/package.sh "${debug[@]}" --version 0.1.0-1 --output "$work/old"
scripts/package.sh "${debug[@]}" --version 0.1.0-2 --output "$work/new"
if [ -n "$root" ]; then
  [ -d "$root" ] || make_root "$root"
  cp -a "$root" "$work/root"
else
  make_root "$work/root"
fi
SPA_ROOT=$work/root SPA_OLD=$work/old SPA_NEW=$work/new timeout 1200 /usr/bin/python3 -u tests/packages/test_packages.py
