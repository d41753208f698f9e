"""A Debian of its own, with systemd as pid 1: a root that debootstrap has made, in namespaces, beside two hosts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "system"))

from harness import Done, Network, at_end, eventually, run  # noqa: E402

HIERARCHIES = [Path("/sys/fs/cgroup") / name for name in ("systemd", "unified", "")]
# Nothing of these has a place in a test, and some would reach this machine's kernel or devices.
MASKED = (
    *("systemd-sysctl", "systemd-udevd", "systemd-udev-trigger", "systemd-modules-load", "systemd-binfmt"),
    *("systemd-random-seed", "systemd-remount-fs", "systemd-logind", "systemd-timesyncd", "systemd-resolved"),
    *("kmod-static-nodes", "e2scrub_reap", "console-getty", "getty-static", "systemd-networkd"),
)
MASKED_MOUNTS = (
    *("sys-kernel-debug", "sys-kernel-tracing", "sys-kernel-config", "sys-fs-fuse-connections"),
    "dev-hugepages",
)
TIMERS = ("apt-daily", "apt-daily-upgrade", "dpkg-db-backup", "e2scrub_all", "fstrim", "systemd-tmpfiles-clean")


class Machine:
    """The gateway of a test."""

    def __init__(self, root: Path, network: Network) -> None:
        self.root, self.network = root, network
        self.process: subprocess.Popen[bytes] | None = None
        self.groups: list[Path] = []
        self.power_off: Callable[[], None] = lambda: None

    @staticmethod
    def prepare(root: Path) -> None:
        """Once for a root: what must not run in it is masked."""
        units = [f"{name}.service" for name in MASKED] + [f"{name}.mount" for name in MASKED_MOUNTS]
        for unit in units + [f"{name}.timer" for name in TIMERS]:
            link = root / "etc/systemd/system" / unit
            link.unlink(missing_ok=True)
            link.symlink_to("/dev/null")
        # Its own sshd, without a name to look up.
        (root / "etc/ssh/sshd_config.d/test.conf").write_text("UseDNS no\n")

    def boot(self) -> None:
        self._make_groups()
        unshare = ["unshare", "--mount", "--pid", "--fork", "--uts", "--ipc", "--cgroup", "--kill-child"]
        inside = ["ip", "netns", "exec", self.network.gateway.name, *unshare, HERE / "boot.sh", self.root]
        enter = "".join(f'echo $$ >"{group}/cgroup.procs" && ' for group in self.groups) + 'exec "$0" "$@"'
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(["sh", "-c", enter, *map(str, inside)], stdin=quiet, stdout=quiet)
        self.power_off = at_end(self._power_off)
        eventually(self._init, 10, "pid 1")
        states = ("running", "degraded")
        eventually(lambda: self.run("systemctl", "is-system-running", check=False).stdout.strip() in states, 60, "boot")

    def _make_groups(self) -> None:
        for hierarchy in HIERARCHIES:
            if (hierarchy / "cgroup.procs").exists():
                group = hierarchy / f"spa-packages-{os.getpid()}"
                group.mkdir(exist_ok=True)
                self.groups.append(group)

    def _init(self) -> int | None:
        """Its pid 1, as this machine counts."""
        if not self.process:
            return None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for child in children:
            if Path(f"/proc/{child}/comm").read_text() == "systemd\n":
                return int(child)
        return None

    def _power_off(self) -> None:
        if self.process:
            # unshare takes its whole process namespace along (--kill-child).
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(20)
            self.process = None
        for group in self.groups:
            eventually(lambda group=group: remove_group(group), 10, f"{group} empty")
        self.groups = []

    def inside(self, *argv: str | Path, network: bool = True) -> list[str]:
        """`argv` on this machine; without `network` in that of the caller."""
        init = self._init()
        if not init:
            raise AssertionError("the machine does not run")
        namespaces = ["-m", "-p", "-u", "-i", "-C", *(["-n"] if network else []), "-r", "-w"]
        path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        environment = ["env", "-i", path, "DEBIAN_FRONTEND=noninteractive"]
        return ["nsenter", "-t", str(init), *namespaces, *environment, *map(str, argv)]

    def run(self, *argv: str | Path, check: bool = True, timeout: float = 60) -> Done:
        return run(*self.inside(*argv), check=check, timeout=timeout)

    def client(self, *argv: str, check: bool = True) -> Done:
        """spa-client as this root has it, from the friend's host."""
        return run(
            *("ip", "netns", "exec", self.network.friend.name),
            *self.inside("SPA_CONFIG_DIR=/root/profiles", "spa-client", *argv, network=False),
            check=check,
        )


def remove_group(group: Path) -> bool:
    below = sorted(group.rglob("*/"), key=lambda path: len(path.parts), reverse=True)
    for folder in [*below, group]:
        try:
            folder.rmdir()
        except FileNotFoundError:
            pass
        except OSError:
            return False
    return not group.exists()
