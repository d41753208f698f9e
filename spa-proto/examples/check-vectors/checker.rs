//! What a vector promises, checked.

use std::net::IpAddr;
use std::time::Duration;

use rand_core::{TryCryptoRng, TryRng};
use serde::Deserialize;
use spa_keys::invite::InviteText;
use spa_proto::{
    Act, Address, Code, Datagram, DropReason, Enrollment, Gateway, HmacKey, Identity, InviteSeed, KeyTable, Knock,
    Listen, MemoryRecord, Moment, Psk, PublicKey, Refusal, Request, Role, SecretKey, Sender, Services, Sieve, UnixTime,
};

/// How many vectors pass, and what is wrong with those that do not.
#[derive(Default)]
pub struct Tally {
    pub passed: usize,
    pub failures: Vec<String>,
}

type Check = Result<(), String>;

impl Tally {
    /// Checks everything in one file.
    pub fn check_file(&mut self, name: &str, text: &str) {
        let file: File = match serde_json::from_str(text) {
            Ok(file) => file,
            Err(error) => return self.note(name, Err(error.to_string())),
        };
        for (i, vector) in file.accept.iter().enumerate() {
            self.note(&format!("{name} accept {i}"), check_accepted(vector));
        }
        for (i, vector) in file.refuse.iter().enumerate() {
            self.note(&format!("{name} refuse {i} ({})", vector.why), check_refused(vector));
        }
        for (i, vector) in file.invites.iter().enumerate() {
            self.note(&format!("{name} invites {i}"), check_invite(vector));
        }
        for (i, vector) in file.invites_refused.iter().enumerate() {
            let refused = InviteText::parse(&vector.text)
                .err()
                .map(|_| ())
                .ok_or("accepted".to_string());
            self.note(&format!("{name} invites_refused {i} ({})", vector.why), refused);
        }
    }

    /// Counts one check.
    pub fn note(&mut self, what: &str, outcome: Check) {
        match outcome {
            Ok(()) => self.passed += 1,
            Err(why) => self.failures.push(format!("{what}: {why}")),
        }
    }
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    accept: Vec<Accepted>,
    #[serde(default)]
    refuse: Vec<Refused>,
    #[serde(default)]
    invites: Vec<Written>,
    #[serde(default)]
    invites_refused: Vec<InviteRefused>,
}

#[derive(Deserialize)]
struct Accepted {
    gateway_private: String,
    gateway_public: String,
    gateway_hmac_key: String,
    r#as: String,
    client_private: String,
    client_public: String,
    client_psk: String,
    ephemeral_random: String,
    ephemeral_private: String,
    now_ns: u64,
    datagram_length: usize,
    request: Fields,
    payload: String,
    noise_message: String,
    datagram: String,
}

#[derive(Deserialize)]
struct Fields {
    kind: String,
    timestamp_ns: u64,
    address: Option<IpAddr>,
    duration_s: u32,
    one_time_code: Option<u32>,
    services: Vec<String>,
    enroll: Option<EnrollFields>,
}

#[derive(Deserialize)]
struct EnrollFields {
    public_key: String,
    psk: String,
    label: String,
}

#[derive(Deserialize)]
struct Refused {
    step: u8,
    why: String,
    now_ns: u64,
    r#as: String,
    gateway_private: String,
    gateway_hmac_key: String,
    client_public: String,
    client_psk: String,
    datagram: String,
}

#[derive(Deserialize)]
struct Written {
    gateway_public: String,
    gateway_hmac_key: String,
    seed: String,
    end: u64,
    flags: u8,
    host: String,
    ports: Vec<u16>,
    name: String,
    services: Vec<String>,
    invite_private: String,
    invite_public: String,
    invite_psk: String,
    text: String,
}

#[derive(Deserialize)]
struct InviteRefused {
    why: String,
    text: String,
}

