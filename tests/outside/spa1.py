#!/usr/bin/python3
"""A second implementation of spa/1, written from docs/protocol.md alone.

It is the referee of the first one: it seals requests, also such as no honest client sends, reads datagrams as a
gateway does as far as that can be done without a memory, and reads and writes invites. Section names in comments are
those of docs/protocol.md. Times are nanoseconds since 1970, keys are 32 raw bytes.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import ipaddress
import json
import os
import re
import secrets
import socket
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

NOISE_NAME = b"Noise_Xpsk1_25519_ChaChaPoly_SHA256"
PROLOGUE = b"spa/1"
DAY_NS = 86_400_000_000_000
SECOND_NS = 1_000_000_000
OVERHEAD = 112
SHORTEST, LONGEST = 192, 1232
NO_CODE = 0xFFFF_FFFF
OPEN, CLOSE, ENROLL = 1, 2, 3
KINDS = {OPEN: "open", CLOSE: "close", ENROLL: "enroll"}
SERVICE = re.compile(rb"[a-z0-9][a-z0-9._/-]{0,62}")
HIDDEN_CHARACTERS = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
WINDOW_S = {"as seen": 60, "explicit": 300, "enroll": 43_200}


class Refused(Exception):
    """A datagram is refused at one of the gateway's nine steps."""

    def __init__(self, step: int, why: str) -> None:
        super().__init__(f"step {step}: {why}")
        self.step = step


# Keys


def hmac256(key: bytes, *parts: bytes) -> bytes:
    return hmac.digest(key, b"".join(parts), "sha256")


def public_key(private: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def diffie_hellman(private: bytes, public: bytes) -> bytes:
    """X25519; ValueError when the result is all zeros."""
    shared = X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))
    if shared == bytes(32):
        raise ValueError("Diffie-Hellman result is all zeros")
    return shared


@dataclass(frozen=True)
class ClientKeys:
    """What a device needs to seal: its own secrets and the gateway it speaks to."""

    gateway_public: bytes
    hmac_key: bytes
    private: bytes
    psk: bytes

    @property
    def public(self) -> bytes:
        return public_key(self.private)


@dataclass(frozen=True)
class Identity:
    """What a gateway needs to read: S and K."""

    private: bytes
    hmac_key: bytes

    @property
    def public(self) -> bytes:
        return public_key(self.private)


# Payload


@dataclass(frozen=True)
class Payload:
    """The payload field by field, so that a test can put anything anywhere with `dataclasses.replace`."""

    kind: int
    timestamp: int
    form: int = 0
    reserved: bytes = bytes(2)
    duration: int = 0
    address: bytes = bytes(16)
    code: int = NO_CODE
    body: bytes = b""

    def to_bytes(self, length: int = 0) -> bytes:
        """The octets, padded with zeros to `length`."""
        head = bytes([self.kind, self.form]) + self.reserved + self.duration.to_bytes(4, "big")
        head += self.timestamp.to_bytes(8, "big") + self.address + self.code.to_bytes(4, "big")
        return (head + self.body).ljust(length, b"\0")


def services_body(services: Iterable[str]) -> bytes:
    names = [name.encode() for name in services]
    return bytes([len(names)]) + b"".join(bytes([len(name)]) + name for name in names)


def enroll_body(public: bytes, psk: bytes, label: str = "") -> bytes:
    octets = label.encode()
    return public + psk + bytes([len(octets)]) + octets


def address_fields(address: str | None) -> tuple[int, bytes]:
    """Form and octets of an address; as seen when there is none."""
    if address is None:
        return 0, bytes(16)
    parsed = ipaddress.ip_address(address)
    return parsed.version, parsed.packed.ljust(16, b"\0")


def service_payload(
    kind: int,
    services: Iterable[str],
    *,
    timestamp: int,
    address: str | None = None,
    duration: int = 0,
    code: int = NO_CODE,
) -> Payload:
    form, octets = address_fields(address)
    return Payload(kind, timestamp, form, duration=duration, address=octets, code=code, body=services_body(services))


