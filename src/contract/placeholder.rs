//! The names that templates may use, and where each may stand.

/// A fact that a template can show. The words are those of contract files.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Placeholder {
    Account(AccountFact),
    /// Something about an account that the gateway has no use for itself.
    AccountAttribute(String),
    Access,
    AccessExpiresAt,
    /// Seconds.
    AccessExpiresIn,
    Refresh,
    RefreshExpiresAt,
    /// Seconds.
    RefreshExpiresIn,
    SessionId,
    TokenId,
    Key(KeyFact),
    /// The whole key, known only in the answer that creates it.
    KeySecret,
    PageNumber,
    PageSize,
    PageTotal,
    PageCount,
    ApiName,
    ApiEnvironment,
    ApiPublicUrl,
    ApiRealm,
    Caller(CallerFact),
    Code,
    Message,
    Reason,
    Details,
    Status,
    RequestId,
    /// A switch of the contract; replaced by its value when the contract is compiled.
    Option(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AccountFact {
    Id,
    Username,
    Email,
    DisplayName,
    Status,
    /// The first of the flat roles.
    Role,
    Roles,
    /// `[{"id": tenant, "role": role}]`
    Tenants,
    TenantIds,
    CreatedAt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyFact {
    Id,
    Name,
    Owner,
    Scopes,
    Tenants,
    AllowedIps,
    CreatedAt,
    ExpiresAt,
    LastUsedAt,
    Revoked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallerFact {
    /// The kind of credential that was used.
    Method,
    TenantId,
    TenantRole,
    /// The scopes that hold for this request.
    Permissions,
    CredentialId,
    /// Who signed the token, where it was not the gateway.
    Issuer,
}

/// What must be known for a placeholder to have a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Known everywhere.
    Api,
    Account,
    /// Tokens that this answer issues.
    Access,
    Refresh,
    Session,
    Key,
    KeySecret,
    Page,
    /// The caller of a forwarded request.
    Caller,
    Error,
}

const WORDS: &[(&str, Placeholder)] = &[
    ("account.id", Placeholder::Account(AccountFact::Id)),
    ("account.username", Placeholder::Account(AccountFact::Username)),
    ("account.email", Placeholder::Account(AccountFact::Email)),
    ("account.display_name", Placeholder::Account(AccountFact::DisplayName)),
    ("account.status", Placeholder::Account(AccountFact::Status)),
    ("account.role", Placeholder::Account(AccountFact::Role)),
    ("account.roles", Placeholder::Account(AccountFact::Roles)),
    ("account.tenants", Placeholder::Account(AccountFact::Tenants)),
    ("account.tenants.ids", Placeholder::Account(AccountFact::TenantIds)),
    ("account.created_at", Placeholder::Account(AccountFact::CreatedAt)),
    ("access", Placeholder::Access),
    ("access.expires_at", Placeholder::AccessExpiresAt),
    ("access.expires_in", Placeholder::AccessExpiresIn),
    ("refresh", Placeholder::Refresh),
    ("refresh.expires_at", Placeholder::RefreshExpiresAt),
    ("refresh.expires_in", Placeholder::RefreshExpiresIn),
    ("session.id", Placeholder::SessionId),
    ("token.id", Placeholder::TokenId),
    ("key.id", Placeholder::Key(KeyFact::Id)),
    ("key.name", Placeholder::Key(KeyFact::Name)),
    ("key.secret", Placeholder::KeySecret),
    ("key.owner", Placeholder::Key(KeyFact::Owner)),
    ("key.scopes", Placeholder::Key(KeyFact::Scopes)),
    ("key.tenants", Placeholder::Key(KeyFact::Tenants)),
    ("key.allowed_ips", Placeholder::Key(KeyFact::AllowedIps)),
    ("key.created_at", Placeholder::Key(KeyFact::CreatedAt)),
    ("key.expires_at", Placeholder::Key(KeyFact::ExpiresAt)),
    ("key.last_used_at", Placeholder::Key(KeyFact::LastUsedAt)),
    ("key.revoked", Placeholder::Key(KeyFact::Revoked)),
    ("page.number", Placeholder::PageNumber),
    ("page.size", Placeholder::PageSize),
    ("page.total", Placeholder::PageTotal),
    ("page.count", Placeholder::PageCount),
    ("api.name", Placeholder::ApiName),
    ("api.environment", Placeholder::ApiEnvironment),
    ("api.public_url", Placeholder::ApiPublicUrl),
    ("api.realm", Placeholder::ApiRealm),
    ("method", Placeholder::Caller(CallerFact::Method)),
    ("issuer", Placeholder::Caller(CallerFact::Issuer)),
    ("tenant.id", Placeholder::Caller(CallerFact::TenantId)),
    ("tenant.role", Placeholder::Caller(CallerFact::TenantRole)),
    ("permissions", Placeholder::Caller(CallerFact::Permissions)),
    ("credential.id", Placeholder::Caller(CallerFact::CredentialId)),
    ("code", Placeholder::Code),
    ("message", Placeholder::Message),
    ("reason", Placeholder::Reason),
    ("details", Placeholder::Details),
    ("status", Placeholder::Status),
    ("request_id", Placeholder::RequestId),
];

impl Placeholder {
    pub fn parse(word: &str) -> Option<Self> {
        if let Some(name) = word.strip_prefix("account.attributes.") {
            return (!name.is_empty()).then(|| Self::AccountAttribute(name.to_owned()));
        }
        if let Some(name) = word.strip_prefix("option.") {
            return (!name.is_empty()).then(|| Self::Option(name.to_owned()));
        }
        WORDS.iter().find(|(known, _)| *known == word).map(|(_, placeholder)| placeholder.clone())
    }

    /// The fixed words, for error messages.
    pub fn words() -> impl Iterator<Item = &'static str> {
        WORDS.iter().map(|(word, _)| *word)
    }

    pub fn group(&self) -> Group {
        match self {
            Self::ApiName | Self::ApiEnvironment | Self::ApiPublicUrl | Self::ApiRealm | Self::Option(_) => Group::Api,
            Self::Account(_) | Self::AccountAttribute(_) => Group::Account,
            Self::Access | Self::AccessExpiresAt | Self::AccessExpiresIn => Group::Access,
            Self::Refresh | Self::RefreshExpiresAt | Self::RefreshExpiresIn => Group::Refresh,
            Self::SessionId | Self::TokenId => Group::Session,
            Self::KeySecret => Group::KeySecret,
            Self::Key(_) => Group::Key,
            Self::PageNumber | Self::PageSize | Self::PageTotal | Self::PageCount => Group::Page,
            Self::Caller(_) => Group::Caller,
            Self::Code | Self::Message | Self::Reason | Self::Details | Self::Status | Self::RequestId => Group::Error,
        }
    }

    /// The word of contract files.
    pub fn word(&self) -> String {
        if let Self::AccountAttribute(name) = self {
            return format!("account.attributes.{name}");
        }
        if let Self::Option(name) = self {
            return format!("option.{name}");
        }
        WORDS.iter().find(|(_, placeholder)| placeholder == self).map_or("", |(word, _)| word).to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_names_the_placeholder_that_names_it() {
        for word in Placeholder::words().chain(["account.attributes.plan", "option.size"]) {
            assert_eq!(Placeholder::parse(word).unwrap().word(), word);
        }
        assert_eq!(Placeholder::parse("account"), None);
        assert_eq!(Placeholder::parse("account.attributes."), None);
    }
}
