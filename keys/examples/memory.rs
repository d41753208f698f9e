//! What a client that never knocked costs: makes 100,000 client files, loads them, and prints time and memory.
//!
//! `cargo run --release -p spa-keys --example memory [CLIENTS]`

use std::error::Error;
use std::fs;
use std::time::Instant;

use spa_keys::{KeyDirectory, text};

fn main() -> Result<(), Box<dyn Error>> {
    let clients: u64 = std::env::args().nth(1).map_or(Ok(100_000), |number| number.parse())?;
    let dir = std::env::temp_dir().join(format!("spa-memory-{}", std::process::id()));
    let (clients_dir, invites_dir) = (dir.join("clients.d"), dir.join("invites.d"));
    fs::create_dir_all(&clients_dir)?;
    (0..clients).try_for_each(|number| write_client(&clients_dir, number))?;
    let before = rss_anon()?;
    let start = Instant::now();
    let directory = KeyDirectory::load(&clients_dir, &invites_dir)?;
    let took = start.elapsed();
    let each = (rss_anon()?.saturating_sub(before)) * 1024 / clients.max(1);
    let loaded = directory.clients().count();
    println!("{loaded} clients loaded in {took:.2?}, {each} bytes of RssAnon each");
    fs::remove_dir_all(&dir)?;
    Ok(())
}

fn write_client(dir: &std::path::Path, number: u64) -> std::io::Result<()> {
    let mut key = [7; 32];
    key[..8].copy_from_slice(&number.to_be_bytes());
    let key = text::encode(&key);
    let services = if number.is_multiple_of(3) {
        "\"ssh\""
    } else {
        "\"ssh\", \"db\""
    };
    let text = format!(
        "public-key = \"{key}\"\npsk = \"{key}\"\nservices = [{services}]\nlabel = \"phone {number}\"\n\
         enrolled = \"2026-11-22T12:00:00Z\"\n"
    );
    let path = dir.join(format!("client-{number:06}.toml"));
    fs::write(&path, text)?;
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
}

/// Anonymous memory of this process in KiB.
fn rss_anon() -> Result<u64, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let number = line
        .and_then(|line| line.split_whitespace().next())
        .ok_or("no RssAnon here")?;
    Ok(number.parse()?)
}
