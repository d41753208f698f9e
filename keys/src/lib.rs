//! Everything about keys outside a packet: text forms, files, invites, and the clients a gateway knows.
//!
//! `spa-proto` computes; this crate reads and writes what it computes with. A gateway invites a device, the device reads
//! the invite and makes its own keys, and the gateway writes down its new client:
//!
//! ```
//! use getrandom::SysRng;
//! use rand_core::UnwrapErr;
//! use spa_keys::*;
//! use spa_proto::{Enrollment, HmacKey, Keyring, Psk, Role, SecretKey, UnixTime};
//!
//! let rng = &mut UnwrapErr(SysRng);
//! let (folder, now) = (tempfile::tempdir()?, UnixTime::from_secs(1_800_000_000));
//! let (clients, invites) = (folder.path().join("clients.d"), folder.path().join("invites.d"));
//! std::fs::create_dir(&clients)?;
//! std::fs::create_dir(&invites)?;
//!
//! // The gateway: its identity, and an invite in a file of its own, which holds no more than is needed to recognise it.
//! let key = GatewayKey::generate(now, rng);
//! let identity = key.newest().ok_or("a gateway has an identity")?;
//! let policy = ClientPolicy { services: vec!["ssh".parse()?].into(), ..ClientPolicy::default() };
//! let terms = Terms { policy, ..Terms::default() };
//! let ends = UnixTime::from_secs(now.as_secs() + 900);
//! let (seed, invite) = Invite::generate("anna-phone".parse()?, ends, terms, rng);
//! invite.create(&invites)?;
//!
//! // What the device is given: one text, with a checksum.
//! let text = InviteText {
//!     demands: Demands::default(),
//!     end_s: ends.as_secs(),
//!     gateway: *identity.public(),
//!     hmac_key: HmacKey::from_bytes(identity.hmac_key().expose()),
//!     seed,
//!     ports: Ports::new(&[62201])?,
//!     host: "gw.example.net".parse()?,
//!     name: invite.name.clone(),
//!     services: ServiceHints::new(vec!["ssh=tcp/22".parse()?])?,
//! };
//!
//! // The device: reads it, knows the keys to enroll with, and makes its own.
//! let read = InviteText::parse(&text.to_text())?;
//! assert_eq!(read.seed.secret_key().public(), invite.public_key);
//! let secret = SecretKey::generate(rng);
//! let enrollment =
//!     Enrollment { public_key: secret.public(), psk: Psk::generate(rng), label: "Anna's phone".parse()? };
//!
//! // The gateway, when that enrollment has come: the client is a file, and is found by its key.
//! let mut directory = KeyDirectory::load(&clients, &invites)?;
//! directory.write_enrollment(&invite.public_key, &enrollment, now)?;
//! assert!(clients.join("anna-phone.toml").exists());
//! let found = directory.find(&secret.public()).ok_or("nobody has this key")?;
//! assert_eq!(found.role, Role::Client);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Section names in this documentation are those of `docs/protocol.md`.

#![forbid(unsafe_code)]

pub mod backup;
pub mod client;
pub mod control;
pub mod directory;
pub mod escape;
pub mod exit;
pub mod export;
pub mod fault;
pub mod file;
pub mod gateway;
pub mod invite;
pub mod invites;
pub mod load;
pub mod manual;
pub mod name;
mod paths;
pub mod profile;
pub mod qr;
pub mod rolling;
pub mod rotation;
pub mod state;
mod table;
pub mod text;
pub mod units;
pub mod watch;

pub use client::{AddressRule, Client, ClientEdit, ClientPolicy, OneTimeCode, Terms, Widen};
pub use control::{Control, ControlError};
pub use directory::{BrokenFile, ClientState, ClientView, Counts, KeyDirectory, Kind, Reload};
pub use exit::{Exit, Failure};
pub use fault::Fault;
pub use gateway::{DatedIdentity, GatewayKey};
pub use invite::{Demands, InviteError, InviteText, Ports, ServiceHints};
pub use invites::{Invite, InviteState, Spent, SpentBy};
pub use load::LoadError;
pub use name::{ClientName, Host, Protocol, ServiceHint, ServicePort};
pub use paths::Paths;
pub use watch::{Changes, Watch};
