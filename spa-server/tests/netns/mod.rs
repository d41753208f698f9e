//! Network namespaces for tests: made here, used by threads of their own, and taken away at the end.

// Each test program uses its own part of this, and a helper that fails fails the test.
#![allow(dead_code, clippy::unwrap_used)]

pub mod scenarios;

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A namespace that lives as long as this.
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one whose name tells the test and the process.
    pub fn new(test: &str) -> Self {
        let name = format!("spa-test-{}-{test}", std::process::id());
        run("ip", &["netns", "add", &name]);
        Self { name }
    }

    /// Runs `work` in it, on a thread that ends afterwards, and waits; children of that thread are in it too.
    pub fn call<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let file = File::open(format!("/run/netns/{}", self.name)).unwrap();
        let thread = thread::spawn(move || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

static REFUSAL: OnceLock<Option<String>> = OnceLock::new();

/// Why these tests cannot be run here, if they cannot.
fn usable(tools: &[&str]) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("not root".to_owned());
    }
    let folders = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
    let is_there = |tool: &&&str| {
        folders
            .iter()
            .any(|folder| std::path::Path::new(folder).join(tool).exists())
    };
    if let Some(missing) = tools.iter().find(|tool| !is_there(tool)) {
        return Some(format!("{missing} is not installed"));
    }
    REFUSAL.get_or_init(|| try_one().err()).clone()
}

fn try_one() -> Result<(), String> {
    let name = format!("spa-test-{}-probe", std::process::id());
    let made = run_with("ip", &["netns", "add", &name]);
    let _ = run_with("ip", &["netns", "del", &name]);
    made.map(drop)
        .map_err(|error| format!("no network namespace can be made: {error}"))
}

/// Ties this thread's namespace to `peer` with a wire that has these addresses at its ends.
pub fn veth(peer: &Namespace, here: [&str; 2], there: [&'static str; 2]) {
    wire("wire0", peer, here, there);
}

/// The same with a name for the wire.
pub fn wire(name: &'static str, peer: &Namespace, here: [&str; 2], there: [&'static str; 2]) {
    run(
        "ip",
        &[
            "link", "add", name, "type", "veth", "peer", "name", name, "netns", &peer.name,
        ],
    );
    dress(name, here);
    peer.call(move || dress(name, there));
}

/// IPv6 without duplicate address detection: nobody else is on the wire.
pub fn dress(name: &str, [v4, v6]: [&str; 2]) {
    run("ip", &["address", "add", &format!("{v4}/24"), "dev", name]);
    run("ip", &["address", "add", &format!("{v6}/64"), "dev", name, "nodad"]);
    run("ip", &["link", "set", name, "up"]);
}

/// Runs a tool that must succeed; what it printed.
pub fn run(tool: &str, arguments: &[&str]) -> String {
    run_with(tool, arguments).unwrap_or_else(|error| panic!("{tool} {arguments:?}: {error}"))
}

/// Runs a tool that must succeed with `input` in its standard input.
pub fn feed(tool: &str, input: &str) {
    feed_to(tool, &[], input);
}

/// The same with arguments.
pub fn feed_to(tool: &str, arguments: &[&str], input: &str) {
    let mut child = Command::new(tool)
        .args(arguments)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{tool}");
}

/// Runs a tool that may fail; what it printed, or what it complained about.
pub fn run_with(tool: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(tool)
        .args(arguments)
        .output()
        .map_err(|error| error.to_string())?;
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stderr))
    }
}

/// Runs a command line again until it succeeds: the kernel gives a set free a little after its last rule.
pub fn run_patiently(command: &str) {
    let words: Vec<&str> = command.split(' ').collect();
    for _ in 0..100 {
        if run_with(words[0], &words[1..]).is_ok() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("{command} does not succeed");
}

/// The members of a set with the seconds that are left, 0 being for ever.
pub fn members(set: &str) -> Vec<(String, u32)> {
    let listed = run("ipset", &["list", set]);
    let parse = |line: &str| {
        let (net, seconds) = line.split_once(" timeout ").unwrap();
        (net.to_owned(), seconds.parse().unwrap())
    };
    listed
        .lines()
        .skip_while(|line| *line != "Members:")
        .skip(1)
        .map(parse)
        .collect()
}

/// Runs `test` in a namespace of its own where that can be had.
pub fn in_namespace(name: &str, test: impl FnOnce() + Send + 'static) {
    if let Some(reason) = usable(&["ip", "iptables", "ip6tables", "ipset", "nft", "conntrack"]) {
        eprintln!("skipped: {reason}");
        return;
    }
    Namespace::new(name).call(move || {
        run("ip", &["link", "set", "lo", "up"]);
        test();
    });
}

/// Runs this whole test program again, or those of its tests whose names hold one of `filters`, with the programs of
/// iptables-legacy in the place of the others, in a mount namespace of its own. `prepare` is done there before.
pub fn again_with_legacy(prepare: &str, filters: &[&str]) {
    let programs = ["/usr/sbin/xtables-legacy-multi", "/usr/sbin/xtables-nft-multi"];
    if !programs.iter().all(|program| std::path::Path::new(program).exists()) {
        eprintln!("skipped: {} are not both installed", programs.join(" and "));
        return;
    }
    if let Some(reason) = usable(&["unshare", "mount"]) {
        eprintln!("skipped: {reason}");
        return;
    }
    let program = std::env::current_exe().unwrap();
    let script = format!("mount --bind {} {} && {prepare} exec \"$@\"", programs[0], programs[1]);
    let status = Command::new("unshare")
        .args(["--mount", "sh", "-c", &script, "sh"])
        .arg(program)
        .args(["--nocapture", "--skip", "legacy"])
        .args(filters)
        .status()
        .unwrap();
    assert!(status.success(), "with iptables-legacy: {status}");
}
