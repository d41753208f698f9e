//! Plays a packet process that somebody has taken over: what can it still get?
//!
//! `taken-over rights DIR` gives up rights as the packet process does and then tries to get out; `taken-over messages DIR`
//! starts the firewall process and asks it for what it must not do. Both print one JSON object, from the name of what was
//! tried to what came of it; the system tests hold them against what must come.

#![allow(unsafe_code, reason = "what is tried are system calls that no safe wrapper makes")]

use std::ffi::{CString, OsString};
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Map, Value};
use spa_keys::Paths;
use spa_server::backend::Door;
use spa_server::config::{Config, Source};
use spa_server::firewall::message::{Answer, Manner, Reply, Request, Timed, TimedBan, VERSION, Which};
use spa_server::firewall::{process, wire};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let (what, dir) = match &arguments[..] {
        [_, what, dir] => (what.as_str(), PathBuf::from(dir)),
        _ => panic!("taken-over rights|messages DIR"),
    };
    let found = match what {
        "rights" => rights(&dir),
        "messages" => messages(&dir),
        other => panic!("{other}?"),
    };
    println!("{}", Value::Object(found));
}

/// What came of a try: `allowed`, or what the system said.
fn told<T>(outcome: io::Result<T>) -> Value {
    match outcome {
        Ok(_) => "allowed".into(),
        Err(error) => error.to_string().into(),
    }
}

fn call(result: libc::c_long) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn rights(dir: &Path) -> Map<String, Value> {
    let paths = Paths::new(Some(dir), None);
    // Open before: what was listened on goes on, but nothing new.
    let own = paths.state.join("record.redb");
    let source = Source::read(&paths.config).expect("server.toml can be read");
    let (mut config, _) = Config::from_source(&paths.config, &source).expect("a good server.toml");
    config.sandbox_required = true;
    spa_server::privilege::give_up(&paths, &config).expect("everything can be given up here");
    let mut found = Map::new();
    let mut tried = |name: &str, outcome: Value| {
        found.insert(name.to_owned(), outcome);
    };
    tried("read its own record", told(File::open(&own)));
    tried("write in its own state", told(File::create(paths.state.join("mine"))));
    tried("write a client", told(File::create(paths.clients.join("mine.toml"))));
    tried("run a program", told(Command::new("/bin/true").spawn()));
    tried("exec", exec());
    tried("fork", fork());
    tried("read /etc/shadow", told(File::open("/etc/shadow")));
    tried("read /etc/passwd", told(File::open("/etc/passwd")));
    tried("read root's home", told(std::fs::read_dir("/root")));
    tried(
        "write server.toml",
        told(OpenOptions::new().append(true).open(&paths.config)),
    );
    tried("replace server.toml", told(std::fs::rename(&own, &paths.config)));
    tried("make a file beside server.toml", told(File::create(dir.join("mine"))));
    tried("make a file in run", told(File::create(paths.run.join("mine"))));
    tried("make a file in /tmp", told(File::create("/tmp/taken-over")));
    tried(
        "read what the firewall process remembers",
        told(std::fs::read_dir(&paths.firewall).and_then(|mut all| {
            all.next()
                .map_or(Ok(()), |entry| File::create(entry?.path().join("mine")).map(drop))
        })),
    );
    tried("connect by TCP", told(TcpStream::connect("127.0.0.1:9")));
    tried("listen by TCP", told(TcpListener::bind("127.0.0.1:0")));
    tried("send by UDP", told(UdpSocket::bind("127.0.0.1:0")));
    tried("connect to a socket", told(UnixStream::connect(paths.control_socket())));
    tried("make a socket", told(UnixDatagram::unbound()));
    tried("trace its parent", told(trace()));
    tried("signal its parent", told(signal()));
    tried("ask nftables", told(netlink(libc::NETLINK_NETFILTER)));
    tried("ask for addresses", told(netlink(libc::NETLINK_ROUTE)));
    tried("ask iptables", told(raw_socket()));
    tried("capture", told(capture()));
    tried("become root", told(become_root()));
    tried("mount", told(mount()));
    tried("load a module", told(module()));
    tried("press keys on the terminal", told(press_keys()));
    tried("make a file that runs as its owner", told(set_user_id(&paths.state)));
    tried("run what it has written", told(run_memory()));
    tried("leave its namespaces", told(unshare()));
    found
}

fn exec() -> Value {
    let path = CString::new("/bin/true").expect("no zero in it");
    let arguments = [path.as_ptr(), std::ptr::null()];
    // SAFETY: both lists end with a null pointer and live until the call returns, which it only does when it fails.
    let result = unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), arguments[1..].as_ptr()) };
    told(call(result.into()))
}

fn fork() -> Value {
    // SAFETY: a child ends at once, without touching anything.
    let result = unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::_exit(0);
        }
        child
    };
    told(call(result.into()))
}

fn trace() -> io::Result<()> {
    // SAFETY: no memory is handed over.
    call(unsafe { libc::ptrace(libc::PTRACE_ATTACH, libc::getppid(), 0, 0) })
}

fn signal() -> io::Result<()> {
    // SAFETY: no memory is handed over; signal 0 is none.
    call(unsafe { libc::kill(libc::getppid(), 0) }.into())
}

fn socket(domain: i32, kind: i32, protocol: i32) -> io::Result<()> {
    // SAFETY: no memory is handed over; the descriptor stays open until the end.
    call(unsafe { libc::socket(domain, kind, protocol) }.into())
}

fn netlink(protocol: i32) -> io::Result<()> {
    socket(libc::AF_NETLINK, libc::SOCK_RAW, protocol)
}