fn check_accepted(vector: &Accepted) -> Check {
    let gateway = SecretKey::from_bytes(&key(&vector.gateway_private)?);
    let hmac_key = HmacKey::from_bytes(&key(&vector.gateway_hmac_key)?);
    let client = SecretKey::from_bytes(&key(&vector.client_private)?);
    let psk = Psk::from_bytes(&key(&vector.client_psk)?);
    let octets = hex(&vector.datagram)?;
    same(
        "gateway_public",
        gateway.public().as_bytes(),
        &hex(&vector.gateway_public)?,
    )?;
    same(
        "client_public",
        client.public().as_bytes(),
        &hex(&vector.client_public)?,
    )?;

    let knock = judge(
        &vector.gateway_private,
        &vector.gateway_hmac_key,
        vector,
        vector.now_ns,
        &octets,
    )?;
    let knock = knock.map_err(|refusal| refusal.to_string())?;
    let wanted = request(&vector.request)?;
    equal("request", knock.request(), &wanted)?;
    let payload = hex(&vector.payload)?;
    equal("payload", &Request::decode(&payload), &Ok(wanted))?;

    let sender = Sender {
        gateway: &gateway.public(),
        hmac_key: &hmac_key,
        secret: &client,
        psk: &psk,
    };
    let mut rng = Fixed(hex(&vector.ephemeral_random)?);
    let sealed = sender
        .seal(knock.request(), vector.datagram_length, &mut rng)
        .map_err(|e| e.to_string())?;
    same("sealed again", &sealed, &octets)?;
    let ephemeral = SecretKey::from_bytes(&key(&vector.ephemeral_private)?);
    let message = hex(&vector.noise_message)?;
    same(
        "e of the Noise message",
        ephemeral.public().as_bytes(),
        message.get(..32).ok_or("short")?,
    )?;
    same(
        "rest of the Noise message",
        octets.get(48..).ok_or("short")?,
        message.get(32..).ok_or("short")?,
    )?;
    equal("payload length", &(payload.len() + spa_proto::OVERHEAD), &octets.len())
}

fn check_refused(vector: &Refused) -> Check {
    let octets = hex(&vector.datagram)?;
    match judge(
        &vector.gateway_private,
        &vector.gateway_hmac_key,
        vector,
        vector.now_ns,
        &octets,
    )? {
        Ok(_) => Err(format!("accepted, where step {} refuses it", vector.step)),
        Err(Refusal { reason, .. }) => {
            equal("step", &reason.step(), &vector.step).map_err(|e| format!("{e}: {reason}"))
        }
    }
}

/// What both kinds of vector say of the sender.
trait Enrolled {
    fn enrolled(&self) -> Result<(PublicKey, Psk, Role), String>;
}

