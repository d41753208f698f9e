//! gateway.key: the identities a gateway holds ("Keys").

use std::path::Path;

use rand_core::CryptoRng;
use spa_proto::{HmacKey, Identity, PublicKey, SecretKey, UnixTime};
use zeroize::Zeroizing;

use crate::fault::Fault;
use crate::file::{self, FileError, Limits};
use crate::load::LoadError;
use crate::table::Table;
use crate::{text, units};

const VERSION: u64 = 1;
const HEADER: &str = "# The identities of this spa gateway. Secret: who has this file can be the gateway.\n";

/// The identities of one gateway, oldest first: 1 to 16.
#[derive(Debug)]
pub struct GatewayKey {
    identities: Vec<DatedIdentity>,
}

/// An identity and when it was made.
#[derive(Debug)]
pub struct DatedIdentity {
    /// When it was made.
    pub created: UnixTime,
    /// The keys.
    pub identity: Identity,
}

impl GatewayKey {
    /// The most identities a gateway holds.
    pub const MOST: usize = 16;

    /// A gateway with one new identity.
    pub fn generate(created: UnixTime, rng: &mut impl CryptoRng) -> Self {
        let identity = Identity::new(SecretKey::generate(rng), HmacKey::generate(rng));
        Self {
            identities: vec![DatedIdentity { created, identity }],
        }
    }

    /// The identities, oldest first; never none.
    #[must_use]
    pub fn identities(&self) -> &[DatedIdentity] {
        &self.identities
    }

    /// The identity that new invites carry: the newest.
    #[must_use]
    pub fn newest(&self) -> Option<&Identity> {
        self.identities.last().map(|dated| &dated.identity)
    }

    /// The identities for a [`Sieve`](spa_proto::Sieve).
    #[must_use]
    pub fn into_identities(self) -> Vec<Identity> {
        self.identities.into_iter().map(|dated| dated.identity).collect()
    }

    /// Adds an identity beside those held: a rotation's first step, or a team's own `K`.
    ///
    /// # Errors
    ///
    /// [`Fault`] when 16 are held or this one is held already.
    pub fn add(&mut self, created: UnixTime, identity: Identity) -> Result<(), Fault> {
        if self.identities.len() >= Self::MOST {
            return Err(Fault::whole(format_args!(
                "a gateway holds at most {} identities",
                Self::MOST
            )));
        }
        let same = |held: &DatedIdentity| {
            held.identity.public() == identity.public() && held.identity.hmac_key() == identity.hmac_key()
        };
        if self.identities.iter().any(same) {
            return Err(Fault::whole("the same identity stands there twice"));
        }
        self.identities.push(DatedIdentity { created, identity });
        Ok(())
    }

    /// A rotation's first step: a new `S` with a new `K` beside those held.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add).
    pub fn rotate(&mut self, created: UnixTime, rng: &mut impl CryptoRng) -> Result<(), Fault> {
        self.add(created, Identity::new(SecretKey::generate(rng), HmacKey::generate(rng)))
    }

    /// A rotation's last step: takes out every identity with this `S`; says how many there were.
    ///
    /// # Errors
    ///
    /// [`Fault`] when nothing would be left; nothing is taken out then.
    pub fn drop_identity(&mut self, public: &PublicKey) -> Result<usize, Fault> {
        let is_it = |held: &DatedIdentity| held.identity.public() == public;
        let count = self.identities.iter().filter(|held| is_it(held)).count();
        if count == self.identities.len() {
            return Err(Fault::whole("a gateway has at least one identity"));
        }
        self.identities.retain(|held| !is_it(held));
        Ok(count)
    }

