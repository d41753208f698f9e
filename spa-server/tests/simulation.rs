//! Clients, network, attacker and gateway in one world that is the same in every run of one seed.
//!
//! Real are the seal, the judgement (`spa_proto::Gateway`), the policy, the table of grants, and in the second test the
//! record on a disk. Played are the clocks, the network, the kernel that holds the doors, the disk, and the daemon's
//! way from a batch of datagrams to doors (`simulation/process.rs`), which follows `daemon/knocks.rs` line by line.
//!
//! The world loses, doubles, delays and reorders datagrams, drifts and sets clocks on both sides, ends the gateway at
//! every durable write with the write lost, kept or refused, reboots it, brings back old snapshots of its disk, takes
//! its record away, rotates its identities, revokes and restores clients, and lets an attacker send again or changed
//! whatever was ever sent. After each step `simulation/truth.rs` holds the gateway against what must be:
//!
//! - nothing opens without a genuine, fresh knock of a client who may, for its own services, and for the address it names or came from;
//! - nothing opens twice from one datagram;
//! - every door closes by its end, and a client's latest request wins, in whatever order requests arrive;
//! - an honest client with a clock inside the window gets in;
//! - what is remembered of a client stays bounded.
//!
//! `SPA_SIMULATION_STEPS` and `SPA_SIMULATION_SEED` choose another length and another seed.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

#[path = "simulation/dice.rs"]
mod dice;
#[path = "simulation/disk.rs"]
mod disk;
#[path = "simulation/kernel.rs"]
mod kernel;
#[path = "simulation/people.rs"]
mod people;
#[path = "simulation/process.rs"]
mod process;
#[path = "simulation/truth.rs"]
mod truth;
#[path = "simulation/world.rs"]
mod world;

use disk::Disk;
use world::{Tally, World};

fn from_env(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |value| value.parse().unwrap())
}

fn play(disk: Disk, steps: u64) -> Tally {
    let seed = from_env("SPA_SIMULATION_SEED", 0x5eed);
    let mut world = World::new(seed, disk);
    for step in 0..from_env("SPA_SIMULATION_STEPS", steps) {
        // Shown when the step fails.
        world.at_step(step);
        world.step();
    }
    println!("seed {seed}: {:#?}", world.tally);
    std::mem::take(&mut world.tally)
}

#[test]
fn a_hundred_thousand_steps() {
    let tally = play(Disk::played(), 100_000);
    assert!(tally.opened > 1_000 && tally.closed > 500, "much happens");
    for reason in ["tag", "copy", "who", "time", "replay", "rate", "record", "policy"] {
        assert!(tally.refused.contains_key(reason), "nothing was refused for {reason}");
    }
    assert!(tally.older > 0 && tally.refused_commits > 0);
    assert!(tally.crashes > 50 && tally.snapshots_restored > 5 && tally.records_lost > 5);
}

#[test]
fn a_thousand_steps_on_a_real_disk() {
    // As `spa-server init` makes state/.
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    let folder = tempfile::Builder::new().permissions(private).tempdir().unwrap();
    let tally = play(Disk::real(folder.path()), 3_000);
    assert!(tally.opened > 30 && tally.crashes > 2);
}