impl Enrolled for Accepted {
    fn enrolled(&self) -> Result<(PublicKey, Psk, Role), String> {
        Ok((
            PublicKey(key(&self.client_public)?),
            Psk::from_bytes(&key(&self.client_psk)?),
            role(&self.r#as)?,
        ))
    }
}

impl Enrolled for Refused {
    fn enrolled(&self) -> Result<(PublicKey, Psk, Role), String> {
        Ok((
            PublicKey(key(&self.client_public)?),
            Psk::from_bytes(&key(&self.client_psk)?),
            role(&self.r#as)?,
        ))
    }
}

fn judge(
    gateway_private: &str,
    gateway_hmac_key: &str,
    sender: &impl Enrolled,
    now_ns: u64,
    octets: &[u8],
) -> Result<Result<Knock, Refusal>, String> {
    let secret = SecretKey::from_bytes(&key(gateway_private)?);
    let identity = Identity::new(secret, HmacKey::from_bytes(&key(gateway_hmac_key)?));
    let mut gateway = Gateway::new(Sieve::new(vec![identity], Listen::port(62201)));
    let mut keyring = KeyTable::default();
    let (client, psk, role) = sender.enrolled()?;
    keyring.insert(client, psk, role);
    let now = Moment {
        wall: UnixTime::from_nanos(now_ns),
        uptime: Duration::ZERO,
    };
    let datagram = Datagram {
        source: ([192, 0, 2, 7], 40_000).into(),
        destination: ([198, 51, 100, 1], 62_201).into(),
        payload: octets,
    };
    let mut record = MemoryRecord::default();
    let outcome = gateway.handle(now, &datagram, &mut keyring, &mut record);
    if outcome.is_ok() {
        let again = gateway
            .handle(now, &datagram, &mut keyring, &mut record)
            .err()
            .map(|refusal| refusal.reason);
        equal("a copy of it", &again, &Some(DropReason::Copy { forwarded: false }))?;
    }
    Ok(outcome)
}

fn role(text: &str) -> Result<Role, String> {
    match text {
        "client" => Ok(Role::Client),
        "invite" => Ok(Role::Invite { spent_by: None }),
        other => Err(format!("as {other:?} is neither client nor invite")),
    }
}

fn request(fields: &Fields) -> Result<Request, String> {
    let address = fields
        .address
        .map_or(Ok(Address::AsSeen), Address::explicit)
        .map_err(|e| e.to_string())?;
    let services = || {
        let names = fields
            .services
            .iter()
            .map(|name| name.parse())
            .collect::<Result<_, _>>();
        Services::new(names.map_err(|e| format!("{e}"))?).map_err(|e| e.to_string())
    };
    let act = match (&*fields.kind, &fields.enroll) {
        ("open", None) => Act::Open {
            address,
            duration_s: fields.duration_s,
            services: services()?,
        },
        ("close", None) => Act::Close {
            address,
            services: services()?,
        },
        ("enroll", Some(enroll)) => Act::Enroll(Enrollment {
            public_key: PublicKey(key(&enroll.public_key)?),
            psk: Psk::from_bytes(&key(&enroll.psk)?),
            label: enroll.label.parse().map_err(|e| format!("{e}"))?,
        }),
        (kind, _) => return Err(format!("kind {kind:?}")),
    };
    let code = fields
        .one_time_code
        .map(Code::new)
        .transpose()
        .map_err(|e| e.to_string())?;
    Ok(Request {
        timestamp: UnixTime::from_nanos(fields.timestamp_ns),
        code,
        act,
    })
}

fn check_invite(vector: &Written) -> Check {
    let invite = InviteText::parse(&vector.text).map_err(|e| e.to_string())?;
    same("written back", invite.to_text().as_bytes(), vector.text.as_bytes())?;
    same(
        "gateway_public",
        invite.gateway.as_bytes(),
        &hex(&vector.gateway_public)?,
    )?;
    same(
        "gateway_hmac_key",
        invite.hmac_key.expose(),
        &hex(&vector.gateway_hmac_key)?,
    )?;
    same("seed", invite.seed.expose(), &hex(&vector.seed)?)?;
    equal("end", &invite.end_s, &vector.end)?;
    let demands = [
        invite.demands.pin,
        invite.demands.explicit_address,
        invite.demands.one_time_code,
    ];
    let flags = demands
        .iter()
        .rev()
        .fold(0, |bits, demand| bits << 1 | u8::from(*demand));
    equal("flags", &flags, &vector.flags)?;
    equal("host", &invite.host.to_string(), &vector.host)?;
    equal("ports", &invite.ports.numbers().collect(), &vector.ports)?;
    equal("name", &invite.name.to_string(), &vector.name)?;
    let services: Vec<String> = invite.services.iter().map(ToString::to_string).collect();
    equal("services", &services, &vector.services)?;
    let seed = InviteSeed::from_bytes(&key(&vector.seed)?);
    same(
        "invite_private",
        seed.secret_key().expose(),
        &hex(&vector.invite_private)?,
    )?;
    same(
        "invite_public",
        seed.secret_key().public().as_bytes(),
        &hex(&vector.invite_public)?,
    )?;
    same("invite_psk", seed.psk().expose(), &hex(&vector.invite_psk)?)
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, have: &T, want: &T) -> Check {
    if have == want {
        Ok(())
    } else {
        Err(format!("{what} is {have:?}, not {want:?}"))
    }
}

fn same(what: &str, have: &[u8], want: &[u8]) -> Check {
    if have == want {
        Ok(())
    } else {
        Err(format!("{what} differs"))
    }
}

fn hex(text: &str) -> Result<Vec<u8>, String> {
    let digit = |c: &u8| char::from(*c).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let octets = text.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    });
    octets
        .collect::<Option<_>>()
        .ok_or_else(|| format!("not hex: {text:.20}"))
}

fn key(text: &str) -> Result<[u8; 32], String> {
    hex(text)?.try_into().map_err(|_| format!("not 32 octets: {text:.20}"))
}

/// Randomness that is given.
struct Fixed(Vec<u8>);

impl TryRng for Fixed {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        unreachable!("sealing draws octets only")
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        unreachable!("sealing draws octets only")
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        bytes.copy_from_slice(&self.0.drain(..bytes.len()).collect::<Vec<_>>());
        Ok(())
    }
}

impl TryCryptoRng for Fixed {}
