use std::collections::{BTreeMap, BTreeSet};
use std::hash::RandomState;
use std::net::SocketAddr;
use std::string::ToString;
use std::vec;

use proptest::prelude::*;

use super::super::Transport;
use super::*;
use crate::frame::{Content, TcpFlags};

const SECOND: Duration = Duration::from_secs(1);

fn stages(text: &str) -> Vec<Stage> {
    text.split_whitespace().map(|stage| stage.parse().unwrap()).collect()
}

fn pattern(place: usize, text: &str) -> Pattern {
    Pattern {
        id: SequenceId { place, turn: 0 },
        stages: stages(text),
        within: SECOND * 10,
    }
}

fn tracker(texts: &[&str]) -> Tracker<RandomState> {
    let patterns: Vec<_> = texts
        .iter()
        .enumerate()
        .map(|(place, text)| pattern(place, text))
        .collect();
    let mut tracker = Tracker::new(RandomState::new());
    tracker.watch(&patterns);
    tracker
}

/// One host that sends probes, each from another port and with another number.
struct Sender {
    source: IpAddr,
    sent: u16,
}

impl Sender {
    fn new(source: &str) -> Self {
        let source = source.parse().unwrap();
        Self { source, sent: 0 }
    }

    fn probe(&mut self, stage: Stage) -> Probe<'static> {
        self.sent = self.sent.wrapping_add(1);
        self.same(stage)
    }

    /// The last packet again, if the stage is the same.
    fn same(&self, stage: Stage) -> Probe<'static> {
        let own = match self.source {
            IpAddr::V4(_) => "198.51.100.1",
            IpAddr::V6(_) => "2001:db8::1",
        };
        let content = match stage.transport {
            Transport::Tcp(flags) => Content::Tcp {
                flags,
                number: self.sent.into(),
            },
            Transport::Udp => Content::Udp { payload: &[] },
        };
        Probe {
            source: SocketAddr::new(self.source, 1024 + self.sent % 60_000),
            destination: SocketAddr::new(own.parse().unwrap(), stage.port.get()),
            content,
        }
    }

    fn send(&mut self, tracker: &mut Tracker<RandomState>, now: Duration, stage: &str) -> Outcome {
        let probe = self.probe(stage.parse().unwrap());
        tracker.probe(now, &probe)
    }

    /// Sends all at once; what the last one came to.
    fn send_all(&mut self, tracker: &mut Tracker<RandomState>, now: Duration, text: &str) -> Outcome {
        let outcomes = text.split_whitespace().map(|stage| self.send(tracker, now, stage));
        outcomes.last().unwrap()
    }
}

fn complete(places: &[usize]) -> Outcome {
    Outcome::Complete(
        places
            .iter()
            .map(|place| SequenceId { place: *place, turn: 0 })
            .collect(),
    )
}

#[test]
fn opens_in_order_by_both_protocols_in_both_families() {
    for text in [
        "7000/tcp 8000/tcp 9000/tcp",
        "7000/udp 8000/udp 9000/udp",
        "7000/tcp 8000/udp 9000/tcp",
    ] {
        for source in ["192.0.2.7", "2001:db8::7"] {
            let mut tracker = tracker(&[text]);
            let mut sender = Sender::new(source);
            assert_eq!(sender.send_all(&mut tracker, SECOND, text), complete(&[0]), "{text}");
            let swapped = text.replace("tcp", "x").replace("udp", "tcp").replace('x', "udp");
            assert_ne!(
                sender.send_all(&mut tracker, SECOND, &swapped),
                complete(&[0]),
                "{text}"
            );
        }
    }
}

#[test]
fn a_wrong_port_resets_and_the_right_one_may_begin_again() {
    let mut tracker = tracker(&["1/tcp 2/tcp 3/tcp"]);
    let mut sender = Sender::new("192.0.2.7");
    for wrong in [
        "1/tcp 2/tcp 4/tcp 3/tcp",
        "1/tcp 2/udp 2/tcp 3/tcp",
        "3/tcp 2/tcp 1/tcp",
        "1/tcp 2/tcp 2/tcp 3/tcp",
    ] {
        assert_ne!(sender.send_all(&mut tracker, SECOND, wrong), complete(&[0]), "{wrong}");
        let _ = sender.send(&mut tracker, SECOND, "9/tcp");
    }
    let mut sender = Sender::new("192.0.2.8");
    assert_eq!(
        sender.send_all(&mut tracker, SECOND, "1/tcp 2/tcp 1/tcp 2/tcp 3/tcp"),
        complete(&[0])
    );
}

