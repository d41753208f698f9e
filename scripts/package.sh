#!/usr/bin/env bash
# Builds the Debian packages spa-server (with spa-keys) and spa-client.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.." || exit 1
. scripts/common.sh

usage() {
  cat <<'TXT'
usage: scripts/package.sh [--debug] [--version VERSION] [--output FOLDER]

Builds spa-server_VERSION_ARCH.deb and spa-client_VERSION_ARCH.deb for this machine's Debian, with man pages and shell
completions, and says where they are. lintian looks at them where it is installed.

  --debug             from the programs of `cargo build`: fast, to try the packages themselves
  --version VERSION   the packages' version, such as 0.1.0-2; the programs' own unless told
  --output FOLDER     target/debian unless told

Needs cargo-deb (cargo install cargo-deb --locked) and dpkg-dev. With SOURCE_DATE_EPOCH, or from a commit, the dates in
them are not today's.
TXT
}

profile=release version='' output=''
while [ $# -gt 0 ]; do
  case "$1" in
    --debug) profile=dev ;;
    --version) version=${2:?} && shift ;;
    --output) output=$(realpath -m "${2:?}") && shift ;;
    -h | --help) usage && exit ;;
    *) usage >&2 && exit 64 ;;
  esac
  shift
done
need_cargo
for tool in cargo-deb dpkg-shlibdeps; do
  command -v "$tool" >/dev/null && continue
  printf '%s is not there\ntry: cargo install cargo-deb --locked; apt-get install dpkg-dev\n' "$tool" >&2
  exit 1
done
target=$(target_folder)
programs=$target/$([ $profile = dev ] && echo debug || echo release)
[ -n "$version" ] || version=$(cargo metadata --format-version 1 --no-deps | sed -n 's/.*"name":"spa-server","version":"\([^"]*\)".*/\1/p')-1
[ -n "$output" ] || output=$target/debian
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH

# As Debian wants it: what is new stands in CHANGELOG.md.
changelog() {
  printf '%s (%s) unstable; urgency=medium\n\n  * See CHANGELOG.md of the project for what is new.\n\n -- %s  %s\n' \
    "$1" "$version" "The spa contributors <spa@example.net>" "$(date -u -R -d "@$SOURCE_DATE_EPOCH")"
}

# pages PACKAGE PAGES5 PROGRAM...: what is made, in folders by its kind.
pages() {
  local folder=$target/package/$1 page file
  rm -rf "$folder"
  mkdir -p "$folder"/{all,man1,man5,man8,bash,zsh,fish}
  for page in $2; do cp "docs/man/$page" "$folder/man5/"; done
  for file in "${@:3}"; do
    "$programs/$file" manual "$folder/all"
    mv "$folder/all/$file.bash" "$folder/bash/$file"
  done
  for file in "$folder"/all/*; do
    case "$file" in
      *.1) mv "$file" "$folder/man1/" ;;
      *.8) mv "$file" "$folder/man8/" ;;
      *.fish) mv "$file" "$folder/fish/" ;;
      */_*) mv "$file" "$folder/zsh/" ;;
      *) echo "what is $file?" >&2 && return 1 ;;
    esac
  done
  gzip -9n "$folder"/man?/* 2>/dev/null || true
  rmdir "$folder"/all "$folder"/man? 2>/dev/null || true
  changelog "spa-$1" | gzip -9n >"$folder/changelog.Debian.gz"
}

cargo build --profile $profile -p spa-server -p spa-keys -p spa-client --bins
pages server 'server.toml.5 spa-clients.d.5' spa-server spa-keys
pages client spa-profile.5 spa-client
mkdir -p "$output"
for package in spa-server spa-client; do
  # Man pages and the rest are there already; the programs too.
  cargo deb -q -p $package --profile $profile --no-build --no-dbgsym --deb-version "$version" --output "$output"
done
ls -l "$output"/spa-*_"$version"_*.deb
if command -v lintian >/dev/null; then
  lintian --fail-on error "$output"/spa-*_"$version"_*.deb
else
  echo "lintian is not installed: left out"
fi
