//! invites.d/: what the gateway keeps of the invites it gave out ("Enrollment in one packet").

use std::fmt;
use std::path::Path;
use std::time::Duration;

use rand_core::CryptoRng;
use spa_proto::{Code, Enrollment, InviteSeed, Psk, PublicKey, UnixTime};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::client::{Client, Terms, psk_digest, write_time};
use crate::fault::Fault;
use crate::file::{self, FileError, Limits};
use crate::load::LoadError;
use crate::name::ClientName;
use crate::table::Table;
use crate::{text, units};

const HEADER: &str = "# An invite. The gateway notes here when it was used.\n";

/// What the gateway keeps of one invite.
#[derive(Debug, PartialEq, Eq)]
pub struct Invite {
    /// The public key of `C_invite`.
    pub public_key: PublicKey,
    /// `P_invite`.
    pub psk: Psk,
    /// The name that the client will have; reserved until the end.
    pub name: ClientName,
    /// The end, by the gateway's clock.
    pub ends: UnixTime,
    /// The PIN that must come with the enroll.
    pub pin: Option<Code>,
    /// The gateway identity in its text: where that is dropped, the invite is worth nothing.
    pub gateway: Option<PublicKey>,
    /// What the client will get.
    pub terms: Terms,
    /// What it was spent for.
    pub spent: Option<Spent>,
}

/// When and by whom an invite was spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spent {
    /// When.
    pub at: UnixTime,
    /// By whom.
    pub by: SpentBy,
}

/// By whom an invite was spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpentBy {
    /// A device that became a client.
    Device {
        /// The key that was enrolled.
        public_key: PublicKey,
        /// SHA-256 of the PSK that was enrolled.
        psk_digest: [u8; 32],
    },
    /// Somebody who sent five different wrong PINs. Nobody was enrolled.
    WrongPins,
}

impl Spent {
    /// Spent at `at` for the key and PSK of this enrollment.
    #[must_use]
    pub fn by(enrollment: &Enrollment, at: UnixTime) -> Self {
        let by = SpentBy::Device {
            public_key: enrollment.public_key,
            psk_digest: psk_digest(&enrollment.psk),
        };
        Self { at, by }
    }

    /// Spent at `at` by wrong PINs.
    #[must_use]
    pub const fn by_wrong_pins(at: UnixTime) -> Self {
        Self {
            at,
            by: SpentBy::WrongPins,
        }
    }

    /// The key that was enrolled.
    #[must_use]
    pub const fn public_key(&self) -> Option<PublicKey> {
        match self.by {
            SpentBy::Device { public_key, .. } => Some(public_key),
            SpentBy::WrongPins => None,
        }
    }

    /// Whether this is the same enroll again: same key, same PSK. It changes nothing and is no error.
    #[must_use]
    pub fn is_repeat(&self, enrollment: &Enrollment) -> bool {
        match &self.by {
            SpentBy::Device {
                public_key,
                psk_digest: known,
            } => {
                let same_psk = known.ct_eq(&psk_digest(&enrollment.psk));
                *public_key == enrollment.public_key && bool::from(same_psk)
            }
            SpentBy::WrongPins => false,
        }
    }
}

/// What can still become of an invite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InviteState {
    /// It can be used.
    Live,
    /// It was used.
    Spent,
    /// It was never used, and its end has come.
    Ended,
}

impl fmt::Display for InviteState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Live => "live",
            Self::Spent => "spent",
            Self::Ended => "ended",
        })
    }
}

impl Invite {
    /// The longest an invite may live.
    pub const LONGEST: Duration = Duration::from_hours(30 * 24);
    /// How long after its end an invite is remembered.
    pub const REMEMBERED: Duration = Duration::from_hours(2 * 24);

