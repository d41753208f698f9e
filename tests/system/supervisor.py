#!/usr/bin/python3
"""Stands in for systemd where that is not pid 1: keeps `spa-server run` running as packaging/systemd asks for.

    supervisor.py [--watchdog S] [--restart-after S] [--dir DIR] SPA-SERVER

What it takes from spa-server.service and its companions: Type=notify (a NOTIFY_SOCKET whose messages count only when
they come from the main process), WatchdogSec=, Restart=on-failure with RestartPreventExitStatus=64 77 78,
KillMode=process, `close-overdue --wait` after any end. SIGTERM stops the daemon and then this; SIGHUP reloads it.

What happens is told on stdout, one JSON object a line: {"event": "started|ready|reloading|status|stopping|watchdog|
ended|closed|done", "pid", "at" (monotonic seconds), ...}. It ends with 0 after SIGTERM, with the daemon's exit code
when that is not to be started again.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Wrong usage, no permission, bad configuration: somebody has to mend it first.
NOT_AGAIN = (64, 77, 78)
STOP_TIMEOUT_S = 60.0
CREDENTIALS = struct.Struct("3i")
SO_PASSCRED = 16


def tell(event: str, **facts: object) -> None:
    print(json.dumps({"event": event, "at": round(time.monotonic(), 3), **facts}), flush=True)


class Supervisor:
    """One daemon, started again and again."""

    def __init__(self, server: Path, options: list[str], watchdog: float, restart_after: float) -> None:
        self.server, self.options = server, options
        self.watchdog, self.restart_after = watchdog, restart_after
        self.daemon: subprocess.Popen[bytes] | None = None
        self.closer: subprocess.Popen[bytes] | None = None
        self.stopping_since: float | None = None
        self.fed: float | None = None
        self.start_at: float | None = time.monotonic()
        self.code = 0
        self.folder = tempfile.TemporaryDirectory(prefix="spa-supervisor-")
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.setsockopt(socket.SOL_SOCKET, SO_PASSCRED, 1)
        self.address = str(Path(self.folder.name) / "notify")
        self.notify.bind(self.address)
        # systemd's lies in a folder that everybody may enter, and may be written to by everybody.
        os.chmod(self.folder.name, 0o755)
        os.chmod(self.address, 0o777)
        self.notify.setblocking(False)

    # The daemon's life

    def start(self) -> None:
        self.start_at = None
        environment = {**os.environ, "NOTIFY_SOCKET": self.address}
        if self.watchdog:
            environment["WATCHDOG_USEC"] = str(int(self.watchdog * 1e6))
        argv = [str(self.server), "run", *self.options]
        # `ready` on the daemon's stdout is no event of ours.
        self.daemon = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment)
        self.fed = None
        tell("started", pid=self.daemon.pid)

    def hear(self) -> None:
        while True:
            try:
                data, ancillary, _, _ = self.notify.recvmsg(4096, socket.CMSG_SPACE(CREDENTIALS.size))
            except BlockingIOError:
                return
            senders = [CREDENTIALS.unpack(found)[0] for _, _, found in ancillary if len(found) == CREDENTIALS.size]
            if self.daemon and senders == [self.daemon.pid]:
                for line in data.decode(errors="replace").splitlines():
                    self.take(line)
            else:
                tell("ignored", pid=senders[0] if senders else None)

    def take(self, line: str) -> None:
        name, _, value = line.partition("=")
        pid = self.daemon.pid if self.daemon else None
        now = time.monotonic()
        if name == "WATCHDOG":
            self.fed = now
        elif name == "READY":
            self.fed = now
            tell("ready", pid=pid)
        elif name == "STATUS":
            tell("status", pid=pid, text=value)
        elif name in ("RELOADING", "STOPPING"):
            tell(name.lower(), pid=pid)

    def look(self) -> None:
        """What time asks for."""
        now = time.monotonic()
        if self.daemon and (code := self.daemon.poll()) is not None:
            self.ended(code, now)
        if self.daemon and self.watchdog and self.fed is not None and now - self.fed > self.watchdog:
            tell("watchdog", pid=self.daemon.pid)
            # KillMode=process, WatchdogSignal=SIGKILL: its partner notices by itself.
            self.daemon.kill()
            self.fed = None
        if self.daemon and self.stopping_since is not None and now - self.stopping_since > STOP_TIMEOUT_S:
            self.daemon.kill()
        if self.closer and (code := self.closer.poll()) is not None:
            tell("closed", pid=self.closer.pid, code=code)
            self.closer = None
        if not self.daemon and self.start_at is not None and now >= self.start_at:
            self.start()

    def ended(self, code: int, now: float) -> None:
        self.hear()
        tell("ended", pid=self.daemon.pid if self.daemon else None, code=code)
        self.daemon, self.code = None, code
        if not self.closer:
            argv = [str(self.server), "close-overdue", "--wait", *self.options]
            self.closer = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        if self.stopping_since is None and code not in (0, *NOT_AGAIN):
            self.start_at = now + self.restart_after

    def stop(self, *_: object) -> None:
        self.start_at = None
        if self.stopping_since is None:
            self.stopping_since = time.monotonic()
            if self.daemon:
                self.daemon.terminate()

    def reload(self, *_: object) -> None:
        if self.daemon:
            self.daemon.send_signal(signal.SIGHUP)

    def run(self) -> int:
        signal.signal(signal.SIGTERM, self.stop)
        signal.signal(signal.SIGINT, self.stop)
        signal.signal(signal.SIGHUP, self.reload)
        with selectors.DefaultSelector() as selector:
            selector.register(self.notify, selectors.EVENT_READ)
            while self.daemon or self.start_at is not None:
                self.look()
                if selector.select(0.02):
                    self.hear()
        # On a host systemd would let it wait for the last end; here nothing may be left behind.
        if self.closer:
            self.closer.terminate()
            self.closer.wait(10)
        tell("done", code=self.code)
        return 0 if self.stopping_since is not None else self.code

    def remove(self) -> None:
        for process in (self.daemon, self.closer):
            if process and process.poll() is None:
                process.kill()
                process.wait(10)
        self.notify.close()
        self.folder.cleanup()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--watchdog", type=float, default=0.0, metavar="S", help="WatchdogSec=; none unless told")
    parser.add_argument("--restart-after", type=float, default=0.1, metavar="S", help="RestartSec=")
    parser.add_argument("--dir", help="passed on")
    parser.add_argument("server", type=Path, metavar="SPA-SERVER")
    asked = parser.parse_args()
    options = ["--dir", asked.dir] if asked.dir else []
    supervisor = Supervisor(asked.server, options, asked.watchdog, asked.restart_after)
    try:
        return supervisor.run()
    finally:
        supervisor.remove()


if __name__ == "__main__":
    sys.exit(main())