def enroll_payload(public: bytes, psk: bytes, label: str = "", *, timestamp: int, code: int = NO_CODE) -> Payload:
    return Payload(ENROLL, timestamp, code=code, body=enroll_body(public, psk, label))


def read_payload(octets: bytes) -> dict[str, Any]:
    """Step 5: the request in the form of the vectors, or Refused."""
    if len(octets) < 36:
        raise Refused(5, "payload cut short")
    kind, form, duration, timestamp = octets[0], octets[1], octets[4:8], octets[8:16]
    code = int.from_bytes(octets[32:36], "big")
    if kind not in KINDS:
        raise Refused(5, f"kind {kind}")
    if octets[2:4] != bytes(2):
        raise Refused(5, "reserved bytes set")
    if code != NO_CODE and code >= 100_000_000:
        raise Refused(5, f"one-time code {code}")
    if kind != OPEN and duration != bytes(4):
        raise Refused(5, "duration in what is not an open")
    if kind == ENROLL and form != 0:
        raise Refused(5, "enroll with an address")
    request = {
        "kind": KINDS[kind],
        "timestamp_ns": int.from_bytes(timestamp, "big"),
        "address": read_address(form, octets[16:32]),
        "duration_s": int.from_bytes(duration, "big"),
        "one_time_code": None if code == NO_CODE else code,
        "services": [],
        "enroll": None,
    }
    if kind == ENROLL:
        request["enroll"], rest = read_enroll(octets[36:])
    else:
        request["services"], rest = read_services(octets[36:])
    if any(rest):
        raise Refused(5, "padding is not zero")
    return request


def read_address(form: int, octets: bytes) -> str | None:
    if form == 0:
        if any(octets):
            raise Refused(5, "as seen with an address")
        return None
    if form not in (4, 6) or (form == 4 and any(octets[4:])):
        raise Refused(5, "address form or its zeros")
    address = ipaddress.IPv4Address(octets[:4]) if form == 4 else ipaddress.IPv6Address(octets)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        raise Refused(5, "IPv4-mapped address")
    if address.is_unspecified or address.is_multicast or address == ipaddress.IPv4Address("255.255.255.255"):
        raise Refused(5, f"address {address}")
    return str(address)


def take(octets: bytes, length: int) -> tuple[bytes, bytes]:
    if len(octets) < length:
        raise Refused(5, "body runs past the end")
    return octets[:length], octets[length:]


def read_services(body: bytes) -> tuple[list[str], bytes]:
    (count,), rest = take(body, 1)
    if not 1 <= count <= 16:
        raise Refused(5, f"{count} services")
    names: list[str] = []
    for _ in range(count):
        (length,), rest = take(rest, 1)
        name, rest = take(rest, length)
        if not SERVICE.fullmatch(name) or name.decode() in names:
            raise Refused(5, f"service name {name!r}")
        names.append(name.decode())
    return names, rest


def read_enroll(body: bytes) -> tuple[dict[str, str], bytes]:
    public, rest = take(body, 32)
    psk, rest = take(rest, 32)
    (length,), rest = take(rest, 1)
    raw, rest = take(rest, length)
    try:
        label = raw.decode("utf-8", "strict")
    except UnicodeDecodeError:
        raise Refused(5, "label is not UTF-8") from None
    if length > 63 or HIDDEN_CHARACTERS.search(label):
        raise Refused(5, "label too long or with hidden characters")
    return {"public_key": public.hex(), "psk": psk.hex(), "label": label}, rest


# Noise, revision 34: Xpsk1, one message


