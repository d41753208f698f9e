//! One-time codes (step 8). Pure: the secret, the clocks and a code in, a verdict out.

use std::fmt;
use std::time::Duration;

use spa_keys::OneTimeCode;
use spa_keys::state::CodeRow;
use spa_proto::{Code, Moment};

mod totp;

/// How long the same code counts as the same attempt: a client's repeats, and its other address family.
const SAME: Duration = Duration::from_mins(1);
/// How many different wrong codes in a row make a pause.
const MOST_WRONG: usize = 5;
/// The first pause; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_mins(10);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);

/// What is kept of one client's codes.
///
/// A wrong *yes* opens a door to who has the device but not its owner's second factor; a wrong *no* costs the owner the
/// wait for the next code, or for the end of a pause.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CodeGuard {
    /// The greatest step whose code was accepted.
    step: Option<u64>,
    /// That code, and when it was first used. A restart forgets it: whoever repeats then needs the next code.
    used: Option<Attempt>,
    wrong: Vec<Attempt>,
    /// Pauses since the last right code.
    pauses: u32,
    paused_until: Duration,
}

/// A code and when it came, on the clock that starts with the boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Attempt {
    code: Code,
    at: Duration,
}

impl Attempt {
    fn is_again(&self, code: Code, uptime: Duration) -> bool {
        self.code == code && uptime.saturating_sub(self.at) < SAME
    }
}

/// Why a request that needs a one-time code is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeError {
    /// None was sent.
    Missing,
    /// Not the code of these minutes.
    Wrong {
        /// How many different ones there were in a row.
        count: usize,
    },
    /// Right, but of a step whose code, or a later one's, was accepted before.
    Used,
    /// Too many were wrong: none is looked at.
    Paused {
        /// For how long.
        left: Duration,
    },
}

impl fmt::Display for CodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("the one-time code is missing"),
            Self::Wrong { count } => write!(f, "the one-time code is wrong, {count} of {MOST_WRONG} in a row"),
            Self::Used => f.write_str("the one-time code, or a later one, was used before"),
            Self::Paused { left } => write!(
                f,
                "no one-time code is looked at for another {} min: {MOST_WRONG} in a row were wrong",
                left.as_secs().div_ceil(60)
            ),
        }
    }
}

impl CodeGuard {
    /// What was remembered before a restart.
    #[must_use]
    pub fn restore(row: &CodeRow, now: Moment) -> Self {
        let left = if row.until > now.wall {
            // A clock that was set back must not make a pause longer than it ever was.
            row.until.distance(now.wall).min(pause(row.pauses))
        } else {
            Duration::ZERO
        };
        let attempt = |code| {
            let code = Code::new(code).ok()?;
            Some(Attempt { code, at: now.uptime })
        };
        Self {
            step: row.step,
            used: None,
            wrong: row.wrong.iter().copied().filter_map(attempt).collect(),
            pauses: row.pauses,
            paused_until: now.uptime + left,
        }
    }

    /// What is to be remembered over a restart.
    #[must_use]
    pub fn row(&self, now: Moment) -> CodeRow {
        let left = self.paused_until.saturating_sub(now.uptime);
        CodeRow {
            step: self.step,
            wrong: self.wrong.iter().map(|attempt| attempt.code.number()).collect(),
            pauses: self.pauses,
            until: now.wall.saturating_add(left),
        }
    }

    /// Judges the code of one request. What changes must be durable before anything opens.
    ///
    /// # Errors
    ///
    /// [`CodeError`]: nothing may open.
    pub fn judge(&mut self, now: Moment, secret: &OneTimeCode, code: Option<Code>) -> Result<(), CodeError> {
        let left = self.paused_until.saturating_sub(now.uptime);
        if !left.is_zero() {
            return Err(CodeError::Paused { left });
        }
        let code = code.ok_or(CodeError::Missing)?;
        if self.used.is_some_and(|used| used.is_again(code, now.uptime)) {
            return Ok(());
        }
        match totp::step_of(secret, code, now.wall) {
            Some(step) if self.step.is_none_or(|last| step > last) => {
                let used = Some(Attempt { code, at: now.uptime });
                *self = Self {
                    step: Some(step),
                    used,
                    ..Self::default()
                };
                Ok(())
            }
            // No guess: who sends it has seen it, and it is worth nothing.
            Some(_) => Err(CodeError::Used),
            None => Err(self.count(now.uptime, code)),
        }
    }

    /// Counts a wrong code; the same one again within a minute is counted once.
    fn count(&mut self, uptime: Duration, code: Code) -> CodeError {
        if !self.wrong.iter().any(|wrong| wrong.is_again(code, uptime)) {
            self.wrong.push(Attempt { code, at: uptime });
        }
        let count = self.wrong.len();
        if count >= MOST_WRONG {
            self.wrong.clear();
            self.pauses = self.pauses.saturating_add(1);
            self.paused_until = uptime + pause(self.pauses);
        }
        CodeError::Wrong { count }
    }
}

/// How long the pause of this number is.
fn pause(number: u32) -> Duration {
    let doubled = 1_u32.checked_shl(number.saturating_sub(1)).unwrap_or(u32::MAX);
    FIRST_PAUSE.saturating_mul(doubled.max(1)).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests;
