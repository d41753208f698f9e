"""Where the numbers come from."""

from __future__ import annotations

import datetime
import os
import platform
import re
import subprocess
from pathlib import Path


def describe() -> dict[str, str]:
    cpu = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    flags = Path("/proc/cpuinfo").read_text()
    return {
        "cpu": cpu[1] if cpu else platform.machine(),
        "cores": str(os.cpu_count()),
        "sha": "with" if re.search(r"\bsha_ni\b", flags) else "without",
        "virtual": "a virtual machine" if re.search(r"\bhypervisor\b", flags) else "no virtual machine",
        "kernel": platform.release(),
        "iptables": first_line("iptables", "--version"),
        "fwknopd": first_line("fwknopd", "--version").partition(",")[0],
        "knockd": first_line("knockd", "--version"),
        "libpcap": package("libpcap0.8"),
        "rust": first_line("rustc", "--version"),
        "commit": first_line("git", "describe", "--always", "--dirty"),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "load": f"{os.getloadavg()[0]:.1f}",
    }


def first_line(*argv: str) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    except OSError:
        return "not there"
    return (done.stdout or done.stderr).strip().split("\n")[0]


def package(name: str) -> str:
    return first_line("dpkg-query", "-W", "-f=${Version}", name)