class Symmetric:
    """The SymmetricState and its CipherState; a nonce is never other than the number of uses of its key."""

    def __init__(self, responder_public: bytes) -> None:
        self.chaining_key = self.hash = hashlib.sha256(NOISE_NAME).digest()
        self.key = b""
        self.nonce = 0
        self.mix_hash(PROLOGUE)
        self.mix_hash(responder_public)

    def mix_hash(self, octets: bytes) -> None:
        self.hash = hashlib.sha256(self.hash + octets).digest()

    def hkdf(self, material: bytes, outputs: int) -> list[bytes]:
        secret = hmac256(self.chaining_key, material)
        made = [b""]
        for number in range(1, outputs + 1):
            made.append(hmac256(secret, made[-1], bytes([number])))
        return made[1:]

    def mix_key(self, material: bytes) -> None:
        self.chaining_key, self.key = self.hkdf(material, 2)
        self.nonce = 0

    def mix_key_and_hash(self, material: bytes) -> None:
        self.chaining_key, for_hash, self.key = self.hkdf(material, 3)
        self.mix_hash(for_hash)
        self.nonce = 0

    def next_nonce(self) -> bytes:
        self.nonce += 1
        return bytes(4) + (self.nonce - 1).to_bytes(8, "little")

    def encrypt(self, plain: bytes) -> bytes:
        sealed = ChaCha20Poly1305(self.key).encrypt(self.next_nonce(), plain, self.hash)
        self.mix_hash(sealed)
        return sealed

    def decrypt(self, sealed: bytes) -> bytes:
        plain = ChaCha20Poly1305(self.key).decrypt(self.next_nonce(), sealed, self.hash)
        self.mix_hash(sealed)
        return plain


def noise_write(keys: ClientKeys, ephemeral: bytes, payload: bytes) -> bytes:
    state = Symmetric(keys.gateway_public)
    e = public_key(ephemeral)
    state.mix_hash(e)
    state.mix_key(e)
    state.mix_key(diffie_hellman(ephemeral, keys.gateway_public))
    sealed_static = state.encrypt(keys.public)
    state.mix_key(diffie_hellman(keys.private, keys.gateway_public))
    state.mix_key_and_hash(keys.psk)
    return e + sealed_static + state.encrypt(payload)


def noise_read(private: bytes, message: bytes, psks: Mapping[bytes, Iterable[bytes]]) -> tuple[bytes, bytes]:
    """Client key and payload; `psks` has the PSKs to try for each client key."""
    e, sealed_static, sealed_payload = message[:32], message[32:80], message[80:]
    state = Symmetric(public_key(private))
    state.mix_hash(e)
    state.mix_key(e)
    try:
        state.mix_key(diffie_hellman(private, e))
        client = state.decrypt(sealed_static)
        state.mix_key(diffie_hellman(private, client))
    except (ValueError, InvalidTag):
        raise Refused(4, "no client key in it") from None
    chaining_key, transcript = state.chaining_key, state.hash
    for psk in psks.get(client, ()):
        state.chaining_key, state.hash = chaining_key, transcript
        state.mix_key_and_hash(psk)
        try:
            return client, state.decrypt(sealed_payload)
        except InvalidTag:
            continue
    raise Refused(4, "client not known, or not with this PSK")


# Datagram


def tag_key(hmac_key: bytes, gateway_public: bytes, day: int) -> bytes:
    return hmac256(hmac_key, b"spa/1 tag", gateway_public, day.to_bytes(8, "big"))


def mask(hmac_key: bytes, gateway_public: bytes, ephemeral: bytes, sealed: bytes) -> bytes:
    """Masks and unmasks e: both ways are the same XOR."""
    pad = hmac256(hmac256(hmac_key, b"spa/1 mask", gateway_public), sealed)
    return bytes(a ^ b for a, b in zip(ephemeral, pad, strict=True))


def wrap(gateway_public: bytes, hmac_key: bytes, message: bytes, day: int) -> bytes:
    """The keyed outer layer around a Noise message."""
    body = mask(hmac_key, gateway_public, message[:32], message[32:]) + message[32:]
    return hmac256(tag_key(hmac_key, gateway_public, day), hashlib.sha256(body).digest())[:16] + body


def ephemeral_key(keys: ClientKeys, random: bytes, payload: bytes) -> bytes:
    return hmac256(keys.psk, b"spa/1 e", keys.private, random, payload)


def pick_length(need: int) -> int:
    if need <= 288:
        low, high = 288, 512
    elif need <= 512:
        low, high = 513, LONGEST
    else:
        low, high = need, LONGEST
    return low + secrets.randbelow(high - low + 1)


