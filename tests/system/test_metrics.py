"""Metrics for Prometheus: what they say of real knocks, who may ask for them, and that asking holds nothing up."""

from __future__ import annotations

import errno
import shutil
import socket
import time
from typing import Any

import harness
from harness import GATEWAY, REASONS, Outside, SystemTest, eventually

AT = ("127.0.0.1", 9798)
LISTEN = '[metrics]\nlisten = "127.0.0.1:9798"\n'


def setUpModule() -> None:
    harness.require()


def ask(connection: socket.socket, request: bytes = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n") -> tuple[str, str]:
    """The status line and the body."""
    with connection:
        connection.settimeout(10)
        connection.sendall(request)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    head, _, body = answer.decode().partition("\r\n\r\n")
    return head.split("\r\n")[0], body


def samples(page: str) -> dict[str, float]:
    lines = [line for line in page.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


class Metrics(SystemTest):
    with_sshd = False

    def tcp(self) -> socket.socket:
        connection = self.gateway.host.socket(socket.AF_INET, socket.SOCK_STREAM)
        connection.connect(AT)
        return connection

    def begin(self, metrics: str = LISTEN) -> Outside:
        self.gateway.configure(metrics + harness.server_toml())
        self.gateway.start()
        return Outside.add(self.gateway, "alice", ["ssh"])

    def page(self) -> str:
        status, body = ask(self.tcp())
        self.assertEqual(status, "HTTP/1.1 200 OK")
        return body

    def test_what_happened_is_counted(self) -> None:
        alice = self.begin()
        first = samples(self.page())
        self.assertEqual({first[f'spa_refused_total{{reason="{reason}"}}'] for reason in REASONS}, {0})
        datagram = alice.open(self.friend, GATEWAY[4], "ssh", duration=60)
        eventually(self.gateway.grants)
        self.friend.send(datagram, GATEWAY[4])
        self.friend.send(bytes(300), GATEWAY[4], times=3)
        alice.open(self.friend, GATEWAY[4], "nothing")
        eventually(lambda: self.gateway.refused("tag") == 3 and self.gateway.refused("policy"))
        now = eventually(lambda: (page := samples(self.page()))['spa_refused_total{reason="policy"}'] and page)
        expected = {
            'spa_accepted_total{kind="open"}': 1,
            'spa_refused_total{reason="copy"}': 1,
            'spa_refused_total{reason="tag"}': 3,
            'spa_refused_total{reason="policy"}': 1,
            'spa_grants{service="ssh"}': 1,
            'spa_grants{service="db"}': 0,
            f'spa_backend_up{{backend="{harness.BACKEND}"}}': 1,
            'spa_interface_up{interface="any"}': 1,
            'spa_config_state{state="current"}': 1,
            'spa_record_state{state="ok"}': 1,
            'spa_clients{state="active"}': 1,
            'spa_knock_clock_difference_seconds_bucket{le="5"}': 2,
            "spa_knock_clock_difference_seconds_count": 2,
        }
        self.assertEqual({name: now.get(name) for name in expected}, expected)
        self.assertGreaterEqual(now["spa_record_commit_seconds_count"], 1)
        self.assertLess(now["spa_record_commit_seconds_sum"], 30)
        self.assertAlmostEqual(now["process_start_time_seconds"], time.time(), delta=60)
        self.assertEqual(self.gateway.status()["metrics"], {"listen": "127.0.0.1:9798", "state": "ok", "note": None})

    def test_other_programs_can_read_it(self) -> None:
        alice = self.begin()
        alice.open(self.friend, GATEWAY[4], "ssh")
        eventually(self.gateway.grants)
        page = self.page()
        checked = 0
        if promtool := shutil.which("promtool"):
            said = harness.run(promtool, "check", "metrics", stdin=page, check=False)
            self.assertEqual((said.returncode, said.stdout + said.stderr), (0, ""))
            checked += 1
        try:
            from prometheus_client.parser import text_string_to_metric_families as read
        except ImportError:
            read = None
        if read:
            families: dict[str, Any] = {family.name: family for family in read(page)}
            self.assertEqual(families["spa_refused"].type, "counter")
            self.assertEqual(families["spa_record_commit_seconds"].type, "histogram")
            self.assertEqual({sample.labels["reason"] for sample in families["spa_refused"].samples}, set(REASONS))
            self.assertTrue(all(family.documentation for family in families.values()))
            checked += 1
        if not checked:
            self.skipTest("neither promtool nor python3-prometheus-client is there")

    def test_over_a_socket_in_the_file_system(self) -> None:
        path = self.gateway.dir / "run" / "metrics.sock"
        self.begin(f'[metrics]\nsocket = "{path}"\n')

        def connect() -> socket.socket:
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(str(path))
            return connection

        self.assertIn("spa_grants", ask(connect())[1])
        self.assertEqual(path.stat().st_mode & 0o777, 0o660)
        self.gateway.kill9()
        self.assertTrue(path.exists())
        self.gateway.start()
        self.assertIn("spa_grants", ask(connect())[1])
        self.gateway.stop()
        self.assertFalse(path.exists())

    def test_slow_and_greedy_readers_hold_nothing_up(self) -> None:
        alice = self.begin()
        held = [self.tcp() for _ in range(60)]
        for number, connection in enumerate(held):
            self.addCleanup(connection.close)
            connection.sendall(b"GET /metrics HTTP/1.1\r\n" if number % 2 else b"x")
        alice.open(self.friend, GATEWAY[4], "ssh")
        eventually(self.gateway.grants, 5, "a door in spite of them")
        for connection in held:
            connection.close()
        self.assertEqual(ask(self.tcp())[0], "HTTP/1.1 200 OK")

    def test_only_the_page_and_only_asked_for_nicely(self) -> None:
        self.begin()
        for request, code in (
            (b"GET / HTTP/1.1\r\n\r\n", "404"),
            (b"POST /metrics HTTP/1.1\r\n\r\n", "405"),
            (b"\0" * 100 + b"\r\n\r\n", "400"),
        ):
            self.assertIn(f" {code} ", ask(self.tcp(), request)[0])

    def test_who_cannot_listen_runs_all_the_same(self) -> None:
        taken = self.gateway.host.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.addCleanup(taken.close)
        taken.bind(AT)
        taken.listen()
        alice = self.begin()
        said = self.gateway.status()["metrics"]
        self.assertEqual(said["state"], "failing")
        self.assertIn("in use", said["note"])
        alice.open(self.friend, GATEWAY[4], "ssh")
        eventually(self.gateway.grants)

    def test_off_unless_written_and_another_place_waits_for_the_next_start(self) -> None:
        self.gateway.start()
        self.assertNotIn("metrics", self.gateway.status())
        self.gateway.configure(LISTEN + harness.server_toml())
        applied = self.gateway.control_json("apply")
        self.assertEqual(applied["changes"], ["metrics: asked for elsewhere, from the next start of spa-server on"])
        with self.gateway.host.socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
            self.assertEqual(connection.connect_ex(AT), errno.ECONNREFUSED)
        self.gateway.restart()
        self.assertIn("spa_build_info", self.page())

    def test_never_beyond_this_host(self) -> None:
        self.gateway.configure('[metrics]\nlisten = "0.0.0.0:9798"\n' + harness.server_toml())
        done = self.gateway.control("check", "--json", check=False)
        self.assertEqual(done.returncode, 78)
        codes = [finding["code"] for finding in harness.as_object(done.stdout)["findings"]]
        self.assertIn("metrics-not-local", codes)

