//! The capabilities that are left.

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, remove_capability_from_bounding_set,
    set_capabilities, set_no_new_privs,
};

use super::{Given, unless};

/// Opening a packet socket, also when an interface comes back.
const TO_CAPTURE: CapabilitySet = CapabilitySet::NET_RAW;
/// What firewalls and other people's files take.
const TO_GUARD: CapabilitySet = CapabilitySet::NET_ADMIN // rules, sets, sockets to be cut
    .union(CapabilitySet::NET_RAW) // iptables asks the kernel on a raw socket
    .union(CapabilitySet::SYS_MODULE) // iptables-legacy loads its modules itself
    .union(CapabilitySet::NET_BIND_SERVICE) // decoys on low ports
    .union(CapabilitySet::DAC_OVERRIDE) // hosts.allow and server.toml, whoever owns them
    .union(CapabilitySet::CHOWN) // their owner stays who it was
    .union(CapabilitySet::FOWNER); // and their mode
/// More than any kernel has.
const MOST: u32 = 63;

/// Keeps CAP_NET_RAW where it was there, and no way to get others, not by a file with rights of its own either.
pub(super) fn keep_net_raw() -> Given {
    all([
        drop_bounding(CapabilitySet::empty()),
        keep(TO_CAPTURE),
        set_no_new_privs(true),
    ])
}

/// Keeps what the firewall process needs where it runs nobody's commands, with no way to get more.
pub(super) fn keep_firewall() -> Given {
    all([drop_bounding(TO_GUARD), keep(TO_GUARD), set_no_new_privs(true)])
}

/// Every step is taken, also behind one that failed.
fn all(steps: [Result<(), Errno>; 3]) -> Given {
    let outcome: Result<(), Errno> = steps.into_iter().collect();
    outcome.map_err(unless("keeps capabilities that it does not need"))
}

/// Only who may change capabilities can; who may not has none to lose.
fn drop_bounding(except: CapabilitySet) -> Result<(), Errno> {
    let own = capabilities(None)?;
    if !own.permitted.contains(CapabilitySet::SETPCAP) {
        return Ok(());
    }
    // What was permitted is effective again after the change of the user.
    set_capabilities(
        None,
        CapabilitySets {
            effective: own.permitted,
            ..own
        },
    )?;
    for number in 0..=MOST {
        let one = CapabilitySet::from_bits_retain(1 << number);
        if except.contains(one) {
            continue;
        }
        match remove_capability_from_bounding_set(one) {
            // The first one that this kernel does not know.
            Err(Errno::INVAL) => break,
            removed => removed?,
        }
    }
    Ok(())
}

fn keep(needed: CapabilitySet) -> Result<(), Errno> {
    let left = capabilities(None)?.permitted & needed;
    set_capabilities(
        None,
        CapabilitySets {
            effective: left,
            permitted: left,
            inheritable: CapabilitySet::empty(),
        },
    )?;
    clear_ambient_capability_set()
}
