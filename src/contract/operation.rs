//! The closed set of things that the gateway can do for an API's clients, each with what it reads and what its answer
//! may show. `issuer/` does them; a contract file says by which path and in which words.

use crate::contract::placeholder::Group;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    Login,
    Refresh,
    Logout,
    KeysCreate,
    KeysList,
    KeysRevoke,
}

/// What an operation reads from the request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    LoginName,
    LoginPassword,
    Refresh,
    KeyName,
    KeyTenants,
    KeyScopes,
    KeyExpiresAt,
    KeyAllowedIps,
}

impl Operation {
    pub const ALL: [Self; 6] = [Self::Login, Self::Refresh, Self::Logout, Self::KeysCreate, Self::KeysList, Self::KeysRevoke];

    /// The word of contract files and of `endpoints = […]`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Refresh => "refresh",
            Self::Logout => "logout",
            Self::KeysCreate => "keys.create",
            Self::KeysList => "keys.list",
            Self::KeysRevoke => "keys.revoke",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operation| operation.as_str() == word)
    }

    /// Inputs without which the operation cannot be done.
    pub fn required(self) -> &'static [Input] {
        match self {
            Self::Login => &[Input::LoginName, Input::LoginPassword],
            Self::Refresh => &[Input::Refresh],
            Self::KeysCreate => &[Input::KeyName],
            Self::Logout | Self::KeysList | Self::KeysRevoke => &[],
        }
    }

    /// All inputs that the operation understands.
    pub fn inputs(self) -> &'static [Input] {
        match self {
            Self::Login => &[Input::LoginName, Input::LoginPassword],
            Self::Refresh | Self::Logout => &[Input::Refresh],
            Self::KeysCreate => &[Input::KeyName, Input::KeyTenants, Input::KeyScopes, Input::KeyExpiresAt, Input::KeyAllowedIps],
            Self::KeysList | Self::KeysRevoke => &[],
        }
    }

    /// Captures that the path must have.
    pub fn captures(self) -> &'static [&'static str] {
        match self {
            Self::KeysRevoke => &["id"],
            Self::Login | Self::Refresh | Self::Logout | Self::KeysCreate | Self::KeysList => &[],
        }
    }

    /// What the answer may show.
    pub fn groups(self) -> &'static [Group] {
        match self {
            Self::Login => &[Group::Account, Group::Access, Group::Refresh, Group::Session],
            Self::Refresh => &[Group::Account, Group::Access, Group::Session],
            Self::Logout => &[Group::Account],
            Self::KeysCreate => &[Group::Account, Group::Key, Group::KeySecret],
            Self::KeysList => &[Group::Account, Group::Page],
            Self::KeysRevoke => &[Group::Account, Group::Key],
        }
    }

    /// Whether the operation acts for a caller that must be known.
    pub fn needs_caller(self) -> bool {
        match self {
            Self::Login | Self::Refresh => false,
            Self::Logout | Self::KeysCreate | Self::KeysList | Self::KeysRevoke => true,
        }
    }
}

impl Input {
    pub const ALL: [Self; 8] = [
        Self::LoginName,
        Self::LoginPassword,
        Self::Refresh,
        Self::KeyName,
        Self::KeyTenants,
        Self::KeyScopes,
        Self::KeyExpiresAt,
        Self::KeyAllowedIps,
    ];

    /// The word of contract files (`is = "login.name"`).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LoginName => "login.name",
            Self::LoginPassword => "login.password",
            Self::Refresh => "refresh",
            Self::KeyName => "key.name",
            Self::KeyTenants => "key.tenants",
            Self::KeyScopes => "key.scopes",
            Self::KeyExpiresAt => "key.expires_at",
            Self::KeyAllowedIps => "key.allowed_ips",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|input| input.as_str() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip_and_required_inputs_are_known_inputs() {
        for operation in Operation::ALL {
            assert_eq!(Operation::parse(operation.as_str()), Some(operation));
            assert!(operation.required().iter().all(|input| operation.inputs().contains(input)));
        }
        for input in Input::ALL {
            assert_eq!(Input::parse(input.as_str()), Some(input));
        }
    }
}
