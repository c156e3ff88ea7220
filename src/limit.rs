//! A limit that a setting sets, with the setting's name for the texts that tell somebody of it.
//! Which settings there are is known at the top only.

#[derive(Debug, Clone, Copy)]
pub(crate) struct NamedLimit<T> {
    pub(crate) value: T,
    pub(crate) name: &'static str,
}
