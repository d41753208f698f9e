//! The two lists of an invite: knock ports and services.

use std::fmt;
use std::num::NonZeroU16;
use std::ops::Deref;

use super::{InviteError, Reader};
use crate::name::ServiceHint;

/// 1 to 8 UDP ports in the order of trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports(Vec<NonZeroU16>);

impl Ports {
    /// The most ports an invite names.
    pub const MOST: usize = 8;

    /// Takes ports in the order of trial.
    ///
    /// # Errors
    ///
    /// [`InviteError`] when there are none or more than 8, or one is 0.
    pub fn new(ports: &[u16]) -> Result<Self, InviteError> {
        if ports.is_empty() || ports.len() > Self::MOST {
            return Err(InviteError::PortCount { have: ports.len() });
        }
        let ports = ports.iter().map(|port| NonZeroU16::new(*port));
        ports.collect::<Option<_>>().map(Self).ok_or(InviteError::PortZero)
    }

    /// The ports as plain numbers.
    pub fn numbers(&self) -> impl Iterator<Item = u16> + '_ {
        self.0.iter().map(|port| port.get())
    }

    pub(super) fn read(input: &mut Reader<'_>) -> Result<Self, InviteError> {
        let [count] = input.array()?;
        if !(1..=Self::MOST).contains(&count.into()) {
            return Err(InviteError::PortCount { have: count.into() });
        }
        let ports = (0..count).map(|_| input.array().map(u16::from_be_bytes));
        Self::new(&ports.collect::<Result<Vec<_>, _>>()?)
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::try_from(self.0.len()).unwrap_or(u8::MAX));
        self.numbers().for_each(|port| out.extend(port.to_be_bytes()));
    }
}

/// Different services with their hints, at most 255 bytes when written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceHints(Vec<ServiceHint>);

impl ServiceHints {
    /// The most bytes the list takes when written.
    pub const MOST: usize = 255;

    /// Takes a list of services.
    ///
    /// # Errors
    ///
    /// [`InviteError`] when one stands there twice or the list is too long to be written.
    pub fn new(hints: Vec<ServiceHint>) -> Result<Self, InviteError> {
        let mut seen = std::collections::HashSet::new();
        if let Some(twice) = hints.iter().find(|hint| !seen.insert(hint.name.as_str())) {
            let name = twice.name.to_string();
            return Err(InviteError::ServiceTwice { name });
        }
        let list = Self(hints);
        match list.to_string().len() {
            0..=Self::MOST => Ok(list),
            have => Err(InviteError::ServicesLong { have }),
        }
    }

    pub(super) fn parse(text: &str) -> Result<Self, InviteError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let hints = text.split(',').map(str::parse).collect::<Result<_, _>>();
        Self::new(hints.map_err(InviteError::Name)?)
    }
}

impl Deref for ServiceHints {
    type Target = [ServiceHint];

    fn deref(&self) -> &[ServiceHint] {
        &self.0
    }
}

impl fmt::Display for ServiceHints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, hint) in self.0.iter().enumerate() {
            write!(f, "{}{hint}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}
