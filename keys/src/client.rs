//! clients.d/NAME.toml: one client of a gateway.

use std::fmt::Write;
use std::path::Path;

use sha2::{Digest, Sha256};
use spa_proto::{Label, Psk, PublicKey, UnixTime};
use zeroize::Zeroizing;

use crate::fault::Fault;
use crate::file::{self, Limits};
use crate::load::LoadError;
use crate::table::Table;
use crate::{text, units};

mod code;
mod edit;
mod policy;
mod terms;

pub use code::{CodeSecretError, OneTimeCode};
pub use edit::ClientEdit;
pub use policy::{AddressRule, ClientPolicy, Widen, parse_source};
pub use terms::{Terms, parse_length};

/// One client: its keys, who it is, and what it may do.
#[derive(Debug, PartialEq, Eq)]
pub struct Client {
    /// The device's static public key.
    pub public_key: PublicKey,
    /// The second authentication factor.
    pub psk: Psk,
    /// A text for people.
    pub label: Label,
    /// When it was enrolled.
    pub enrolled: Option<UnixTime>,
    /// Since when it is taken away.
    pub revoked: Option<UnixTime>,
    /// What it may do, and until when.
    pub terms: Terms,
}

impl Client {
    /// Reads the file's text.
    ///
    /// # Errors
    ///
    /// [`Fault`] with its place for unknown keys, missing ones, and values that mean nothing.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let mut table = Table::parse(text)?;
        let public_key = table.text("public-key", text::public_key)?;
        let psk = table.text("psk", text::psk)?;
        let client = Self {
            public_key: table.required("public-key", public_key)?,
            psk: table.required("psk", psk)?,
            label: table.text("label", str::parse)?.unwrap_or_default(),
            enrolled: table.text("enrolled", units::parse_time)?,
            revoked: table.text("revoked", units::parse_time)?,
            terms: Terms::read(&mut table)?,
        };
        table.finish()?;
        Ok(client)
    }

    /// The public key in the text of a file, whatever else is wrong in it.
    #[must_use]
    pub fn key_in(text: &str) -> Option<PublicKey> {
        let mut table = Table::parse(text).ok()?;
        table.text("public-key", text::public_key).ok()?
    }

    /// The file's text.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        // Room for all, so that the secrets in it are never moved.
        let mut out = Zeroizing::new(String::with_capacity(4096));
        out.push_str("public-key = \"");
        out.push_str(&text::encode(self.public_key.as_bytes()));
        out.push_str("\"\npsk = \"");
        out.push_str(&text::encode_secret(self.psk.expose()));
        out.push_str("\"\n");
        self.terms.write(&mut out);
        if !self.label.as_str().is_empty() {
            let label = toml_edit::Value::from(self.label.as_str());
            let _ = writeln!(out, "label = {label}");
        }
        write_time("enrolled", self.enrolled, &mut out);
        write_time("revoked", self.revoked, &mut out);
        out
    }

    /// Reads the file of one client.
    ///
    /// # Errors
    ///
    /// [`LoadError`]: the file may not be read, or its text is wrong.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let text = file::read_text(path, Limits::SECRET)?;
        Self::parse(&text).map_err(|fault| LoadError::fault(path, fault))
    }
}

pub(crate) fn write_time(key: &str, time: Option<UnixTime>, out: &mut String) {
    if let Some(time) = time {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{key} = \"{}\"", units::format_time(time));
    }
}

/// SHA-256 of a PSK: enough to recognise it, not enough to use it.
#[must_use]
pub fn psk_digest(psk: &Psk) -> [u8; 32] {
    Sha256::digest(psk.expose()).into()
}

#[cfg(test)]
mod tests;
