//! What Extended JSON is read and written as: for the tests of the module, and for those through
//! the real binary.

/// Objects that begin like a type and are none, one a line.
pub(crate) const WRONG: &str = include_str!("../extended_json/wrong.txt");

pub(crate) struct Conversion {
    /// The name of an `ElementType`.
    pub(crate) kind: &'static str,
    /// As the value is written.
    pub(crate) relaxed: &'static str,
    /// In which it is read, the relaxed one first.
    pub(crate) forms: Vec<&'static str>,
}

pub(crate) fn conversions() -> Vec<Conversion> {
    let mut conversions = Vec::new();
    let sections = include_str!("../extended_json/conversions.txt").split("\n\n# ").skip(1);
    for (kind, rows) in sections.filter_map(|section| section.split_once('\n')) {
        conversions.extend(rows.lines().map(|row| {
            let forms: Vec<_> = row.split(" <= ").collect();
            Conversion { kind, relaxed: forms[0], forms }
        }));
    }
    conversions
}