fn raw_socket() -> io::Result<()> {
    socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_RAW)
}

fn capture() -> io::Result<()> {
    socket(libc::AF_PACKET, libc::SOCK_DGRAM, 0)
}

fn become_root() -> io::Result<()> {
    // SAFETY: no memory is handed over.
    call(unsafe { libc::setresuid(0, 0, 0) }.into())
}

fn mount() -> io::Result<()> {
    let (what, place) = (CString::new("tmpfs")?, CString::new("/mnt")?);
    // SAFETY: the texts live until the call returns.
    call(unsafe { libc::mount(what.as_ptr(), place.as_ptr(), what.as_ptr(), 0, std::ptr::null()) }.into())
}

fn module() -> io::Result<()> {
    // SAFETY: the kernel reads nothing before it has looked at the rights.
    call(unsafe { libc::syscall(libc::SYS_init_module, std::ptr::null::<u8>(), 0, std::ptr::null::<u8>()) })
}

fn press_keys() -> io::Result<()> {
    // SAFETY: the octet lives until the call returns.
    call(unsafe { libc::ioctl(0, libc::TIOCSTI, &raw const *b"x") }.into())
}

fn set_user_id(folder: &Path) -> io::Result<()> {
    let file = File::create(folder.join("runs"))?;
    file.set_permissions(Permissions::from_mode(0o4755))
}

fn run_memory() -> io::Result<()> {
    let protection = libc::PROT_WRITE | libc::PROT_EXEC;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping at a place of the kernel's choice.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0) };
    if at == libc::MAP_FAILED {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn unshare() -> io::Result<()> {
    // SAFETY: no memory is handed over.
    call(unsafe { libc::unshare(libc::CLONE_NEWUSER) }.into())
}

/// The firewall process with somebody else at its socket.
fn messages(dir: &Path) -> Map<String, Value> {
    let program = std::env::var_os("SPA_SERVER").expect("SPA_SERVER names the program");
    let (socket, theirs) = UnixStream::pair().expect("a pair of sockets");
    socket
        .set_read_timeout(Some(Duration::from_mins(1)))
        .expect("a time-out");
    let places: [OsString; 2] = ["--dir".into(), dir.into()];
    let mut child = Command::new(program)
        .arg(process::COMMAND)
        .args(places)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::piped())
        .spawn()
        .expect("the firewall process starts");
    let mut found = Map::new();
    let now = spa_server::clock::uptime();
    for (name, request) in attacks(now) {
        let outcome = ask(&socket, &request);
        found.insert(name.to_owned(), outcome);
    }
    // Last: what is no message at all ends it.
    (&socket).write_all(&[0xff; 64]).expect("it still listens");
    let ended = child.wait().expect("it ends");
    found.insert("what is no message".into(), format!("ended with {ended}").into());
    found
}

fn attacks(now: Duration) -> Vec<(&'static str, Request)> {
    let open = |service: &str, opened: &str, seconds: u64, client: Option<&str>| {
        Request::Open(Timed {
            door: Door {
                service: service.into(),
                opened: opened.parse().expect("a network"),
            },
            client: client.map(str::to_owned),
            until: now + Duration::from_secs(seconds),
        })
    };
    let ban = |network: &str| {
        Request::Ban(TimedBan {
            network: network.parse().expect("a network"),
            until: now + Duration::from_mins(1),
        })
    };
    let hour = 3600;
    vec![
        (
            "open before anything is in force",
            open("ssh", "198.51.100.7/32", 30, None),
        ),
        ("another version", Request::Begin(VERSION + 1)),
        ("stage before anything was read", Request::Stage),
        ("begin", Request::Begin(VERSION)),
        ("stage", Request::Stage),
        ("commit", Request::Commit),
        ("commit what was not staged", Request::Commit),
        (
            "open a service within its cap",
            open("ssh", "198.51.100.7/32", 30, Some("anna")),
        ),
        (
            "open an unknown service",
            open("unheard-of", "198.51.100.7/32", 30, None),
        ),
        ("open to everybody", open("ssh", "0.0.0.0/0", 30, None)),
        ("open to everybody in IPv6", open("ssh", "::/0", 30, None)),
        ("open to half of everybody", open("ssh", "128.0.0.0/1", 30, None)),
        ("open beyond the cap", open("ssh", "198.51.100.8/32", 1000 * hour, None)),
        (
            "open with a name that is an option",
            open("ssh", "198.51.100.9/32", 30, Some("--help")),
        ),
        ("ban without a guard", ban("198.51.100.9/32")),
        ("ban always-allow", ban("192.0.2.9/32")),
        ("listen on a port that is no decoy", Request::Decoy(80)),
        ("undo what does not wait", Request::BeginUndo(Duration::ZERO)),
        ("finish what was not begun", Request::FinishUndo),
        ("read the configuration", Request::Read(Which::File)),
        (
            "confirm what nobody armed",
            Request::Remember(Manner::Trial("nonce".into())),
        ),
        ("ask for the state of the backends", Request::States),
    ]
}

fn ask(socket: &UnixStream, request: &Request) -> Value {
    wire::send(socket, request).expect("it listens");
    match wire::receive::<Answer>(socket).expect("it answers") {
        Some(Ok(reply)) => reply_name(&reply).into(),
        Some(Err(refused)) => format!("refused: {refused}").into(),
        None => "it ended".into(),
    }
}

/// Without what is in it.
fn reply_name(reply: &Reply) -> String {
    let told = format!("{reply:?}");
    told.split(['(', '{', ' ']).next().unwrap_or_default().to_owned()
}
