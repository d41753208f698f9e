//! A TOML table read key by key: every value with its place, every key that nobody asked for an error.

use std::borrow::Cow;
use std::fmt::Display;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::fault::Fault;

/// A table whose keys are taken out one after the other. Strings stay where they are in the text: no copy of a secret
/// is made.
#[derive(Debug)]
pub(crate) struct Table<'t> {
    text: &'t str,
    span: Range<usize>,
    entries: DeTable<'t>,
    asked: Vec<&'static str>,
}

impl<'t> Table<'t> {
    /// Reads a whole file.
    pub(crate) fn parse(text: &'t str) -> Result<Self, Fault> {
        let table = DeTable::parse(text)
            .map_err(|error| Fault::at(text, &error.span().unwrap_or_default(), error.message()))?;
        Ok(Self::new(text, 0..0, table.into_inner()))
    }

    fn new(text: &'t str, span: Range<usize>, entries: DeTable<'t>) -> Self {
        Self {
            text,
            span,
            entries,
            asked: Vec::new(),
        }
    }

    fn take(&mut self, key: &'static str) -> Option<Spanned<DeValue<'t>>> {
        self.asked.push(key);
        self.entries.remove(key)
    }

    fn fault(&self, value: &Spanned<DeValue<'_>>, what: impl Display) -> Fault {
        Fault::at(self.text, &value.span(), what)
    }

    /// A string, read by `read`.
    pub(crate) fn text<T, E: Display>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, Fault> {
        let Some(value) = self.take(key) else { return Ok(None) };
        match value.get_ref() {
            DeValue::String(text) => read(text).map(Some).map_err(|error| self.fault(&value, error)),
            _ => Err(self.fault(&value, format_args!("{key} is a text: write it in quotes"))),
        }
    }

    /// A list of strings, each read by `read`, none twice.
    pub(crate) fn texts<T: PartialEq, E: Display>(
        &mut self,
        key: &'static str,
        read: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Option<Vec<T>>, Fault> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let DeValue::Array(array) = value.get_ref() else {
            return Err(self.fault(&value, format_args!("{key} is a list: write it in brackets")));
        };
        let mut list = Vec::with_capacity(array.len());
        for item in array {
            let DeValue::String(text) = item.get_ref() else {
                return Err(self.fault(item, format_args!("{key} is a list of texts: write it in quotes")));
            };
            let read = read(text).map_err(|error| self.fault(item, error))?;
            if list.contains(&read) {
                return Err(self.fault(item, "it stands there twice"));
            }
            list.push(read);
        }
        Ok(Some(list))
    }

    /// Where the value of a key stands that was not taken yet.
    pub(crate) fn span_of(&self, key: &str) -> Range<usize> {
        self.entries.get(key).map_or(self.span.clone(), Spanned::span)
    }

    /// Something wrong at a place of this text.
    pub(crate) fn fault_at(&self, span: &Range<usize>, what: impl Display) -> Fault {
        Fault::at(self.text, span, what)
    }

    /// A whole number, read by `read`.
    pub(crate) fn number<T, E: Display>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(u64) -> Result<T, E>,
    ) -> Result<Option<T>, Fault> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let number = match value.get_ref() {
            DeValue::Integer(integer) => u64::from_str_radix(integer.as_str(), integer.radix()).ok(),
            _ => None,
        };
        let number = number.ok_or_else(|| self.fault(&value, format_args!("{key} is a whole number")))?;
        read(number).map(Some).map_err(|error| self.fault(&value, error))
    }

    /// `true` or `false`; false when absent.
    pub(crate) fn flag(&mut self, key: &'static str) -> Result<bool, Fault> {
        match self.take(key) {
            None => Ok(false),
            Some(value) => match value.get_ref() {
                DeValue::Boolean(flag) => Ok(*flag),
                _ => Err(self.fault(&value, format_args!("{key} is true or false"))),
            },
        }
    }

    /// A table of its own.
    pub(crate) fn table(&mut self, key: &'static str) -> Result<Option<Self>, Fault> {
        let Some(value) = self.take(key) else { return Ok(None) };
        self.as_table(key, value).map(Some)
    }

    /// Tables written `[[key]]`.
    pub(crate) fn tables(&mut self, key: &'static str) -> Result<Vec<Self>, Fault> {
        let Some(value) = self.take(key) else {
            return Ok(Vec::new());
        };
        match value.into_inner() {
            DeValue::Array(array) => array.into_iter().map(|item| self.as_table(key, item)).collect(),
            _ => Err(self.missing_shape(key)),
        }
    }

    fn as_table(&self, key: &str, value: Spanned<DeValue<'t>>) -> Result<Self, Fault> {
        let span = value.span();
        match value.into_inner() {
            DeValue::Table(entries) => Ok(Self::new(self.text, span, entries)),
            _ => Err(Fault::at(self.text, &span, format_args!("{key} is a table"))),
        }
    }

    fn missing_shape(&self, key: &str) -> Fault {
        Fault::at(self.text, &self.span, format_args!("{key} is written [[{key}]]"))
    }

    /// What was read, or that its key is missing.
    pub(crate) fn required<T>(&self, key: &str, value: Option<T>) -> Result<T, Fault> {
        value.ok_or_else(|| Fault::at(self.text, &self.span, format_args!("{key} is missing")))
    }

    /// Ends the reading: a key that nobody asked for is an error.
    pub(crate) fn finish(self) -> Result<(), Fault> {
        let first = self.entries.keys().min_by_key(|key| key.span().start);
        let Some(key) = first else { return Ok(()) };
        let name: &Cow<'_, str> = key.get_ref();
        let near = self.asked.iter().map(|known| (distance(known, name), known)).min();
        let what = match near {
            Some((..=2, known)) => format!("unknown key {name}; is {known} meant?"),
            _ => format!("unknown key {name}"),
        };
        Err(Fault::at(self.text, &key.span(), what))
    }
}

/// How many characters must be put in, taken out or changed to make one word the other.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (to, cell) in b.chars().zip(row.iter_mut().skip(1)) {
            let changed = diagonal + usize::from(from != to);
            diagonal = *cell;
            *cell = changed.min(diagonal + 1).min(left + 1);
            left = *cell;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_are_placed_and_guessed() {
        let mut table = Table::parse("services = []\n  expire = 1\n").unwrap();
        let _ = table.texts("services", |text| Ok::<_, Fault>(text.to_owned())).unwrap();
        let _ = table.flag("expires").unwrap();
        let fault = table.finish().unwrap_err();
        assert_eq!(
            fault.to_string(),
            "line 2, column 3: unknown key expire; is expires meant?"
        );
    }

    #[test]
    fn distances() {
        for (a, b, far) in [
            ("", "", 0),
            ("psk", "psk", 0),
            ("psk", "pks", 2),
            ("", "abc", 3),
            ("expires", "expire", 1),
        ] {
            assert_eq!(distance(a, b), far, "{a} {b}");
            assert_eq!(distance(b, a), far, "{b} {a}");
        }
    }

    #[test]
    fn wrong_types_are_placed() {
        let mut table = Table::parse("a = 1\nb = [1]\nc = \"x\"\nd = -1\n").unwrap();
        let own = |text: &str| Ok::<_, Fault>(text.to_owned());
        assert_eq!(table.text("a", own).unwrap_err().line, 1);
        assert_eq!(table.texts("b", own).unwrap_err().column, 6);
        assert_eq!(table.flag("c").unwrap_err().line, 3);
        assert_eq!(table.number("d", Ok::<_, Fault>).unwrap_err().line, 4);
    }
}
