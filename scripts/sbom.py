#!/usr/bin/env python3
"""Writes what a program is made of, as a CycloneDX 1.5 bill of materials in JSON, on stdout.

    scripts/sbom.py PACKAGE < cargo-metadata.json

Every crate that is built into PACKAGE, with version, licence, checksum of Cargo.lock and package URL, and which needs
which. Crates for tests and for other targets are not in it. The same input gives the same octets.
"""

from __future__ import annotations

import json
import sys
import tomllib
import uuid
from pathlib import Path
from typing import Any

LOCK = Path(__file__).resolve().parents[1] / "Cargo.lock"
# Ours, so that the same contents have the same serial number everywhere.
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "spa:sbom")


def built_in(metadata: dict[str, Any], root: str) -> list[str]:
    """The ids of all that is built into `root`, itself first: normal and build dependencies, no development ones."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    found, waiting = [root], [root]
    while waiting:
        for needed in needs(nodes[waiting.pop()]):
            if needed not in found:
                found.append(needed)
                waiting.append(needed)
    return found


def needs(node: dict[str, Any]) -> list[str]:
    kinds = ((dep["pkg"], {kind["kind"] for kind in dep["dep_kinds"]}) for dep in node["deps"])
    return sorted(package for package, found in kinds if found - {"dev"})


def component(package: dict[str, Any], checksums: dict[tuple[str, str], str]) -> dict[str, Any]:
    name, version = package["name"], package["version"]
    # Older crates separate alternatives by a slash, which SPDX does not know.
    licence = (package["license"] or "").replace(" / ", "/").replace("/", " OR ")
    described = {
        "type": "library",
        "bom-ref": reference(package),
        "name": name,
        "version": version,
        "purl": f"pkg:cargo/{name}@{version}",
        "licenses": [{"expression": licence}],
    }
    if checksum := checksums.get((name, version)):
        described["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    return described


def reference(package: dict[str, Any]) -> str:
    return f"{package['name']}@{package['version']}"


def bill(metadata: dict[str, Any], lock: dict[str, Any], name: str) -> dict[str, Any]:
    packages = {package["id"]: package for package in metadata["packages"]}
    root = next(key for key in metadata["workspace_members"] if packages[key]["name"] == name)
    checksums = {(one["name"], one["version"]): one["checksum"] for one in lock["package"] if "checksum" in one}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    parts = sorted(built_in(metadata, root)[1:], key=lambda key: reference(packages[key]))
    components = [component(packages[key], checksums) for key in parts]
    own = component(packages[root], checksums) | {"type": "application"}
    edges = [
        {"ref": reference(packages[key]), "dependsOn": [reference(packages[needed]) for needed in needs(nodes[key])]}
        for key in [root, *parts]
    ]
    body = {"metadata": {"component": own}, "components": components, "dependencies": edges}
    serial = uuid.uuid5(NAMESPACE, json.dumps(body, sort_keys=True))
    head = {"bomFormat": "CycloneDX", "specVersion": "1.5", "serialNumber": f"urn:uuid:{serial}", "version": 1}
    return head | body


def main() -> int:
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 64
    with LOCK.open("rb") as file:
        lock = tomllib.load(file)
    json.dump(bill(json.load(sys.stdin), lock, sys.argv[1]), sys.stdout, indent=2)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