def seal(
    keys: ClientKeys,
    payload: Payload | bytes,
    *,
    length: int | None = None,
    day: int | None = None,
    random: bytes | None = None,
    ephemeral: bytes | None = None,
) -> bytes:
    """A datagram. Raw payload bytes go in as they are, with the tag of `day`, which then must be given."""
    if isinstance(payload, Payload):
        day = payload.timestamp // DAY_NS if day is None else day
        need = OVERHEAD + len(payload.to_bytes())
        payload = payload.to_bytes((pick_length(need) if length is None else length) - OVERHEAD)
    if day is None:
        raise ValueError("a raw payload needs the day of its tag")
    random = secrets.token_bytes(32) if random is None else random
    ephemeral = ephemeral_key(keys, random, payload) if ephemeral is None else ephemeral
    return wrap(keys.gateway_public, keys.hmac_key, noise_write(keys, ephemeral, payload), day)


def timestamp_now(offset_s: float = 0.0) -> int:
    """The client's clock, its last three digits random."""
    now = time.time_ns() + int(offset_s * SECOND_NS)
    return now - now % 1000 + secrets.randbelow(1000)


# What the gateway does, without a memory


@dataclass(frozen=True)
class Knock:
    identity: Identity
    client: bytes
    day: int
    payload: bytes
    request: dict[str, Any]


def days_tried(now: int) -> tuple[int, int]:
    day, second_half = now // DAY_NS, now % DAY_NS >= DAY_NS // 2
    return day, day + 1 if second_half else day - 1


def match_tag(datagram: bytes, identities: Iterable[Identity], days: Iterable[int]) -> tuple[Identity, int]:
    digest = hashlib.sha256(datagram[16:]).digest()
    wanted = [day for day in days if 0 <= day < 2**64]
    for identity in identities:
        for day in wanted:
            if hmac.compare_digest(
                hmac256(tag_key(identity.hmac_key, identity.public, day), digest)[:16], datagram[:16]
            ):
                return identity, day
    raise Refused(2, "tag")


def read_datagram(
    datagram: bytes, identities: Iterable[Identity], days: Iterable[int], psks: Mapping[bytes, Iterable[bytes]]
) -> Knock:
    """Steps 1, 2, 4 and 5."""
    if not SHORTEST <= len(datagram) <= LONGEST:
        raise Refused(1, f"{len(datagram)} bytes")
    identity, day = match_tag(datagram, identities, days)
    sealed = datagram[48:]
    message = mask(identity.hmac_key, identity.public, datagram[16:48], sealed) + sealed
    client, payload = noise_read(identity.private, message, psks)
    return Knock(identity, client, day, payload, read_payload(payload))


def judge(
    datagram: bytes, identities: Iterable[Identity], now: int, psks: Mapping[bytes, Iterable[bytes]], role: str
) -> Knock:
    """Steps 1, 2, 4, 5, 6 and of step 8 what needs no policy; `role` is "client" or "invite"."""
    knock = read_datagram(datagram, identities, days_tried(now), psks)
    request = knock.request
    window = WINDOW_S["enroll" if request["kind"] == "enroll" else "explicit" if request["address"] else "as seen"]
    difference = request["timestamp_ns"] - now
    if abs(difference) > window * SECOND_NS:
        raise Refused(6, f"{difference / SECOND_NS:+.0f} s")
    if request["timestamp_ns"] // DAY_NS != knock.day:
        raise Refused(6, "the tag is another day's")
    if (request["kind"] == "enroll") != (role == "invite"):
        raise Refused(8, f"{request['kind']} under the key of {role}")
    if request["enroll"]:
        check_new_key(knock)
    return knock


def check_new_key(knock: Knock) -> None:
    public, psk = (bytes.fromhex(knock.request["enroll"][name]) for name in ("public_key", "psk"))
    if int.from_bytes(public, "little") >= 2**255 - 19:
        raise Refused(8, "new key is not canonical")
    if psk == bytes(32):
        raise Refused(8, "new PSK is all zeros")
    if public in (knock.identity.public, knock.client):
        raise Refused(8, "new key is not new")
    try:
        diffie_hellman(knock.identity.private, public)
    except ValueError:
        raise Refused(8, "new key is a low-order point") from None


# Enrollment: invites as text

