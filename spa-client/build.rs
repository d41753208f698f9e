//! Embeds the build date, so that the client notices a clock that is earlier than the client itself.

use std::time::{SystemTime, UNIX_EPOCH};

fn main() {
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rustc-env=SPA_BUILD_SECONDS={}", build_seconds());
}

/// `SOURCE_DATE_EPOCH` (reproducible builds), else now: seconds since the epoch.
fn build_seconds() -> u64 {
    let told = std::env::var("SOURCE_DATE_EPOCH")
        .ok()
        .and_then(|text| text.parse().ok());
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    told.unwrap_or_else(|| now.map_or(0, |since| since.as_secs()))
}
