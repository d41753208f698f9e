//! What findings are called: one name for each kind, stable for scripts.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($code:ident = $name:literal,)*) => {
        /// A kind of finding. What each says stands word for word in `cli/check/findings.txt`, held by a test.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Code {
            $(#[doc = concat!("`", $name, "`")] #[serde(rename = $name)] $code,)*
        }

        impl Code {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$code,)*];

            /// Its name, such as `bad-port`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$code => $name,)*
                }
            }
        }
    };
}

codes! {
    AnyBesideNames = "any-beside-names",
    Backend = "backend",
    BadAddress = "bad-address",
    BadArgument = "bad-argument",
    BadAtEnd = "bad-at-end",
    BadChain = "bad-chain",
    BadDaemon = "bad-daemon",
    BadDecoy = "bad-decoy",
    BadDuration = "bad-duration",
    BadHost = "bad-host",
    BadInterface = "bad-interface",
    BadKnock = "bad-knock",
    BadListenPort = "bad-listen-port",
    BadLogFormat = "bad-log-format",
    BadLogLevel = "bad-log-level",
    BadMetrics = "bad-metrics",
    BadMode = "bad-mode",
    BadName = "bad-name",
    BadNamedChain = "bad-named-chain",
    BadOneTime = "bad-one-time",
    BadPort = "bad-port",
    BadRolling = "bad-rolling",
    BadSize = "bad-size",
    BadSource = "bad-source",
    BadTable = "bad-table",
    BadTcpFlags = "bad-tcp-flags",
    BadTo = "bad-to",
    BadUser = "bad-user",
    BadWithin = "bad-within",
    BanCosts = "ban-costs",
    BrokenFile = "broken-file",
    Clients = "clients",
    CommandAsRoot = "command-as-root",
    CommonFlags = "common-flags",
    DaemonNotFound = "daemon-not-found",
    DecoyInUse = "decoy-in-use",
    DuplicateAddress = "duplicate-address",
    DuplicateBackend = "duplicate-backend",
    DuplicateDaemon = "duplicate-daemon",
    DuplicateInterface = "duplicate-interface",
    DuplicateListenPort = "duplicate-listen-port",
    DuplicateName = "duplicate-name",
    DurationOverMax = "duration-over-max",
    EarlierLine = "earlier-line",
    Everybody = "everybody",
    FirewallUnread = "firewall-unread",
    GatewayKey = "gateway-key",
    HalfNamed = "half-named",
    HostBits = "host-bits",
    IdleAlwaysAllow = "idle-always-allow",
    IdleKey = "idle-key",
    JumpNotFirst = "jump-not-first",
    KnockPort = "knock-port",
    LaterDrop = "later-drop",
    LetsEverybodyIn = "lets-everybody-in",
    LetsSomeIn = "lets-some-in",
    ListenerNotJudged = "listener-not-judged",
    LongDuration = "long-duration",
    LongMaxDuration = "long-max-duration",
    LongName = "long-name",
    LooseProgram = "loose-program",
    MappedAddress = "mapped-address",
    MetricsNotLocal = "metrics-not-local",
    MetricsNowhere = "metrics-nowhere",
    MetricsTwice = "metrics-twice",
    NoBackend = "no-backend",
    NoBanBackend = "no-ban-backend",
    NoClose = "no-close",
    NoDaemon = "no-daemon",
    NoFile = "no-file",
    NoHost = "no-host",
    NoInterface = "no-interface",
    NoIpset = "no-ipset",
    NoJournal = "no-journal",
    NoKnocks = "no-knocks",
    NoListenPort = "no-listen-port",
    NoName = "no-name",
    NoNamedChain = "no-named-chain",
    NoOpen = "no-open",
    NoPermission = "no-permission",
    NoPorts = "no-ports",
    NoProgram = "no-program",
    NoService = "no-service",
    NoServiceNamed = "no-service-named",
    NoWayBack = "no-way-back",
    NobodyListens = "nobody-listens",
    NobodyPublishes = "nobody-publishes",
    NobodysService = "nobodys-service",
    NotAsked = "not-asked",
    NotLinked = "not-linked",
    NotLooked = "not-looked",
    NotRefused = "not-refused",
    NotRolling = "not-rolling",
    NotThisChain = "not-this-chain",
    NotUtf8 = "not-utf8",
    OthersMayWrite = "others-may-write",
    OutOfRange = "out-of-range",
    OverlappingPorts = "overlapping-ports",
    ProgramPlaceholder = "program-placeholder",
    ProtectsNothing = "protects-nothing",
    PublishedPort = "published-port",
    ReachableBefore = "reachable-before",
    RelativePath = "relative-path",
    RelativeProgram = "relative-program",
    RepeatedPort = "repeated-port",
    Replayable = "replayable",
    ReportAfterBan = "report-after-ban",
    ReservedName = "reserved-name",
    SequenceBeginning = "sequence-beginning",
    SequenceLength = "sequence-length",
    SequencePort = "sequence-port",
    SequenceUnusable = "sequence-unusable",
    SharedPort = "shared-port",
    ShortDuration = "short-duration",
    SweptSequence = "swept-sequence",
    Syntax = "syntax",
    Tcpdchk = "tcpdchk",
    TooManyDecoys = "too-many-decoys",
    TooManyListenPorts = "too-many-listen-ports",
    Unconfirmed = "unconfirmed",
    UnconfirmedUnknown = "unconfirmed-unknown",
    Undone = "undone",
    UnknownBackend = "unknown-backend",
    UnknownKey = "unknown-key",
    UnknownPlaceholder = "unknown-placeholder",
    UnknownService = "unknown-service",
    UnknownUser = "unknown-user",
    Unreadable = "unreadable",
    WayBackWaived = "way-back-waived",
    WellKnownSequence = "well-known-sequence",
    WideAlwaysAllow = "wide-always-allow",
    WrappersSyntax = "wrappers-syntax",
    WrappersUnreadable = "wrappers-unreadable",
    WrongType = "wrong-type",
    ZeroDuration = "zero-duration",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
