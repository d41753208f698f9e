//! What went wrong in a backend.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What went wrong in a backend, for the log, status and the command line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendError {
    /// The backend's name.
    pub backend: String,
    /// What was attempted and what the kernel or the tool said, in one line free of control characters.
    pub what: String,
    /// What to try, where that is known.
    pub hint: Option<String>,
}

impl BackendError {
    /// One without a hint.
    #[must_use]
    pub fn new(backend: &str, what: impl Into<String>) -> Self {
        Self {
            backend: backend.to_owned(),
            what: what.into(),
            hint: None,
        }
    }

    /// The same, with what to try.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// One error out of all that went wrong, each thing said once, or `done` if nothing did.
    ///
    /// # Errors
    ///
    /// When there is a fault.
    pub fn unless<T>(backend: &str, faults: Vec<Self>, done: T) -> Result<T, Self> {
        let hint = faults.iter().find_map(|fault| fault.hint.clone());
        let mut what: Vec<String> = Vec::new();
        for fault in faults {
            if !what.contains(&fault.what) {
                what.push(fault.what);
            }
        }
        if what.is_empty() {
            Ok(done)
        } else {
            let fault = Self::new(backend, what.join("; "));
            Err(Self { hint, ..fault })
        }
    }
}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.backend, self.what)
    }
}

impl std::error::Error for BackendError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_faults_are_one_with_the_first_hint() {
        let fault = |what: &str| BackendError::new("iptables", what);
        let faults = vec![fault("one"), fault("two").with_hint("try this"), fault("one")];
        let error = BackendError::unless("iptables", faults, ()).unwrap_err();
        assert_eq!(
            (error.to_string().as_str(), error.hint.as_deref()),
            ("iptables: one; two", Some("try this"))
        );
        assert_eq!(BackendError::unless("iptables", vec![], 7), Ok(7));
    }
}
