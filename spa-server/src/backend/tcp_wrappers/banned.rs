//! Who is shut out: one block in hosts.deny that names a pattern file for every daemon.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::plan::Record;
use super::{TcpWrappers, block, edit, pattern, place, refused, take_out, write};
use crate::backend::{BackendError, Repairs, ShutOut};

impl TcpWrappers {
    /// Puts the pattern file and the block in place, or where nobody is to be shut out, takes them away.
    pub(super) fn settle_banned(&self, repairs: &mut Repairs) -> Result<(), BackendError> {
        if !self.plan.bans {
            return self.remove_banned();
        }
        // The record first: what is put in place must be found again.
        Record::note(&self.plan)?;
        if self.banned()?.is_none() {
            write(&self.plan.banned_file(), &BTreeSet::new())?;
        }
        let lines = self.plan.deny_lines();
        if edit(&self.plan.hosts_deny, |text| block::with_block(text, &lines))? {
            let what = format!("the block in {}", self.plan.hosts_deny.display());
            repairs.restored.push(what);
        }
        Ok(())
    }

    /// What an earlier configuration shut out.
    fn remove_banned(&self) -> Result<(), BackendError> {
        let mut record = Record::load(&self.plan.record)?;
        if record.hosts_deny.is_empty() {
            return Ok(());
        }
        for file in &record.hosts_deny {
            take_out(file, &record)?;
        }
        let file = self.plan.banned_file();
        place::remove(&file).map_err(|error| refused(&file, &error))?;
        for gone in std::mem::take(&mut record.hosts_deny) {
            record.created.remove(&gone);
        }
        record.save(&self.plan.record)
    }

    /// Whether the block stands where it should.
    pub(super) fn is_banned_settled(&self) -> Result<bool, BackendError> {
        if !self.plan.bans {
            return Ok(true);
        }
        let file = &self.plan.hosts_deny;
        let found = place::read(file).map_err(|error| refused(file, &error))?;
        let lines = self.plan.deny_lines();
        Ok(found.is_some_and(|found| block::with_block(&found.text, &lines) == found.text))
    }

    pub(super) fn change_banned(&self, change: impl FnOnce(&mut BTreeSet<IpNet>)) -> Result<(), BackendError> {
        if !self.plan.bans {
            return Ok(());
        }
        let before = self.banned()?;
        let mut nets = before.clone().unwrap_or_default();
        change(&mut nets);
        if before.as_ref() == Some(&nets) {
            return Ok(());
        }
        write(&self.plan.banned_file(), &nets)
    }

    /// The file has no place for ends.
    pub(super) fn list_banned(&self) -> Result<Option<Vec<ShutOut>>, BackendError> {
        if !self.plan.bans {
            return Ok(None);
        }
        let shut_out = |network| ShutOut {
            network,
            remaining: None,
        };
        Ok(Some(self.banned()?.into_iter().flatten().map(shut_out).collect()))
    }

    /// Who is in the pattern file; none when there is none.
    fn banned(&self) -> Result<Option<BTreeSet<IpNet>>, BackendError> {
        let file = self.plan.banned_file();
        let found = place::read(&file).map_err(|error| refused(&file, &error))?;
        Ok(found.map(|found| pattern::parse(&found.text)))
    }
}
