//! Changing a client's file by command: comments and the order of keys stay.

use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;
use spa_proto::{Label, ServiceName, UnixTime};
use toml_edit::{Array, DocumentMut, Item, value};
use zeroize::Zeroizing;

use super::Client;
use super::code::OneTimeCode;
use super::policy::{AddressRule, Widen};
use crate::file::{self, Limits};
use crate::load::LoadError;
use crate::units::{format_duration, format_time};

/// What is to change. An outer `None` leaves the value as it is, an inner one takes it out.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ClientEdit {
    /// The services it may open.
    pub services: Option<Vec<ServiceName>>,
    /// A text for people.
    pub label: Option<Label>,
    /// When it ends by itself.
    pub expires: Option<Option<UnixTime>>,
    /// Since when it is taken away.
    pub revoked: Option<Option<UnixTime>>,
    /// Which address forms it may use.
    pub address: Option<AddressRule>,
    /// Addresses it may open for; empty means any.
    pub sources: Option<Vec<IpNet>>,
    /// The cap on what it may ask for.
    pub max_duration: Option<Option<Duration>>,
    /// What is opened instead of the one address.
    pub widen: Option<Widen>,
    /// The secret of the one-time codes it must send.
    pub one_time_code: Option<Option<OneTimeCode>>,
}

impl ClientEdit {
    /// Changes the file at `path` in one step; what comes out has been read again before it is put there.
    ///
    /// # Errors
    ///
    /// [`LoadError`] when the file may not be read or written, or its text is wrong before or after.
    pub fn apply(&self, path: &Path) -> Result<Client, LoadError> {
        let old = file::read_text(path, Limits::SECRET)?;
        Client::parse(&old).map_err(|fault| LoadError::fault(path, fault))?;
        let new = self.edit(&old);
        let client = Client::parse(&new).map_err(|fault| LoadError::fault(path, fault))?;
        if *new != *old {
            file::replace(path, new.as_bytes(), 0o600)?;
        }
        Ok(client)
    }

    /// The text with the changes made; a text that is no TOML comes back as it is.
    fn edit(&self, old: &str) -> Zeroizing<String> {
        let Ok(mut document) = old.parse::<DocumentMut>() else {
            return Zeroizing::new(old.to_owned());
        };
        let mut set = |key: &str, new: Option<Item>| put(&mut document, key, new);
        if let Some(services) = &self.services {
            set("services", Some(list(services)));
        }
        if let Some(label) = &self.label {
            set(
                "label",
                Some(value(label.as_str())).filter(|_| !label.as_str().is_empty()),
            );
        }
        if let Some(expires) = self.expires {
            set("expires", expires.map(|time| value(format_time(time))));
        }
        if let Some(revoked) = self.revoked {
            set("revoked", revoked.map(|time| value(format_time(time))));
        }
        if let Some(address) = self.address {
            set("address", Some(value(address.as_str())));
        }
        if let Some(sources) = &self.sources {
            set("sources", Some(list(sources)).filter(|_| !sources.is_empty()));
        }
        if let Some(longest) = self.max_duration {
            set("max-duration", longest.map(|length| value(format_duration(length))));
        }
        if let Some(widen) = self.widen {
            let lengths = [format!("/{}", widen.v4), format!("/{}", widen.v6)];
            set("widen", Some(list(&lengths)).filter(|_| widen != Widen::default()));
        }
        if let Some(code) = &self.one_time_code {
            let (secret, digits) = code.as_ref().map(|code| (code.to_base32(), code.digits)).unzip();
            set("one-time-code", secret.map(|secret| value(secret.as_str())));
            set("one-time-digits", digits.map(|digits| value(i64::from(digits))));
        }
        Zeroizing::new(document.to_string())
    }
}

/// Puts a value where the old one stood, with the comment that stood behind it, or takes it out.
fn put(document: &mut DocumentMut, key: &str, new: Option<Item>) {
    let Some(mut new) = new else {
        document.remove(key);
        return;
    };
    let old = document
        .get(key)
        .and_then(Item::as_value)
        .map(|old| old.decor().clone());
    if let (Some(decor), Some(new)) = (old, new.as_value_mut()) {
        *new.decor_mut() = decor;
    }
    match document.get_mut(key) {
        Some(place) => *place = new,
        None => drop(document.insert(key, new)),
    }
}

fn list(items: &[impl ToString]) -> Item {
    value(items.iter().map(ToString::to_string).collect::<Array>())
}
