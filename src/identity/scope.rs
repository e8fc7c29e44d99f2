//! Scopes: what a credential may be used for, as `resource:action`.

use std::fmt;
use std::sync::Arc;

/// One permission, e.g. `nodes:read`, or a wildcard over one resource, `nodes:*`, or over one action, `*:read`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope(Arc<str>);

/// An ordered set of scopes, as granted or as asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScopeSet(Vec<Scope>);

impl Scope {
    /// Accepts `a-z A-Z 0-9 _ - . : *`, at most 100 characters: scopes travel in space- and comma-separated lists, so a
    /// scope that held such a character could smuggle a second one.
    pub fn parse(text: &str) -> Option<Self> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b':' | b'*');
        (!text.is_empty() && text.len() <= 100 && text.bytes().all(allowed)).then(|| Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether holding `self` is enough where `wanted` is asked for. A wildcard covers one side of the colon; a bare
    /// `*` covers nothing, it is reserved.
    pub fn covers(&self, wanted: &Self) -> bool {
        if self == wanted {
            return true;
        }
        match (self.0.split_once(':'), wanted.0.split_once(':')) {
            (Some((resource, "*")), Some((wanted_resource, _))) => resource == wanted_resource,
            (Some(("*", action)), Some((_, wanted_action))) => action == wanted_action,
            (Some(_) | None, Some(_) | None) => false,
        }
    }
}

impl ScopeSet {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Scope> {
        self.0.iter()
    }

    pub fn insert(&mut self, scope: Scope) {
        if !self.0.contains(&scope) {
            self.0.push(scope);
        }
    }

    pub fn contains(&self, scope: &Scope) -> bool {
        self.0.contains(scope)
    }

    pub fn covers(&self, wanted: &Scope) -> bool {
        self.0.iter().any(|held| held.covers(wanted))
    }

    /// Parses the stored form, scopes separated by single spaces. Words that are no scope are dropped: less is safe.
    pub fn from_spaced(text: &str) -> Self {
        text.split(' ').filter_map(Scope::parse).collect()
    }

    pub fn to_spaced(&self) -> String {
        self.0.iter().map(Scope::as_str).collect::<Vec<_>>().join(" ")
    }
}

impl FromIterator<Scope> for ScopeSet {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        let mut set = Self::default();
        scopes.into_iter().for_each(|scope| set.insert(scope));
        set
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(text: &str) -> Scope {
        Scope::parse(text).unwrap()
    }

    #[test]
    fn a_wildcard_covers_one_side_of_the_colon() {
        for (held, wanted, expected) in [
            ("nodes:read", "nodes:read", true),
            ("nodes:*", "nodes:write", true),
            ("*:read", "nodes:read", true),
            ("nodes:read", "nodes:write", false),
            ("nodes:*", "nodesx:write", false),
            ("*:read", "nodes:reader", false),
            ("*", "nodes:read", false),
            ("nodes:write", "nodes:*", false),
        ] {
            assert_eq!(scope(held).covers(&scope(wanted)), expected, "{held} for {wanted}");
        }
    }

    #[test]
    fn scopes_with_list_separators_do_not_exist() {
        for text in ["", "a b", "a,b", "a\nb", "a\u{e9}"] {
            assert_eq!(Scope::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_stored_form_round_trips() {
        let set: ScopeSet = ["nodes:read", "admin:*", "nodes:read"].into_iter().map(scope).collect();
        assert_eq!(set.to_spaced(), "nodes:read admin:*");
        assert_eq!(ScopeSet::from_spaced(&set.to_spaced()), set);
    }
}
