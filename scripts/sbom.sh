#!/usr/bin/env bash
# Writes what each program is made of: target/sbom/PROGRAM.cdx.json, CycloneDX 1.5.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.." || exit 1
. scripts/common.sh

case "${1:-}" in -h | --help) echo "usage: scripts/sbom.sh   bills of materials of the three programs, in target/sbom" && exit ;; esac
need_cargo
folder=$(target_folder)/sbom
mkdir -p "$folder"
metadata=$(mktemp)
trap 'rm -f "$metadata"' EXIT
# What is built for this machine, and only that.
cargo metadata --format-version 1 --locked --filter-platform "$(rustc -vV | sed -n 's/^host: //p')" >"$metadata"
for program in spa-server spa-keys spa-client; do
  /usr/bin/python3 scripts/sbom.py $program <"$metadata" >"$folder/$program.cdx.json"
  echo "$folder/$program.cdx.json: $(grep -c '"purl"' "$folder/$program.cdx.json") parts"
done