    /// A new invite, and the seed that goes into its text and nowhere else.
    pub fn generate(name: ClientName, ends: UnixTime, terms: Terms, rng: &mut impl CryptoRng) -> (InviteSeed, Self) {
        let seed = InviteSeed::generate(rng);
        let invite = Self {
            public_key: seed.secret_key().public(),
            psk: seed.psk(),
            name,
            ends,
            pin: None,
            gateway: None,
            terms,
            spent: None,
        };
        (seed, invite)
    }

    /// Makes it demand a PIN: 8 random digits, to be told by another channel.
    pub fn demand_pin(&mut self, rng: &mut impl CryptoRng) {
        // What is beyond the last whole 100 000 000 would make some PINs likelier than others.
        let random = std::iter::repeat_with(|| rng.next_u32());
        let number = random
            .filter(|random| *random < 4_200_000_000)
            .map(|random| random % 100_000_000)
            .next();
        self.pin = number.and_then(|number| Code::new(number).ok());
    }

    /// Whether this is its PIN, in constant time; false where none is demanded.
    #[must_use]
    pub fn is_pin(&self, code: Code) -> bool {
        let same = |pin: Code| pin.number().to_be_bytes().ct_eq(&code.number().to_be_bytes());
        self.pin.is_some_and(|pin| bool::from(same(pin)))
    }

    /// The PIN as it is told: 8 digits.
    #[must_use]
    pub fn pin_text(&self) -> Option<Zeroizing<String>> {
        self.pin.map(|pin| Zeroizing::new(format!("{:08}", pin.number())))
    }

    pub(crate) fn duplicate(&self) -> Self {
        Self {
            public_key: self.public_key,
            psk: Psk::from_bytes(self.psk.expose()),
            name: self.name.clone(),
            ends: self.ends,
            pin: self.pin,
            gateway: self.gateway,
            terms: self.terms.duplicate(),
            spent: self.spent.clone(),
        }
    }

    /// Its state at `now`.
    #[must_use]
    pub fn state(&self, now: UnixTime) -> InviteState {
        match &self.spent {
            Some(_) => InviteState::Spent,
            None if now >= self.ends => InviteState::Ended,
            None => InviteState::Live,
        }
    }

    /// Whether its end is so long ago that nothing of it can come any more.
    #[must_use]
    pub fn is_forgettable(&self, now: UnixTime) -> bool {
        now > self.ends.saturating_add(Self::REMEMBERED)
    }

    /// Its file's name: `NAME@XXXXXXXX.toml`, the X being the first 4 bytes of its key.
    #[must_use]
    pub fn file_name(&self) -> String {
        let [a, b, c, d, ..] = self.public_key.0;
        format!("{}@{:08x}.toml", self.name, u32::from_be_bytes([a, b, c, d]))
    }