INVITE_PREFIX = "spa1-invite:"
HINTED_SERVICE = re.compile(r"([a-z0-9][a-z0-9._/-]{0,62})(?:=(?:tcp|udp)/([1-9][0-9]{0,4}))?")


class BadInvite(ValueError):
    """An invite's text is refused."""


@dataclass(frozen=True)
class Invite:
    gateway_public: bytes
    gateway_hmac_key: bytes
    seed: bytes
    end: int
    flags: int
    ports: list[int]
    host: str
    name: str
    services: list[str] = field(default_factory=list)

    @property
    def keys(self) -> ClientKeys:
        """C_invite and P_invite, ready to seal an enroll."""
        prk = hmac256(b"spa/1 invite", self.seed)
        private, psk = hmac256(prk, b"key", b"\x01"), hmac256(prk, b"psk", b"\x01")
        return ClientKeys(self.gateway_public, self.gateway_hmac_key, private, psk)

    def to_text(self) -> str:
        octets = bytes([1, self.flags]) + self.end.to_bytes(8, "big")
        octets += self.gateway_public + self.gateway_hmac_key + self.seed
        octets += bytes([len(self.ports)]) + b"".join(port.to_bytes(2, "big") for port in self.ports)
        for text in (self.host, self.name, ",".join(self.services)):
            octets += bytes([len(text)]) + text.encode()
        return INVITE_PREFIX + to_base64(octets + hashlib.sha256(octets).digest()[:4])


def to_base64(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def from_base64(text: str) -> bytes:
    """Base64url without padding; ValueError on anything that would not be written so."""
    if not re.fullmatch(r"[A-Za-z0-9_-]*", text):
        raise ValueError("not base64url")
    octets = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if to_base64(octets) != text:
        raise ValueError("unused bits are not zero")
    return octets


def parse_invite(text: str) -> Invite:
    if not text.startswith(INVITE_PREFIX):
        raise BadInvite("prefix")
    try:
        octets = from_base64(text[len(INVITE_PREFIX) :])
    except ValueError as error:
        raise BadInvite(str(error)) from None
    if hashlib.sha256(octets[:-4]).digest()[:4] != octets[-4:]:
        raise BadInvite("checksum")
    if octets[0] != 1 or octets[1] > 7 or len(octets) < 107:
        raise BadInvite("version, flags or length")
    ports, rest = cut_counted(octets[106:-4], 2)
    host, rest = cut_counted(rest, 1)
    name, rest = cut_counted(rest, 1)
    services, rest = cut_counted(rest, 1)
    if rest:
        raise BadInvite("bytes left over")
    invite = Invite(
        gateway_public=octets[10:42],
        gateway_hmac_key=octets[42:74],
        seed=octets[74:106],
        end=int.from_bytes(octets[2:10], "big"),
        flags=octets[1],
        ports=[int.from_bytes(ports[at : at + 2], "big") for at in range(0, len(ports), 2)],
        host=host.decode("latin-1"),
        name=name.decode("latin-1"),
        services=services.decode("latin-1").split(",") if services else [],
    )
    check_invite(invite)
    return invite


def cut_counted(octets: bytes, size: int) -> tuple[bytes, bytes]:
    if not octets or len(octets) < 1 + size * octets[0]:
        raise BadInvite("cut short")
    end = 1 + size * octets[0]
    return octets[1:end], octets[end:]


def check_invite(invite: Invite) -> None:
    if not 1 <= len(invite.ports) <= 8 or 0 in invite.ports:
        raise BadInvite("ports")
    if not is_host(invite.host):
        raise BadInvite("host")
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,62}", invite.name):
        raise BadInvite("name")
    matches = [HINTED_SERVICE.fullmatch(service) for service in invite.services]
    if not all(match and int(match[2] or 1) <= 65535 for match in matches):
        raise BadInvite("service")
    if len({match[1] for match in matches if match}) != len(matches):
        raise BadInvite("service twice")


