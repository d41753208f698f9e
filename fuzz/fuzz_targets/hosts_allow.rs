//! The marked block of hosts.allow, and the reading of the rules around it.
//!
//! The two files are taken in as they stand in `spa-server`, whose other parts no fuzzer needs. Held: putting a block in
//! twice is putting it in once; taking it out gives back every octet that is not of it; the lines of everybody else
//! stay, in their order; a rule's or a fault's place lies in the text.

#![no_main]

use std::path::PathBuf;

use libfuzzer_sys::fuzz_target;
use spa_fuzz::halves::split;

#[allow(dead_code, reason = "the backend uses the rest")]
#[path = "../../spa-server/src/backend/tcp_wrappers/block.rs"]
mod block;
#[allow(dead_code, reason = "the backend uses the rest")]
#[path = "../../spa-server/src/backend/tcp_wrappers/rules.rs"]
mod rules;

/// As the backend has it.
pub struct Line {
    daemon: String,
    file: PathBuf,
}

fuzz_target!(|data: &[u8]| {
    let Some((first, text)) = split(data) else { return };
    let daemons: &[&str] = if first & 1 == 0 {
        &["sshd"]
    } else {
        &["in.telnetd", "sshd"]
    };
    let lines: Vec<Line> = daemons.iter().map(line).collect();
    let with = block::with_block(text, &lines);
    assert_eq!(block::with_block(&with, &lines), with);
    let without = block::without_block(text);
    assert_eq!(block::without_block(&with), without);
    assert_eq!(block::without_block(&without), without);
    if !text
        .split(|octet| *octet == b'\n')
        .any(|line| line.starts_with(b"# BEGIN spa-server") || line.starts_with(b"# END spa-server"))
    {
        assert_eq!(without, text);
        assert!(with.ends_with(text));
    }
    if let Ok(text) = str::from_utf8(text) {
        read(text);
    }
});

fn line(daemon: &&str) -> Line {
    Line {
        daemon: (*daemon).into(),
        file: format!("/run/spa/wrappers/{daemon}").into(),
    }
}

fn read(text: &str) {
    for table in [rules::Table::Allow, rules::Table::Deny] {
        let (rules, faults) = rules::read(text, table, "sshd", "/run/spa/wrappers/sshd");
        let spans = rules.iter().map(|rule| &rule.span);
        for span in spans.chain(faults.iter().map(|fault| &fault.span)) {
            assert!(text.get(span.clone()).is_some_and(|line| !line.is_empty()));
        }
    }
}