#[test]
fn only_the_packet_that_begins_a_connection_counts() {
    let mut tracker = tracker(&["1/tcp 2/tcp 3/tcp"]);
    let mut sender = Sender::new("192.0.2.7");
    for octet in [0x12, 0x10, 0x01, 0x29, 0x00, 0x03] {
        let flags = TcpFlags::from_octet(octet);
        for port in 1..=3 {
            let stage = Stage {
                transport: Transport::Tcp(flags),
                port: port.try_into().unwrap(),
            };
            let probe = sender.probe(stage);
            assert_eq!(tracker.probe(SECOND, &probe), Outcome::Ignored);
        }
    }
}

#[test]
fn other_flags_where_the_sequence_says_so() {
    let fin = Transport::Tcp(TcpFlags::from_names(["fin"]).unwrap());
    let mut pattern = pattern(0, "1/tcp 2/tcp 3/tcp");
    pattern.stages.iter_mut().for_each(|stage| stage.transport = fin);
    let mut tracker = Tracker::new(RandomState::new());
    tracker.watch([&pattern]);
    let mut sender = Sender::new("192.0.2.7");
    assert_eq!(
        sender.send_all(&mut tracker, SECOND, "1/tcp 2/tcp 3/tcp"),
        Outcome::Ignored
    );
    let outcomes = pattern
        .stages
        .iter()
        .map(|stage| tracker.probe(SECOND, &sender.probe(*stage)));
    assert_eq!(outcomes.last(), Some(complete(&[0])));
}

#[test]
fn exact_duplicates_do_not_reset_and_do_not_advance() {
    let mut tracker = tracker(&["1/tcp 2/udp 2/tcp"]);
    let mut sender = Sender::new("192.0.2.7");
    let first = sender.probe("1/tcp".parse().unwrap());
    assert_eq!(tracker.probe(SECOND, &first), Outcome::Advanced);
    assert_eq!(tracker.probe(SECOND, &first), Outcome::Ignored);
    let second = sender.probe("2/udp".parse().unwrap());
    assert_eq!(tracker.probe(SECOND, &second), Outcome::Advanced);
    for repeat in [&first, &second, &first] {
        assert_eq!(tracker.probe(SECOND * 2, repeat), Outcome::Ignored);
    }
    assert_eq!(sender.send(&mut tracker, SECOND * 3, "2/tcp"), complete(&[0]));
}

#[test]
fn another_number_or_payload_is_no_duplicate() {
    let mut tracker = tracker(&["1/tcp 2/tcp 3/tcp"]);
    let mut sender = Sender::new("192.0.2.7");
    let first = sender.probe("1/tcp".parse().unwrap());
    assert_eq!(tracker.probe(SECOND, &first), Outcome::Advanced);
    let mut renumbered = first;
    renumbered.content = Content::Tcp {
        flags: TcpFlags::SYN,
        number: 77,
    };
    assert!(matches!(tracker.probe(SECOND, &renumbered), Outcome::Failed(_)));
}

#[test]
fn common_beginnings_are_all_followed() {
    let mut tracker = tracker(&[
        "1/tcp 2/tcp 3/tcp",
        "1/tcp 2/tcp 4/tcp",
        "1/tcp 2/tcp 4/udp 5/udp",
        "2/tcp 1/tcp 2/tcp",
    ]);
    for (text, place) in [
        ("1/tcp 2/tcp 3/tcp", 0),
        ("1/tcp 2/tcp 4/tcp", 1),
        ("1/tcp 2/tcp 4/udp 5/udp", 2),
        ("2/tcp 1/tcp 2/tcp", 3),
    ] {
        let mut sender = Sender::new("192.0.2.7");
        sender.sent = u16::try_from(place * 100).unwrap();
        assert_eq!(
            sender.send_all(&mut tracker, SECOND, text),
            complete(&[place]),
            "{text}"
        );
    }
}

#[test]
fn a_sequence_that_begins_another_leaves_the_way_open() {
    let mut tracker = tracker(&["1/tcp 2/tcp 3/tcp", "1/tcp 2/tcp 3/tcp 4/tcp"]);
    let mut sender = Sender::new("192.0.2.7");
    assert_eq!(
        sender.send_all(&mut tracker, SECOND, "1/tcp 2/tcp 3/tcp"),
        complete(&[0])
    );
    assert_eq!(sender.send(&mut tracker, SECOND, "4/tcp"), complete(&[1]));
}

