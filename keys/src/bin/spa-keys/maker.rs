//! Making invites: what `invite` and a rotation share.

use getrandom::SysRng;
use rand_core::UnwrapErr;
use spa_keys::units::format_duration;
use spa_keys::{AddressRule, ClientName, Demands, Exit, Failure, GatewayKey, Host, Invite, InviteText, Ports, Terms};
use spa_proto::{HmacKey, Identity, InviteSeed, UnixTime};

use crate::cli::InviteArgs;
use crate::server::Server;

/// Where the gateway is and what its new clients are told of it.
pub struct Maker<'a> {
    pub server: &'a Server,
    pub identity: &'a Identity,
    pub host: &'a Host,
    ports: Ports,
}

impl<'a> Maker<'a> {
    pub fn new(server: &'a Server, key: &'a GatewayKey) -> Result<Self, Failure> {
        let host = server.host.as_ref().ok_or_else(|| {
            let failure = Failure::new(Exit::Config, "server.toml does not say where the gateway is");
            failure.hint("these two lines in server.toml: [gateway] and host = \"gw.example.net\"")
        })?;
        let identity = key
            .newest()
            .ok_or_else(|| Failure::new(Exit::Config, "gateway.key holds no identity"))?;
        let ports = Ports::new(&server.ports)
            .map_err(|error| Failure::new(Exit::Config, format_args!("server.toml, [listen] ports: {error}")))?;
        Ok(Self {
            server,
            identity,
            host,
            ports,
        })
    }

    /// An invite and its text. Nothing is written yet.
    pub fn make(
        &self,
        name: ClientName,
        ends: UnixTime,
        terms: Terms,
        pin: bool,
    ) -> Result<(Invite, InviteText), Failure> {
        let rng = &mut UnwrapErr(SysRng);
        let (seed, mut invite) = Invite::generate(name, ends, terms, rng);
        invite.gateway = Some(*self.identity.public());
        if pin {
            invite.demand_pin(rng);
        }
        let text = self.text(&invite, seed)?;
        Ok((invite, text))
    }

    fn text(&self, invite: &Invite, seed: InviteSeed) -> Result<InviteText, Failure> {
        let policy = &invite.terms.policy;
        Ok(InviteText {
            demands: Demands {
                pin: invite.pin.is_some(),
                explicit_address: policy.address == AddressRule::Explicit,
                one_time_code: invite.terms.one_time_code.is_some(),
            },
            end_s: invite.ends.as_secs(),
            gateway: *self.identity.public(),
            hmac_key: HmacKey::from_bytes(self.identity.hmac_key().expose()),
            seed,
            ports: self.ports.clone(),
            host: self.host.clone(),
            name: invite.name.clone(),
            services: self.server.hints(&policy.services)?,
        })
    }
}

/// Refuses an invite that would live too long.
pub fn check_valid(valid: std::time::Duration) -> Result<(), Failure> {
    if valid <= Invite::LONGEST {
        return Ok(());
    }
    let longest = format_duration(Invite::LONGEST);
    Err(Failure::new(
        Exit::Usage,
        format_args!("an invite is good for at most {longest}"),
    ))
}

/// Everything that `invite` was told, checked before anything is made.
pub fn check(args: &InviteArgs, server: &Server) -> Result<(), Failure> {
    check_valid(args.valid)?;
    server.check(&args.terms.services.0)
}