def is_host(text: str) -> bool:
    """A name, or an address as `inet_ntop` would write it; what looks like an address must be one."""
    if not 1 <= len(text) <= 253:
        return False
    if ":" in text or re.fullmatch(r"[0-9.]+", text):
        try:
            return "%" not in text and str(ipaddress.ip_address(text)) == text
        except ValueError:
            return False
    return re.fullmatch(r"[a-z0-9.-]+", text) is not None


# Vectors


def check_vectors(path: Path) -> tuple[int, list[str]]:
    """Number of cases passed, and a line for each that failed."""
    vectors = json.loads(path.read_text())
    checks = {
        "accept": check_accepted,
        "refuse": check_refused,
        "invites": check_text,
        "invites_refused": check_refused_text,
    }
    passed, failed = 0, []
    for section, check in checks.items():
        for number, case in enumerate(vectors[section]):
            try:
                check(case)
                passed += 1
            except Exception as error:  # a failing case must not hide those after it
                failed.append(f"{section}[{number}] {case.get('why', '')}: {type(error).__name__}: {error}")
    return passed, failed


def expect(got: object, wanted: object, what: str) -> None:
    if got != wanted:
        raise AssertionError(f"{what}: got {got!r}, wanted {wanted!r}")


def check_accepted(case: dict[str, Any]) -> None:
    raw = {name: bytes.fromhex(value) for name, value in case.items() if isinstance(value, str) and name != "as"}
    identity = Identity(raw["gateway_private"], raw["gateway_hmac_key"])
    keys = ClientKeys(raw["gateway_public"], raw["gateway_hmac_key"], raw["client_private"], raw["client_psk"])
    expect(identity.public, raw["gateway_public"], "gateway's public key")
    expect(keys.public, raw["client_public"], "client's public key")
    payload = payload_of(case["request"])
    octets = payload.to_bytes(case["datagram_length"] - OVERHEAD)
    expect(octets.hex(), case["payload"], "payload")
    ephemeral = ephemeral_key(keys, raw["ephemeral_random"], octets)
    expect(ephemeral.hex(), case["ephemeral_private"], "ephemeral key")
    expect(noise_write(keys, ephemeral, octets).hex(), case["noise_message"], "Noise message")
    sealed = seal(keys, payload, length=case["datagram_length"], random=raw["ephemeral_random"])
    expect(sealed.hex(), case["datagram"], "datagram")
    knock = judge(sealed, [identity], case["now_ns"], {keys.public: [keys.psk]}, case["as"])
    expect(knock.request, case["request"], "request")
    expect(knock.client, keys.public, "client")


def payload_of(request: dict[str, Any]) -> Payload:
    code = NO_CODE if request["one_time_code"] is None else request["one_time_code"]
    timestamp = request["timestamp_ns"]
    if request["enroll"]:
        public, psk = (bytes.fromhex(request["enroll"][name]) for name in ("public_key", "psk"))
        return enroll_payload(public, psk, request["enroll"]["label"], timestamp=timestamp, code=code)
    kind = OPEN if request["kind"] == "open" else CLOSE
    address, duration = request["address"], request["duration_s"]
    return service_payload(
        kind, request["services"], timestamp=timestamp, address=address, duration=duration, code=code
    )


def check_refused(case: dict[str, Any]) -> None:
    identity = Identity(bytes.fromhex(case["gateway_private"]), bytes.fromhex(case["gateway_hmac_key"]))
    psks = {bytes.fromhex(case["client_public"]): [bytes.fromhex(case["client_psk"])]}
    try:
        judge(bytes.fromhex(case["datagram"]), [identity], case["now_ns"], psks, case["as"])
    except Refused as refusal:
        expect(refusal.step, case["step"], "step")
    else:
        raise AssertionError("was accepted")


def check_text(case: dict[str, Any]) -> None:
    invite = parse_invite(case["text"])
    for name in ("gateway_public", "gateway_hmac_key", "seed"):
        expect(getattr(invite, name).hex(), case[name], name)
    for name in ("end", "flags", "ports", "host", "name", "services"):
        expect(getattr(invite, name), case[name], name)
    expect(invite.to_text(), case["text"], "text")
    expect(invite.keys.private.hex(), case["invite_private"], "invite's private key")
    expect(invite.keys.public.hex(), case["invite_public"], "invite's public key")
    expect(invite.keys.psk.hex(), case["invite_psk"], "invite's PSK")