#[test]
fn time_runs_from_the_first_stage() {
    let mut tracker = tracker(&["1/tcp 2/tcp 3/tcp"]);
    let at = |tracker: &mut _, times: [u64; 3]| {
        let mut sender = Sender::new("192.0.2.7");
        let texts = ["1/tcp", "2/tcp", "3/tcp"];
        let send = |(text, secs): (&str, u64)| sender.send(tracker, SECOND * u32::try_from(secs).unwrap(), text);
        texts.into_iter().zip(times).map(send).last().unwrap()
    };
    assert_eq!(at(&mut tracker, [100, 105, 110]), complete(&[0]));
    let late = at(&mut tracker, [200, 205, 211]);
    assert!(
        matches!(
            late,
            Outcome::Failed(Failure {
                reason: FailureReason::TimeOut,
                stages: 2,
                ..
            })
        ),
        "{late:?}"
    );
}

#[test]
fn ten_hours_later_nothing_is_left_with_or_without_the_timer() {
    for with_timer in [true, false] {
        let mut tracker = tracker(&["1/tcp 2/tcp 3/tcp"]);
        let mut sender = Sender::new("192.0.2.7");
        assert_eq!(sender.send_all(&mut tracker, SECOND, "1/tcp 2/tcp"), Outcome::Advanced);
        let mut told = Vec::new();
        if with_timer {
            tracker.expire(SECOND * 11, |failure| told.push(failure));
            assert!(told.is_empty(), "its time ends with the eleventh second");
            tracker.expire(SECOND * 12, |failure| told.push(failure));
            assert_eq!(
                (told.len(), told[0].to_string().as_str()),
                (1, "stopped after stage 2 of 3: its time was over")
            );
        }
        let later = sender.send(&mut tracker, SECOND * 36_000, "3/tcp");
        assert_ne!(later, complete(&[0]));
        tracker.expire(SECOND * 40_000, |_| {});
        assert_eq!(tracker.sources(), 0);
    }
}

#[test]
fn sequences_with_one_beginning_keep_their_own_time() {
    let (mut quick, slow) = (pattern(0, "1/tcp 2/tcp 3/tcp"), pattern(1, "1/tcp 2/tcp 4/tcp"));
    quick.within = SECOND;
    let mut tracker = Tracker::new(RandomState::new());
    tracker.watch([&quick, &slow]);
    let mut sender = Sender::new("192.0.2.7");
    assert_eq!(sender.send_all(&mut tracker, SECOND, "1/tcp 2/tcp"), Outcome::Advanced);
    let late = sender.send(&mut tracker, SECOND * 3, "3/tcp");
    assert!(
        matches!(
            late,
            Outcome::Failed(Failure {
                reason: FailureReason::TimeOut,
                ..
            })
        ),
        "{late:?}"
    );
    assert_eq!(
        sender.send_all(&mut tracker, SECOND * 3, "1/tcp 2/tcp"),
        Outcome::Advanced
    );
    assert_eq!(sender.send(&mut tracker, SECOND * 6, "4/tcp"), complete(&[1]));
}

