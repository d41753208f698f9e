//! spa/1, the wire protocol: sealing, opening and judging knocks.
//!
//! This crate computes. It knows no socket, clock, file or thread: the caller gives it octets, the time and
//! randomness. Data flows one way:
//!
//! ```text
//! Frame ──▶ Datagram ──▶ SealedKnock ──▶ Knock           the gateway: frame, packet, gateway
//! Request ──▶ seal ──▶ datagram                          the client: knock, noise
//! Frame ──▶ Probe ──▶ Outcome                            the classic fallback: frame, sequence
//! ```
//!
//! A client seals, the gateway judges:
//!
//! ```
//! use core::time::Duration;
//! use getrandom::SysRng;
//! use rand_core::UnwrapErr;
//! use spa_proto::*;
//!
//! let rng = &mut UnwrapErr(SysRng);
//! let identity = Identity::new(SecretKey::generate(rng), HmacKey::generate(rng));
//! let (secret, psk) = (SecretKey::generate(rng), Psk::generate(rng));
//! let mut keyring = KeyTable::default();
//! keyring.insert(secret.public(), Psk::from_bytes(psk.expose()), Role::Client);
//!
//! // The client: one datagram that opens `ssh` for the address it is seen to come from.
//! let now = Moment { wall: UnixTime::from_secs(1_800_000_000), uptime: Duration::from_secs(5) };
//! let services = Services::new(vec!["ssh".parse()?])?;
//! let act = Act::Open { address: Address::AsSeen, duration_s: 0, services };
//! let request = Request { timestamp: now.wall, code: None, act };
//! let length = pick_length(OVERHEAD + request.payload_len(), rng);
//! let sender = Sender { gateway: identity.public(), hmac_key: identity.hmac_key(), secret: &secret, psk: &psk };
//! let octets = sender.seal(&request, length, rng)?;
//!
//! // The gateway: steps 1 to 7 and the checks of step 8 that need no policy.
//! let mut gateway = Gateway::new(Sieve::new(vec![identity], Listen::port(62201)));
//! let mut record = MemoryRecord::default();
//! let datagram = Datagram {
//!     source: "192.0.2.7:40000".parse()?,
//!     destination: "198.51.100.1:62201".parse()?,
//!     payload: &octets,
//! };
//! let knock = gateway.handle(now, &datagram, &mut keyring, &mut record)?;
//! assert_eq!(knock.request(), &request);
//!
//! // The same octets again are refused.
//! let again = gateway.handle(now, &datagram, &mut keyring, &mut record);
//! assert_eq!(again.unwrap_err().reason, DropReason::Copy { forwarded: false });
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Section numbers in this documentation are those of `docs/protocol.md`.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod copies;
mod drop_reason;
#[cfg(test)]
mod example;
pub mod frame;
mod gateway;
mod invite;
mod key;
mod keyring;
mod knock;
mod lanes;
mod limit;
mod noise;
mod outer;
mod packet;
mod payload;
mod replay;
mod sender;
pub mod sequence;
mod sieve;
mod stamp;
mod time;

pub use copies::Copies;
pub use drop_reason::{Claim, DropReason, EnrollError, Refusal};
pub use frame::{Content, Datagram, FrameError, LinkType, Probe, TcpFlags};
pub use gateway::Gateway;
pub use invite::InviteSeed;
pub use key::{HmacKey, Psk, PublicKey, SecretKey};
pub use keyring::{Enrolled, KeyTable, Keyring, Role, Seat, Standing, Windows};
pub use knock::{
    Act, Address, AddressError, Code, CodeError, Enrollment, ExplicitAddress, Knock, Label, LabelError, Request,
    ServiceName, ServiceNameError, Services, ServicesError,
};
pub use packet::{LENGTHS, LengthError, OVERHEAD, SealedKnock, pick_length};
pub use payload::{PAYLOAD_MIN, PayloadError};
pub use replay::{MemoryRecord, ReplayRecord, ReplaySet, Verdict};
pub use sender::{SealError, Sender};
pub use sieve::{Admitted, Identity, Listen, Sieve};
pub use stamp::Stamper;
pub use time::{Day, Moment, UnixTime};
