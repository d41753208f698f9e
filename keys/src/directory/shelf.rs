//! Things with a name, found by it or by their place.

use std::collections::HashMap;
use std::sync::Arc;

/// A list whose places stay while it changes, and a table of names beside it.
#[derive(Debug)]
pub(super) struct Shelf<T> {
    slots: Vec<Option<T>>,
    free: Vec<u32>,
    names: HashMap<Arc<str>, u32>,
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            names: HashMap::new(),
        }
    }
}

impl<T> Shelf<T> {
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    pub(super) fn reserve(&mut self, more: usize) {
        self.slots.reserve(more.saturating_sub(self.free.len()));
        self.names.reserve(more);
    }

    pub(super) fn get(&self, at: u32) -> Option<&T> {
        self.slots.get(at as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        self.slots.get_mut(at as usize)?.as_mut()
    }

    pub(super) fn named(&self, name: &str) -> Option<&T> {
        self.get(*self.names.get(name)?)
    }

    pub(super) fn named_mut(&mut self, name: &str) -> Option<&mut T> {
        self.get_mut(*self.names.get(name)?)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.names.keys()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().flatten()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().flatten()
    }

    /// Puts a thing under a name that is not taken; returns its place.
    pub(super) fn insert(&mut self, name: Arc<str>, thing: T) -> u32 {
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            // Four thousand million files do not fit any directory.
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        if let Some(slot) = self.slots.get_mut(at as usize) {
            *slot = Some(thing);
        }
        self.names.insert(name, at);
        at
    }

    pub(super) fn remove(&mut self, name: &str) -> Option<T> {
        let at = self.names.remove(name)?;
        let thing = self.slots.get_mut(at as usize)?.take();
        self.free.push(at);
        thing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_used_again() {
        let mut shelf = Shelf::default();
        let at = shelf.insert("a".into(), 1);
        let other = shelf.insert("b".into(), 2);
        assert_eq!(shelf.remove("a"), Some(1));
        assert_eq!(shelf.get(at), None);
        assert_eq!(shelf.insert("c".into(), 3), at);
        assert_eq!(shelf.named("c"), Some(&3));
        assert_eq!(shelf.get(other), Some(&2));
        assert_eq!((shelf.len(), shelf.iter().sum::<i32>()), (2, 5));
    }
}