#[test]
fn who_fails_too_often_waits_longer_and_longer_but_bearably() {
    let mut tracker = tracker(&["1/tcp 2/tcp 3/tcp"]);
    let mut sender = Sender::new("192.0.2.7");
    let mut now = SECOND;
    let mut waits = vec![];
    for _ in 0..15 {
        assert_eq!(sender.send(&mut tracker, now, "1/tcp"), Outcome::Advanced);
        let Outcome::Failed(failure) = sender.send(&mut tracker, now, "9/tcp") else {
            panic!("a wrong one");
        };
        waits.push(failure.wait.as_secs());
        if !failure.wait.is_zero() {
            let right = sender.send_all(&mut tracker, now + failure.wait / 2, "1/tcp 2/tcp 3/tcp");
            assert_eq!(right, Outcome::Ignored, "it waits");
        }
        now += failure.wait;
    }
    assert_eq!(waits, [0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
    assert_eq!(
        sender.send_all(&mut tracker, now, "1/tcp 2/tcp 3/tcp"),
        complete(&[0]),
        "then it is heard again"
    );
    let _ = sender.send(&mut tracker, now, "1/tcp");
    let again = sender.send(&mut tracker, now, "9/tcp");
    assert!(
        matches!(
            again,
            Outcome::Failed(Failure {
                wait: Duration::ZERO,
                ..
            })
        ),
        "{again:?}"
    );
}

#[test]
fn failures_are_forgotten() {
    let mut tracker = tracker(&["1/tcp 2/tcp 3/tcp"]);
    let mut sender = Sender::new("192.0.2.7");
    for _ in 0..5 {
        let _ = sender.send_all(&mut tracker, SECOND, "1/tcp 9/tcp");
    }
    tracker.expire(SECOND * 300, |_| {});
    assert_eq!(tracker.sources(), 1);
    tracker.expire(SECOND * 601, |_| {});
    assert_eq!(tracker.sources(), 0);
}

#[test]
fn another_configuration_does_not_throw_out_who_is_on_the_way() {
    let mut tracker = tracker(&["1/tcp 2/tcp 3/tcp", "5/tcp 6/tcp 7/tcp"]);
    let (mut stays, mut goes) = (Sender::new("192.0.2.7"), Sender::new("192.0.2.8"));
    let _ = stays.send_all(&mut tracker, SECOND, "1/tcp 2/tcp");
    let _ = goes.send_all(&mut tracker, SECOND, "5/tcp 6/tcp");
    tracker.watch([&pattern(4, "1/tcp 2/tcp 3/tcp"), &pattern(5, "8/tcp 9/tcp 10/tcp")]);
    assert_eq!(stays.send(&mut tracker, SECOND, "3/tcp"), complete(&[4]));
    assert_eq!(goes.send(&mut tracker, SECOND, "7/tcp"), Outcome::Ignored);
    assert_eq!(
        goes.send_all(&mut tracker, SECOND, "8/tcp 9/tcp 10/tcp"),
        complete(&[5])
    );
}

/// Every order of a short range in which each port comes once opens only if the three come one right after the other.
#[test]
fn sweeps_of_a_short_range_exhaustively() {
    let mut ports: Vec<u16> = (1..=7).collect();
    let (mut orders, mut opened) = (0, 0);
    permute(&mut ports, 0, &mut |order| {
        let mut tracker = tracker(&["2/tcp 6/tcp 4/tcp"]);
        let mut sender = Sender::new("192.0.2.7");
        let probes = order
            .iter()
            .map(|port| sender.send(&mut tracker, SECOND, &std::format!("{port}/tcp")));
        let opens = probes.filter(|outcome| *outcome == complete(&[0])).count();
        let in_a_row = order.windows(3).any(|three| three == [2, 6, 4]);
        assert_eq!(opens, usize::from(in_a_row), "{order:?}");
        orders += 1;
        opened += opens;
    });
    // 5! of 7!: one in n(n-1), as the documentation says.
    assert_eq!((orders, opened), (5040, 120));
}

fn permute(ports: &mut [u16], from: usize, visit: &mut impl FnMut(&[u16])) {
    if from == ports.len() {
        return visit(ports);
    }
    for other in from..ports.len() {
        ports.swap(from, other);
        permute(ports, from + 1, visit);
        ports.swap(from, other);
    }
}

fn sweep(tracker: &mut Tracker<RandomState>, sender: &mut Sender, now: &mut Duration, order: &[u16]) -> usize {
    let mut opened = 0;
    for port in order {
        *now += Duration::from_micros(10);
        let probe = sender.probe(Stage {
            transport: Transport::Tcp(TcpFlags::SYN),
            port: (*port).try_into().unwrap(),
        });
        opened += usize::from(matches!(tracker.probe(*now, &probe), Outcome::Complete(_)));
    }
    opened
}

#[test]
fn sweeps_of_all_ports_never_open() {
    let mut tracker = tracker(&["7000/tcp 8000/tcp 9000/tcp", "50123/tcp 1234/tcp 33001/tcp"]);
    let mut sender = Sender::new("192.0.2.7");
    let mut now = SECOND;
    let mut order: Vec<u16> = (1..=65_535).collect();
    let mut seed: u64 = 88_172_645_463_325_252;
    for _ in 0..10 {
        assert_eq!(sweep(&mut tracker, &mut sender, &mut now, &order), 0, "in order");
        order.reverse();
        assert_eq!(sweep(&mut tracker, &mut sender, &mut now, &order), 0, "backwards");
        order.sort_unstable();
    }
    for _ in 0..10 {
        for place in (1..order.len()).rev() {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            order.swap(place, usize::try_from(seed % (place as u64 + 1)).unwrap());
        }
        let in_a_row = order
            .windows(3)
            .any(|three| three == [7000, 8000, 9000] || three == [50_123, 1234, 33_001]);
        assert!(!in_a_row, "the seed is fixed: this order does not have it");
        assert_eq!(sweep(&mut tracker, &mut sender, &mut now, &order), 0, "at random");
    }
}

/// The worst case: everybody knows the first port. An honest source sends its three with 200 ms between.
#[test]
fn a_million_spoofed_sources_neither_grow_memory_nor_stop_an_honest_one() {
    let mut tracker = tracker(&["7000/udp 8000/udp 9000/udp"]);
    let mut opened = 0;
    let mut honest = Sender::new("203.0.113.9");
    let mut turn = ["7000/udp", "8000/udp", "9000/udp"].into_iter().cycle();
    for number in 0..1_000_000u32 {
        let now = SECOND + Duration::from_micros(10) * number;
        let mut stranger = Sender {
            source: IpAddr::from((0x0a00_0000 + number).to_be_bytes()),
            sent: 0,
        };
        let _ = stranger.send(&mut tracker, now, "7000/udp");
        if number % 20_000 == 0 {
            let outcome = honest.send(&mut tracker, now, turn.next().unwrap());
            opened += usize::from(outcome == complete(&[0]));
        }
    }
    assert!(tracker.sources() <= Tracker::<RandomState>::MOST_SOURCES);
    // Fifty packets are sixteen sequences; one in a few hundred may lose its first stage.
    assert!(opened >= 14, "{opened}");
}

#[test]
fn a_thousand_sequences() {
    let texts: Vec<_> = (0..1000u16)
        .map(|n| std::format!("1/tcp {}/tcp {}/udp", 1000 + n / 10, 2000 + n))
        .collect();
    let texts: Vec<&str> = texts.iter().map(std::string::String::as_str).collect();
    let mut tracker = tracker(&texts);
    for (place, text) in texts.iter().enumerate() {
        let mut sender = Sender::new("2001:db8::5");
        sender.sent = u16::try_from(place * 3).unwrap();
        assert_eq!(sender.send_all(&mut tracker, SECOND, text), complete(&[place]));
    }
}

/// The same by hand: what a source has sent since its last reset, compared with every sequence.
#[derive(Default)]
struct Naive {
    since: BTreeMap<IpAddr, Vec<Stage>>,
}

impl Naive {
    fn probe(&mut self, source: IpAddr, stage: Stage, sequences: &[Vec<Stage>]) -> Vec<usize> {
        let sent = self.since.entry(source).or_default();
        sent.push(stage);
        let begins = |sent: &[Stage]| sequences.iter().any(|sequence| sequence.starts_with(sent));
        if !begins(sent) {
            *sent = vec![stage];
        }
        if !begins(sent) {
            sent.clear();
        }
        let whole = |sequence: &&Vec<Stage>| **sequence == *sent;
        let complete = sequences.iter().enumerate().filter(|(_, sequence)| whole(sequence));
        let complete = complete.map(|(place, _)| place).collect();
        if !sequences
            .iter()
            .any(|sequence| sequence.starts_with(sent) && sequence.len() > sent.len())
        {
            sent.clear();
        }
        complete
    }
}

proptest! {
    #[test]
    fn agrees_with_the_naive_model(
        sequences in prop::collection::btree_set(prop::collection::vec((1u16..5, any::<bool>()), 2..5), 1..6),
        probes in prop::collection::vec((0u8..3, 1u16..6, any::<bool>()), 0..60),
    ) {
        let stage = |(port, udp): (u16, bool)| -> Stage {
            std::format!("{port}/{}", if udp { "udp" } else { "tcp" }).parse().unwrap()
        };
        let sequences: BTreeSet<Vec<Stage>> =
            sequences.into_iter().map(|all| all.into_iter().map(stage).collect()).collect();
        let sequences: Vec<Vec<Stage>> = sequences.into_iter().collect();
        let patterns: Vec<_> = sequences.iter().enumerate().map(|(place, stages)| Pattern {
            id: SequenceId { place, turn: 0 },
            stages: stages.clone(),
            within: SECOND * 100_000,
        }).collect();
        let mut tracker = Tracker::new(RandomState::new());
        tracker.watch(&patterns);
        let mut naive = Naive::default();
        let mut now = SECOND;
        let mut senders = ["192.0.2.1", "192.0.2.2", "2001:db8::2"].map(Sender::new);
        for (who, port, udp) in probes {
            // Failures are forgotten meanwhile, no time-out comes near.
            now += SECOND * 601;
            let sender = &mut senders[usize::from(who)];
            let outcome = tracker.probe(now, &sender.probe(stage((port, udp))));
            let found = match outcome {
                Outcome::Complete(ids) => ids.into_iter().map(|id| id.place).collect(),
                _ => vec![],
            };
            let expected = naive.probe(sender.source, stage((port, udp)), &sequences);
            prop_assert_eq!(found, expected);
        }
    }
}