    /// Reads the file's text.
    ///
    /// # Errors
    ///
    /// [`Fault`] with its place for unknown keys, another version, no identity or more than 16, and values that are
    /// no keys.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let mut table = Table::parse(text)?;
        let known = |version| match version {
            VERSION => Ok(()),
            other => Err(format!("version {other} is not known here, {VERSION} is")),
        };
        let version = table.number("version", known)?;
        table.required("version", version)?;
        let mut key = Self { identities: Vec::new() };
        for identity in table.tables("identity")? {
            let DatedIdentity { created, identity } = read_identity(identity)?;
            key.add(created, identity)?;
        }
        table.finish()?;
        if key.identities.is_empty() {
            return Err(Fault::whole("no [[identity]]: a gateway has at least one"));
        }
        Ok(key)
    }

    /// The file's text.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        // Room for all, so that the secrets in it are never moved.
        let mut out = Zeroizing::new(String::with_capacity(256 + 256 * self.identities.len()));
        out.push_str(HEADER);
        out.push_str("version = 1\n");
        for DatedIdentity { created, identity } in &self.identities {
            out.push_str("\n[[identity]]\ncreated = \"");
            out.push_str(&units::format_time(*created));
            out.push_str("\"\nprivate-key = \"");
            out.push_str(&text::encode_secret(identity.secret().expose()));
            out.push_str("\"\nhmac-key = \"");
            out.push_str(&text::encode_secret(identity.hmac_key().expose()));
            out.push_str("\"\n");
        }
        out
    }

    /// Reads the file.
    ///
    /// # Errors
    ///
    /// [`LoadError`]: the file may not be read, or its text is wrong.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let text = file::read_text(path, Limits::SECRET)?;
        Self::parse(&text).map_err(|fault| LoadError::fault(path, fault))
    }

    /// Writes the file where none is, mode 0600.
    ///
    /// # Errors
    ///
    /// [`FileError::Exists`] when one is there; else as [`file::create_new`].
    pub fn create(&self, path: &Path) -> Result<(), FileError> {
        file::create_new(path, self.to_text().as_bytes(), 0o600)
    }

    /// Replaces the file in one step, mode 0600.
    ///
    /// # Errors
    ///
    /// As [`file::replace`].
    pub fn save(&self, path: &Path) -> Result<(), FileError> {
        file::replace(path, self.to_text().as_bytes(), 0o600)
    }
}

fn read_identity(mut table: Table<'_>) -> Result<DatedIdentity, Fault> {
    let created = table.text("created", units::parse_time)?;
    let secret = table.text("private-key", text::secret_key)?;
    let hmac_key = table.text("hmac-key", text::hmac_key)?;
    let dated = DatedIdentity {
        created: table.required("created", created)?,
        identity: Identity::new(
            table.required("private-key", secret)?,
            table.required("hmac-key", hmac_key)?,
        ),
    };
    table.finish()?;
    Ok(dated)
}

#[cfg(test)]
mod tests {
    use super::*;
    use getrandom::SysRng;
    use rand_core::UnwrapErr;

    fn new() -> GatewayKey {
        GatewayKey::generate(UnixTime::from_secs(1_800_000_000), &mut UnwrapErr(SysRng))
    }

    #[test]
    fn what_is_written_is_read() {
        let mut key = new();
        key.add(UnixTime::from_secs(1_900_000_000), new().identities.remove(0).identity)
            .unwrap();
        let read = GatewayKey::parse(&key.to_text()).unwrap();
        assert_eq!(*read.to_text(), *key.to_text());
        assert_eq!(read.newest().unwrap().public(), key.identities[1].identity.public());
    }

    #[test]
    fn wrong_texts_say_where() {
        let good = new().to_text().to_string();
        let cases = [
            (
                good.replace("version = 1", "version = 2"),
                "version 2 is not known here, 1 is",
            ),
            (good.replace("version = 1\n", ""), "version is missing"),
            (good.replace("private-key", "private-kee"), "private-key is missing"),
            (
                format!("{good}hmack-key = \"\"\n"),
                "unknown key hmack-key; is hmac-key meant?",
            ),
            (
                format!("{good}{}", &good[good.find("[[").unwrap()..]),
                "the same identity stands there twice",
            ),
            ("version = 1\n".into(), "no [[identity]]: a gateway has at least one"),
            (good.replace("created = \"2", "created = \"x"), "is no time"),
        ];
        for (text, what) in cases {
            let fault = GatewayKey::parse(&text).unwrap_err();
            assert!(fault.what.contains(what), "{fault}");
        }
    }

    #[test]
    fn at_most_sixteen() {
        let mut key = new();
        for _ in 1..16 {
            key.add(UnixTime::default(), new().identities.remove(0).identity)
                .unwrap();
        }
        assert_eq!(GatewayKey::parse(&key.to_text()).unwrap().identities().len(), 16);
        assert!(
            key.add(UnixTime::default(), new().identities.remove(0).identity)
                .is_err()
        );
    }

    #[test]
    fn rotation_adds_and_drops_but_never_the_last() {
        let mut key = new();
        let old = *key.newest().unwrap().public();
        assert!(key.drop_identity(&old).is_err());
        key.rotate(UnixTime::from_secs(1_900_000_000), &mut UnwrapErr(SysRng))
            .unwrap();
        assert_eq!(key.drop_identity(&PublicKey([3; 32])).unwrap(), 0);
        assert_eq!(key.drop_identity(&old).unwrap(), 1);
        assert_eq!(key.identities().len(), 1);
        assert_ne!(*key.newest().unwrap().public(), old);
    }

    #[test]
    fn files_have_their_mode_and_are_not_overwritten() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.key");
        new().create(&path).unwrap();
        assert!(matches!(new().create(&path), Err(FileError::Exists { .. })));
        new().save(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(GatewayKey::load(&path).unwrap().identities().len(), 1);
    }
}
