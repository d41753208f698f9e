//! What may be used up.

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

use super::{Given, unless};

/// Rings, watches, 16 decoys with two sockets each, 32 control connections and as many for metrics: with room.
const DESCRIPTORS: u64 = 512;
/// The keys of 100,000 clients are some 100 MB; tables of sequences and of scanners are bounded by themselves.
const MEMORY: u64 = 1 << 30;

/// No core file with keys in it, nobody of the same user looks into the memory, and a bound on memory and descriptors.
pub(super) fn limit() -> Given {
    lower(Resource::Core, 0)
        .and_then(|()| lower(Resource::Nofile, DESCRIPTORS))
        .and_then(|()| lower(Resource::Data, MEMORY))
        .and_then(|()| set_dumpable_behavior(DumpableBehavior::NotDumpable))
        .map_err(unless("is not bounded in memory and descriptors"))
}

/// Never higher than it was.
fn lower(resource: Resource, most: u64) -> rustix::io::Result<()> {
    let most = getrlimit(resource).maximum.map_or(most, |before| before.min(most));
    let limit = Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    setrlimit(resource, limit)
}
