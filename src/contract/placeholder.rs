//! The names that templates may use, and where each may stand.

/// A fact that a template can show. The words are those of contract files.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Placeholder {
    AccountId,
    AccountUsername,
    AccountEmail,
    AccountDisplayName,
    AccountStatus,
    /// The first of the flat roles.
    AccountRole,
    AccountRoles,
    /// `[{"id": tenant, "role": role}]`
    AccountTenants,
    AccountTenantIds,
    AccountCreatedAt,
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
    KeyId,
    KeyName,
    /// The whole key, known only in the answer that creates it.
    KeySecret,
    KeyOwner,
    KeyScopes,
    KeyTenants,
    KeyAllowedIps,
    KeyCreatedAt,
    KeyExpiresAt,
    KeyLastUsedAt,
    KeyRevoked,
    PageNumber,
    PageSize,
    PageTotal,
    PageCount,
    ApiName,
    ApiEnvironment,
    ApiPublicUrl,
    ApiRealm,
    /// The kind of credential that was used.
    Method,
    TenantId,
    TenantRole,
    /// The scopes that hold for this request.
    Permissions,
    CredentialId,
    Code,
    Message,
    Reason,
    Details,
    Status,
    RequestId,
    /// A switch of the contract; replaced by its value when the contract is compiled.
    Option(String),
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
    ("account.id", Placeholder::AccountId),
    ("account.username", Placeholder::AccountUsername),
    ("account.email", Placeholder::AccountEmail),
    ("account.display_name", Placeholder::AccountDisplayName),
    ("account.status", Placeholder::AccountStatus),
    ("account.role", Placeholder::AccountRole),
    ("account.roles", Placeholder::AccountRoles),
    ("account.tenants", Placeholder::AccountTenants),
    ("account.tenants.ids", Placeholder::AccountTenantIds),
    ("account.created_at", Placeholder::AccountCreatedAt),
    ("access", Placeholder::Access),
    ("access.expires_at", Placeholder::AccessExpiresAt),
    ("access.expires_in", Placeholder::AccessExpiresIn),
    ("refresh", Placeholder::Refresh),
    ("refresh.expires_at", Placeholder::RefreshExpiresAt),
    ("refresh.expires_in", Placeholder::RefreshExpiresIn),
    ("session.id", Placeholder::SessionId),
    ("token.id", Placeholder::TokenId),
    ("key.id", Placeholder::KeyId),
    ("key.name", Placeholder::KeyName),
    ("key.secret", Placeholder::KeySecret),
    ("key.owner", Placeholder::KeyOwner),
    ("key.scopes", Placeholder::KeyScopes),
    ("key.tenants", Placeholder::KeyTenants),
    ("key.allowed_ips", Placeholder::KeyAllowedIps),
    ("key.created_at", Placeholder::KeyCreatedAt),
    ("key.expires_at", Placeholder::KeyExpiresAt),
    ("key.last_used_at", Placeholder::KeyLastUsedAt),
    ("key.revoked", Placeholder::KeyRevoked),
    ("page.number", Placeholder::PageNumber),
    ("page.size", Placeholder::PageSize),
    ("page.total", Placeholder::PageTotal),
    ("page.count", Placeholder::PageCount),
    ("api.name", Placeholder::ApiName),
    ("api.environment", Placeholder::ApiEnvironment),
    ("api.public_url", Placeholder::ApiPublicUrl),
    ("api.realm", Placeholder::ApiRealm),
    ("method", Placeholder::Method),
    ("tenant.id", Placeholder::TenantId),
    ("tenant.role", Placeholder::TenantRole),
    ("permissions", Placeholder::Permissions),
    ("credential.id", Placeholder::CredentialId),
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
            Self::AccountId
            | Self::AccountUsername
            | Self::AccountEmail
            | Self::AccountDisplayName
            | Self::AccountStatus
            | Self::AccountRole
            | Self::AccountRoles
            | Self::AccountTenants
            | Self::AccountTenantIds
            | Self::AccountCreatedAt
            | Self::AccountAttribute(_) => Group::Account,
            Self::Access | Self::AccessExpiresAt | Self::AccessExpiresIn => Group::Access,
            Self::Refresh | Self::RefreshExpiresAt | Self::RefreshExpiresIn => Group::Refresh,
            Self::SessionId | Self::TokenId => Group::Session,
            Self::KeySecret => Group::KeySecret,
            Self::KeyId
            | Self::KeyName
            | Self::KeyOwner
            | Self::KeyScopes
            | Self::KeyTenants
            | Self::KeyAllowedIps
            | Self::KeyCreatedAt
            | Self::KeyExpiresAt
            | Self::KeyLastUsedAt
            | Self::KeyRevoked => Group::Key,
            Self::PageNumber | Self::PageSize | Self::PageTotal | Self::PageCount => Group::Page,
            Self::Method | Self::TenantId | Self::TenantRole | Self::Permissions | Self::CredentialId => Group::Caller,
            Self::Code | Self::Message | Self::Reason | Self::Details | Self::Status | Self::RequestId => Group::Error,
        }
    }

    /// The word of contract files.
    pub fn word(&self) -> String {
        match self {
            Self::AccountAttribute(name) => format!("account.attributes.{name}"),
            Self::Option(name) => format!("option.{name}"),
            #[expect(
                clippy::wildcard_enum_match_arm,
                reason = "every other placeholder is a fixed word of the table, which a test proves"
            )]
            fixed => WORDS.iter().find(|(_, placeholder)| placeholder == fixed).map_or("", |(word, _)| word).to_owned(),
        }
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
