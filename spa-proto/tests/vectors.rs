//! The published vectors: every accepted case both ways, every refused case at its step, every invite.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../examples/check-vectors/checker.rs"]
mod checker;

#[test]
fn all_of_spa1() {
    let mut tally = checker::Tally::default();
    tally.check_file("spa1.json", include_str!("../../vectors/spa1.json"));
    assert_eq!(tally.failures, Vec::<String>::new());
    assert_eq!(tally.passed, 16 + 88 + 3 + 32);
}

#[test]
fn a_changed_vector_fails() {
    let text = include_str!("../../vectors/spa1.json");
    let mut tally = checker::Tally::default();
    tally.check_file("changed", &text.replace("\"step\": 5", "\"step\": 6"));
    assert!(tally.failures.len() > 30, "{}", tally.failures.len());
}
