//! What was typed: server.toml as it stands, before anybody asks what it means.
//!
//! Nothing is required here and words are not understood yet, so that one reading can tell all that is wrong. Places
//! are kept wherever a finding may point.

use serde::Deserialize;
use toml::Spanned;

/// A text and where it stands.
pub type Text = Spanned<String>;

/// A list of texts, and where it stands; none when the key was not written.
pub type Texts = Option<Spanned<Vec<Text>>>;

/// The texts of a list; nothing where none was written.
#[must_use]
pub fn items(list: &Texts) -> &[Text] {
    list.as_ref().map_or(&[], |list| list.get_ref())
}

/// The whole file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default, expecting = "a table")]
pub struct RawConfig {
    /// `[gateway]`
    pub gateway: RawGateway,
    /// `[sandbox]`
    pub sandbox: RawSandbox,
    /// `[listen]`
    pub listen: RawListen,
    /// `[lock-out]`
    pub lock_out: RawLockOut,
    /// `[nftables]`
    pub nftables: Option<Spanned<RawNftables>>,
    /// `[tcp-wrappers]`
    pub tcp_wrappers: RawTcpWrappers,
    /// `[[service]]`
    pub service: Vec<Spanned<RawService>>,
    /// `[[sequence]]`
    pub sequence: Vec<Spanned<RawSequence>>,
    /// `[scan-guard]`
    pub scan_guard: Option<Spanned<RawScanGuard>>,
    /// `[log]`
    pub log: RawLog,
    /// `[audit]`
    pub audit: RawAudit,
    /// `[metrics]`
    pub metrics: Option<Spanned<RawMetrics>>,
}

/// `[log]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default, expecting = "a table")]
pub struct RawLog {
    /// `text`, `json` or `journal`; text unless written.
    pub format: Option<Text>,
    /// info unless written.
    pub level: Option<Text>,
}

/// `[audit]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default, expecting = "a table")]
pub struct RawAudit {
    /// 16MiB unless written.
    pub file_size: Option<Text>,
    /// 16 unless written.
    pub files: Option<Spanned<i64>>,
}

/// `[gateway]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default, expecting = "a table")]
pub struct RawGateway {
    /// What invites say.
    pub host: Option<Text>,
}

/// `[sandbox]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default, expecting = "a table")]
pub struct RawSandbox {
    /// Whether a start without all of it is refused.
    pub required: Option<bool>,
}

/// `[listen]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default, expecting = "a table")]
pub struct RawListen {
    /// Names, or `any`, which is also the default.
    pub interfaces: Texts,
    /// UDP ports, 62201 unless written.
    pub ports: Option<Spanned<Vec<Spanned<i64>>>>,
}

/// `[lock-out]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default, expecting = "a table")]
pub struct RawLockOut {
    /// Addresses and networks; none unless written.
    pub always_allow: Texts,
    /// false unless written.
    pub allow_no_way_back: Option<Spanned<bool>>,
    /// true unless written.
    pub keep_doors: Option<bool>,
}

/// `[nftables]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default, expecting = "a table")]
pub struct RawNftables {
    /// Family and name, such as `inet filter`.
    pub table: Option<Text>,
    /// A chain of it.
    pub chain: Option<Text>,
}

/// `[tcp-wrappers]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default, expecting = "a table")]
pub struct RawTcpWrappers {
    /// /etc/hosts.allow unless written.
    pub hosts_allow: Option<Text>,
    /// /etc/hosts.deny unless written.
    pub hosts_deny: Option<Text>,
}

/// `[[service]]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default, expecting = "a table")]
pub struct RawService {
    /// Required.
    pub name: Option<Text>,
    /// Required.
    pub backends: Texts,
    /// Required by firewall backends.
    pub ports: Texts,
    /// false unless written: a line that hides ports is typed by a person.
    pub protect: Option<Spanned<bool>>,
    /// 30s unless written.
    pub duration: Option<Text>,
    /// 8h unless written.
    pub max_duration: Option<Text>,
    /// keep unless written; cut for UDP.
    pub at_end: Option<Text>,
    /// INPUT unless written.
    pub chain: Option<Text>,
    /// All own addresses unless written.
    pub to: Texts,
    /// Required by tcp-wrappers.
    pub daemon: Option<Text>,
    /// Required by command.
    pub open: Texts,
    /// Nothing unless written.
    pub close: Texts,
    /// Whom the commands run as.
    pub user: Option<Text>,
}

/// `[[sequence]]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default, expecting = "a table")]
pub struct RawSequence {
    /// Its name in the log.
    pub name: Option<Text>,
    /// `7000/tcp` and so on, in order.
    pub knocks: Texts,
    /// Sequences used up one by one.
    pub one_time: Option<Spanned<RawOneTime>>,
    /// The ports follow from a key and the time.
    pub rolling: Option<Spanned<bool>>,
    /// From first to last knock; 10s unless written.
    pub within: Option<Text>,
    /// What it opens.
    pub service: Option<Text>,
    /// For whom; everybody unless written.
    pub sources: Texts,
    /// The control bits of TCP knocks; syn unless written.
    pub tcp_flags: Texts,
    /// Rolling: the ports to choose from.
    pub range: Option<Text>,
    /// Rolling: ports of the range that are in use.
    pub except: Option<Spanned<Vec<i64>>>,
    /// Rolling: how many ports.
    pub length: Option<Spanned<i64>>,
    /// Rolling: how long each sequence is today's.
    pub step: Option<Text>,
    /// Rolling: `udp`, `tcp` or `mixed`.
    pub transport: Option<Text>,
}

/// One-time sequences: here, or in a file.
#[derive(Clone, Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "the name of a file in quotes, or a list of sequences in brackets"
)]
pub enum RawOneTime {
    /// In a file.
    File(String),
    /// Each as one text.
    List(Vec<String>),
}

/// `[scan-guard]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default, expecting = "a table")]
pub struct RawScanGuard {
    /// `report` or `ban`; report unless written.
    pub mode: Option<Text>,
    /// TCP ports; none unless written.
    pub decoys: Texts,
    /// 5 unless written.
    pub report_at: Option<Spanned<i64>>,
    /// 10 unless written.
    pub ban_at: Option<Spanned<i64>>,
    /// 2m unless written.
    pub forget: Option<Text>,
    /// 1h unless written.
    pub ban_for: Option<Text>,
    /// 10 unless written.
    pub bans_a_minute: Option<Spanned<i64>>,
    /// 1000 unless written.
    pub bans_at_once: Option<Spanned<i64>>,
}

/// `[metrics]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default, expecting = "a table")]
pub struct RawMetrics {
    /// Address and port; or the socket.
    pub listen: Option<Text>,
    /// A path.
    pub socket: Option<Text>,
}