def check_refused_text(case: dict[str, Any]) -> None:
    try:
        parse_invite(case["text"])
    except BadInvite:
        return
    raise AssertionError("was accepted")


# Command line


def send(
    datagram: bytes, to: str, port: int, *, source: str | None = None, source_port: int = 0, repeat: int = 1
) -> None:
    family, kind, protocol, _, target = socket.getaddrinfo(to, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as udp:
        if source or source_port:
            udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            udp.bind((source or ("::" if family == socket.AF_INET6 else "0.0.0.0"), source_port))
        for _ in range(repeat):
            udp.sendto(datagram, target)


def mangle(datagram: bytes, options: argparse.Namespace) -> bytes:
    octets = bytearray(datagram)
    for position in options.flip:
        octets[position] ^= 1
    if options.cut:
        del octets[-options.cut :]
    return bytes(octets) + bytes(options.pad)


def deliver(datagram: bytes, options: argparse.Namespace, port: int) -> None:
    datagram = mangle(datagram, options)
    if options.print:
        print(datagram.hex())
    elif not options.to:
        raise SystemExit("--to ADDR is needed unless --print is given")
    else:
        port = options.port or port
        send(datagram, options.to, port, source=options.source, source_port=options.source_port, repeat=options.repeat)


def run_enroll(options: argparse.Namespace) -> None:
    invite = parse_invite(sys.stdin.read().strip() if options.invite == "-" else options.invite)
    path = Path(options.credential)
    if path.exists():  # the same key again: the repeat of a client that cannot hear
        credential = json.loads(path.read_text())
    else:
        credential = new_credential(invite)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(credential, file, indent=1)
    keys = credential_keys(credential)
    code = NO_CODE if options.code is None else options.code
    payload = enroll_payload(
        keys.public, keys.psk, options.label, timestamp=timestamp_now(options.time_offset), code=code
    )
    day = payload.timestamp // DAY_NS + options.day_offset
    deliver(seal(invite.keys, payload, length=options.length, day=day), options, invite.ports[0])


def new_credential(invite: Invite) -> dict[str, Any]:
    return {
        "name": invite.name,
        "host": invite.host,
        "ports": invite.ports,
        "gateway_public": to_base64(invite.gateway_public),
        "gateway_hmac_key": to_base64(invite.gateway_hmac_key),
        "private": to_base64(secrets.token_bytes(32)),
        "psk": to_base64(secrets.token_bytes(32)),
    }


def credential_keys(credential: Mapping[str, Any]) -> ClientKeys:
    return ClientKeys(
        *(from_base64(credential[name]) for name in ("gateway_public", "gateway_hmac_key", "private", "psk"))
    )


def run_knock(options: argparse.Namespace) -> None:
    if options.send_hex is not None:
        deliver(bytes.fromhex(options.send_hex), options, 62201)
        return
    if not options.credential:
        raise SystemExit("--credential FILE is needed unless --send-hex is given")
    credential = json.loads(Path(options.credential).read_text())
    payload = service_payload(
        OPEN if options.command == "open" else CLOSE,
        options.services,
        timestamp=timestamp_now(options.time_offset),
        address=options.address,
        duration=options.duration,
        code=NO_CODE if options.code is None else options.code,
    )
    day = payload.timestamp // DAY_NS + options.day_offset
    deliver(seal(credential_keys(credential), payload, length=options.length, day=day), options, credential["ports"][0])


def run_decode(options: argparse.Namespace) -> None:
    """Any two 32-byte values of the key files may be S and K: the tag tells which. So it is with clients' PSKs."""
    gateway, client = keys_in(options.gateway_key), keys_in(options.client)
    identities = [Identity(private, other) for private in gateway for other in gateway if other != private]
    psks = {key: client for known in client for key in (known, public_key(known))}
    today = time.time_ns() // DAY_NS
    days = [options.day] if options.day is not None else [today, today - 1, today + 1]
    for text in options.datagrams or sys.stdin.read().split():
        try:
            knock = read_datagram(bytes.fromhex(text), identities, days, psks)
        except Refused as refusal:
            raise SystemExit(f"refused at {refusal}") from None
        print(json.dumps({"client": to_base64(knock.client), "bytes": len(text) // 2, **knock.request}))


def keys_in(files: Iterable[str]) -> list[bytes]:
    text = "\n".join(Path(file).read_text() for file in files)
    words = re.findall(r"(?<![A-Za-z0-9_-])(?:[0-9a-fA-F]{64}|[A-Za-z0-9_-]{43})(?![A-Za-z0-9_-])", text)
    return [
        bytes.fromhex(word) if len(word) == 64 else base64.urlsafe_b64decode(word + "=")
        for word in dict.fromkeys(words)
    ]


def run_check(options: argparse.Namespace) -> int:
    passed = 0
    failed: list[str] = []
    for file in options.vectors:
        good, bad = check_vectors(Path(file))
        passed, failed = passed + good, failed + bad
    print(*failed, f"{passed} passed, {len(failed)} failed", sep="\n")
    return 1 if failed else 0


def parse_arguments() -> argparse.Namespace:
    sealing = argparse.ArgumentParser(add_help=False)
    sealing.add_argument("--to", metavar="ADDR", help="where to send, IPv4 or IPv6")
    sealing.add_argument("--port", type=int, help="UDP port instead of the first of the credential")
    sealing.add_argument("--source", metavar="ADDR", help="own address to send from")
    sealing.add_argument("--source-port", type=int, default=0)
    sealing.add_argument("--time-offset", type=float, default=0.0, metavar="SECONDS", help="added to the timestamp")
    sealing.add_argument("--day-offset", type=int, default=0, metavar="DAYS", help="added to the day of the tag")
    sealing.add_argument("--code", type=int, help="one-time code or PIN")
    sealing.add_argument("--length", type=int, help="of the datagram, instead of a random one")
    sealing.add_argument("--flip", type=int, action="append", default=[], metavar="N", help="flip a bit of byte N")
    sealing.add_argument("--cut", type=int, default=0, metavar="N", help="leave out the last N bytes")
    sealing.add_argument("--pad", type=int, default=0, metavar="N", help="append N zero bytes")
    sealing.add_argument("--repeat", type=int, default=1, metavar="N", help="send the same bytes N times")
    sealing.add_argument("--print", action="store_true", help="write hex instead of sending")

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="verify files of vectors")
    check.add_argument("vectors", nargs="+")
    enroll = commands.add_parser("enroll", parents=[sealing], help="spend an invite")
    enroll.add_argument("--invite", required=True, help="its text; - reads stdin")
    enroll.add_argument(
        "--credential", required=True, metavar="FILE", help="written; one that exists is enrolled again"
    )
    enroll.add_argument("--label", default="")
    for name in ("open", "close"):
        knock = commands.add_parser(name, parents=[sealing], help=f"{name} services")
        knock.add_argument("--credential", metavar="FILE")
        knock.add_argument("--send-hex", metavar="HEX", help="send these bytes instead")
        form = knock.add_mutually_exclusive_group()
        form.add_argument("--as-seen", dest="address", action="store_const", const=None)
        form.add_argument("--address", metavar="ADDR", help="explicit address (default: as seen)")
        knock.add_argument("--for", dest="duration", type=int, default=0, metavar="SECONDS")
        knock.add_argument("services", nargs="*", metavar="SERVICE")
    decode = commands.add_parser("decode", help="read datagrams (hex) as a gateway does")
    decode.add_argument("--gateway-key", nargs="+", required=True, metavar="FILE", help="files that hold S and K")
    decode.add_argument(
        "--client", nargs="+", default=[], metavar="FILE", help="files that hold clients' keys and PSKs"
    )
    decode.add_argument("--day", type=int, help="of the tag, instead of today and its neighbours")
    decode.add_argument("--datagrams", nargs="+", metavar="HEX", help="instead of stdin")
    return parser.parse_args()


def main() -> int:
    options = parse_arguments()
    if options.command == "check":
        return run_check(options)
    run = {"enroll": run_enroll, "decode": run_decode}.get(options.command, run_knock)
    run(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