    /// Reads the file's text.
    ///
    /// # Errors
    ///
    /// [`Fault`] with its place for unknown keys, missing ones, and values that mean nothing.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let mut table = Table::parse(text)?;
        let public_key = table.text("public-key", text::public_key)?;
        let psk = table.text("psk", text::psk)?;
        let name = table.text("name", str::parse)?;
        let ends = table.text("ends", units::parse_time)?;
        let terms = table.table("client")?;
        let invite = Self {
            public_key: table.required("public-key", public_key)?,
            psk: table.required("psk", psk)?,
            name: table.required("name", name)?,
            ends: table.required("ends", ends)?,
            pin: table.text("pin", parse_pin)?,
            gateway: table.text("gateway", text::public_key)?,
            terms: read_terms(table.required("[client]", terms)?)?,
            spent: table.table("spent")?.map(read_spent).transpose()?,
        };
        table.finish()?;
        Ok(invite)
    }

    /// The file's text.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        // Room for all, so that the secrets in it are never moved.
        let mut out = Zeroizing::new(String::with_capacity(4096));
        out.push_str(HEADER);
        out.push_str("public-key = \"");
        out.push_str(&text::encode(self.public_key.as_bytes()));
        out.push_str("\"\npsk = \"");
        out.push_str(&text::encode_secret(self.psk.expose()));
        out.push_str("\"\nname = \"");
        out.push_str(self.name.as_str());
        out.push_str("\"\n");
        write_time("ends", Some(self.ends), &mut out);
        if let Some(pin) = self.pin_text() {
            out.push_str("pin = \"");
            out.push_str(&pin);
            out.push_str("\"\n");
        }
        if let Some(gateway) = &self.gateway {
            out.push_str("gateway = \"");
            out.push_str(&text::encode(gateway.as_bytes()));
            out.push_str("\"\n");
        }
        out.push_str("\n# What the client gets.\n[client]\n");
        self.terms.write(&mut out);
        if let Some(spent) = &self.spent {
            out.push_str("\n[spent]\n");
            write_time("at", Some(spent.at), &mut out);
            match &spent.by {
                SpentBy::Device { public_key, psk_digest } => {
                    out.push_str("public-key = \"");
                    out.push_str(&text::encode(public_key.as_bytes()));
                    out.push_str("\"\npsk-sha256 = \"");
                    out.push_str(&text::encode(psk_digest));
                    out.push_str("\"\n");
                }
                SpentBy::WrongPins => out.push_str("wrong-pins = true\n"),
            }
        }
        out
    }

    /// Reads the file of one invite.
    ///
    /// # Errors
    ///
    /// [`LoadError`]: the file may not be read, or its text is wrong.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let text = file::read_text(path, Limits::SECRET)?;
        Self::parse(&text).map_err(|fault| LoadError::fault(path, fault))
    }

    /// Writes the invite into the directory `invites`, where no file of it is.
    ///
    /// # Errors
    ///
    /// As [`file::create_new`].
    pub fn create(&self, invites: &Path) -> Result<(), FileError> {
        file::create_new(&invites.join(self.file_name()), self.to_text().as_bytes(), 0o600)
    }

    /// Writes the invite over its old file at `path`, in one step.
    ///
    /// # Errors
    ///
    /// As [`file::replace`].
    pub fn save(&self, path: &Path) -> Result<(), FileError> {
        file::replace(path, self.to_text().as_bytes(), 0o600)
    }

    /// The client that this enrollment makes, as the gateway stores it.
    #[must_use]
    pub fn client(&self, enrollment: &Enrollment, at: UnixTime) -> Client {
        Client {
            public_key: enrollment.public_key,
            psk: Psk::from_bytes(enrollment.psk.expose()),
            label: enrollment.label.clone(),
            enrolled: Some(at),
            revoked: None,
            terms: self.terms.duplicate(),
        }
    }
}

fn parse_pin(text: &str) -> Result<Code, &'static str> {
    let wrong = "a PIN is 8 digits";
    if text.len() != 8 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong);
    }
    let number = text.parse().map_err(|_| wrong)?;
    Code::new(number).map_err(|_| wrong)
}

fn read_terms(mut table: Table<'_>) -> Result<Terms, Fault> {
    let terms = Terms::read(&mut table)?;
    table.finish()?;
    Ok(terms)
}

fn read_spent(mut table: Table<'_>) -> Result<Spent, Fault> {
    let at = table.text("at", units::parse_time)?;
    let at = table.required("at", at)?;
    let by = if table.flag("wrong-pins")? {
        SpentBy::WrongPins
    } else {
        let public_key = table.text("public-key", text::public_key)?;
        let psk_digest = table.text("psk-sha256", text::decode)?;
        SpentBy::Device {
            public_key: table.required("public-key", public_key)?,
            psk_digest: *table.required("psk-sha256", psk_digest)?,
        }
    };
    let spent = Spent { at, by };
    table.finish()?;
    Ok(spent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use getrandom::SysRng;
    use proptest::prelude::*;
    use rand_core::UnwrapErr;

    const ENDS: UnixTime = UnixTime::from_secs(1_800_000_000);

    fn new() -> Invite {
        let name = "alice-phone".parse().unwrap();
        let (seed, invite) = Invite::generate(name, ENDS, Terms::default(), &mut UnwrapErr(SysRng));
        assert_eq!(seed.secret_key().public(), invite.public_key);
        invite
    }

    fn enrollment() -> Enrollment {
        Enrollment {
            public_key: PublicKey([3; 32]),
            psk: Psk::from_bytes(&[4; 32]),
            label: "phone".parse().unwrap(),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut invite = new();
        assert_eq!(Invite::parse(&invite.to_text()).unwrap(), invite);
        invite.pin = Some(Code::new(1_234_567).unwrap());
        invite.spent = Some(Spent::by(&enrollment(), ENDS));
        invite.terms.expires = Some(ENDS);
        invite.gateway = Some(PublicKey([6; 32]));
        assert_eq!(Invite::parse(&invite.to_text()).unwrap(), invite);
        invite.spent = Some(Spent::by_wrong_pins(ENDS));
        assert_eq!(Invite::parse(&invite.to_text()).unwrap(), invite);
    }

    #[test]
    fn pins_have_eight_digits_and_are_compared_as_such() {
        let mut invite = new();
        assert!(!invite.is_pin(Code::new(0).unwrap()), "none is demanded");
        let rng = &mut UnwrapErr(SysRng);
        let pins: std::collections::HashSet<u32> = (0..100)
            .map(|_| {
                invite.demand_pin(rng);
                assert_eq!(invite.pin_text().unwrap().len(), 8);
                invite.pin.unwrap().number()
            })
            .collect();
        assert!(pins.len() > 90, "random");
        invite.pin = Some(Code::new(42).unwrap());
        assert!(
            format!("{invite:?}").contains("pin: Some(Code(..))"),
            "a PIN is not shown"
        );
        assert_eq!(invite.pin_text().unwrap().as_str(), "00000042");
        assert!(invite.is_pin(Code::new(42).unwrap()) && !invite.is_pin(Code::new(43).unwrap()));
    }

    #[test]
    fn states_follow_the_clock() {
        let mut invite = new();
        assert_eq!(
            invite.state(ENDS.saturating_sub(Duration::from_nanos(1))),
            InviteState::Live
        );
        assert_eq!(invite.state(ENDS), InviteState::Ended);
        assert!(!invite.is_forgettable(ENDS.saturating_add(Invite::REMEMBERED)));
        assert!(invite.is_forgettable(ENDS.saturating_add(Invite::REMEMBERED + Duration::from_nanos(1))));
        invite.spent = Some(Spent::by(&enrollment(), ENDS));
        assert_eq!(invite.state(UnixTime::default()), InviteState::Spent);
        assert_eq!(invite.state(ENDS), InviteState::Spent);
    }

    #[test]
    fn a_repeat_has_the_same_key_and_psk() {
        let spent = Spent::by(&enrollment(), ENDS);
        assert!(spent.is_repeat(&enrollment()));
        let other = Enrollment {
            psk: Psk::from_bytes(&[5; 32]),
            ..enrollment()
        };
        assert!(!spent.is_repeat(&other));
        let other = Enrollment {
            public_key: PublicKey([5; 32]),
            ..enrollment()
        };
        assert!(!spent.is_repeat(&other));
    }

    #[test]
    fn files_are_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut invite = new();
        invite.create(dir.path()).unwrap();
        assert!(matches!(invite.create(dir.path()), Err(FileError::Exists { .. })));
        invite.spent = Some(Spent::by(&enrollment(), ENDS));
        invite.save(&dir.path().join(invite.file_name())).unwrap();
        assert_eq!(Invite::load(&dir.path().join(invite.file_name())).unwrap(), invite);
    }

    proptest! {
        #[test]
        fn nothing_panics(text: String) {
            let _ = Invite::parse(&text);
            let _ = Invite::parse(&format!("{}{text}", *new().to_text()));
        }
    }
}
