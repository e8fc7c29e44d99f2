//! Every reason for which a caller is refused.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use crate::identity::{AccountId, CredentialKind, KeyId, SessionId};
use crate::rejection::table::reasons;

reasons! {
    /// Why a caller is refused. `Display` is for operators and holds no secret.
    pub enum Denial {
        Listener HostMissing "host_missing" BadRequest "the request names no host, or more than one";
        Listener HostMalformed "host_malformed" BadRequest "the Host header is no host name with an optional port";
        Listener HostMisdirected { host: String } "host_misdirected" Misdirected "the host {host} has another certificate than the one that the connection began with";
        Listener HeadMalformed { what: &'static str } "head_malformed" BadRequest "the request's head is malformed: {what}";
        Listener FramingAmbiguous { what: &'static str } "framing_ambiguous" BadRequest "where the body ends could be read in two ways: {what}";
        Listener UriTooLong { limit: u64 } "uri_too_long" UriTooLong "the request target is longer than {limit} bytes";
        Listener HeadTooLarge { limit: u64 } "head_too_large" HeadTooLarge "the header fields are larger than {limit} bytes";
        Listener TooManyHeaders { limit: u64 } "too_many_headers" HeadTooLarge "there are more than {limit} header fields";
        Listener ExpectationUnknown "expectation_unknown" ExpectationFailed "the Expect header asks for something else than 100-continue";
        Listener BodyTooLarge { limit: u64 } "body_too_large" BodyTooLarge "the body is larger than {limit} bytes";
        Listener BodyTimeout { seconds: u64 } "body_timeout" RequestTimeout "no byte of the body arrived for {seconds} s";
        Listener BodyTooSlow { bytes: u64 } "body_too_slow" RequestTimeout "the body comes more slowly than {bytes} bytes a second";
        Listener BodyBroken "body_broken" BadRequest "the body ended early or its framing is broken";
        Listener AskerUntrusted { address: std::net::IpAddr } "asker_untrusted" AddressRefused "{address} may not ask for decisions: it is not in the listener's trusted_proxies";
        Listener QuestionMalformed { what: &'static str } "question_malformed" BadRequest "the request that is asked about is not told clearly: {what}";
        Route PathAmbiguous { what: &'static str } "path_ambiguous" BadRequest "the path may be read in two ways: {what}";
        Route ConnectRefused "connect_refused" MethodNotAllowed "CONNECT asks for a tunnel; the gateway opens none";
        Route TraceRefused "trace_refused" MethodNotAllowed "TRACE is refused: it would echo credentials";
        Route HostUnknown { host: String } "host_unknown" NotFound "no API of this listener answers to the host {host}";
        Route NoRoute "no_route" NotFound "no route matches the path";
        Route MethodNotAllowed { allow: Arc<str> } "method_not_allowed" MethodNotAllowed "the path takes {allow} only";
        Route GatewayOnly "gateway_only" NotPermitted "the gateway answers this endpoint itself: a proxy has to send the request here, not ask about it";
        Admit AddressDenied { address: std::net::IpAddr } "address_denied" AddressRefused "{address} is on the route's deny list";
        Admit AddressNotAllowed { address: std::net::IpAddr } "address_not_allowed" AddressRefused "{address} is not on the route's allow list";
        Credential CredentialMissing "credential_missing" CredentialMissing "the route wants a credential and none was sent";
        Credential CredentialMalformed { what: &'static str } "credential_malformed" CredentialRefused "the credential cannot be read: {what}";
        Credential CredentialDuplicate { name: String } "credential_duplicate" BadRequest "{name} stands there more than once";
        Credential CredentialKindRefused { kind: CredentialKind } "credential_kind_refused" CredentialRefused "the route takes no credential of kind {kind}";
        Authenticate TokenMalformed { what: &'static str } "token_malformed" CredentialRefused "the token is malformed: {what}";
        Authenticate TokenAlgorithm { found: String } "token_algorithm" CredentialRefused "the token's algorithm {found:?} is not the key's";
        Authenticate TokenKeyUnknown { kid: String } "token_key_unknown" CredentialRefused "no key has the id {kid:?}";
        Authenticate TokenSignature "token_signature" CredentialRefused "the token's signature does not verify";
        Authenticate TokenExpired "token_expired" CredentialRefused "the token has expired";
        Authenticate TokenNotYetValid "token_not_yet_valid" CredentialRefused "the token is not valid yet";
        Authenticate TokenIssuer "token_issuer" CredentialRefused "the token is from another issuer";
        Authenticate TokenAudience "token_audience" CredentialRefused "the token is for another audience";
        Authenticate TokenType { found: String } "token_type" CredentialRefused "a token of type {found:?} is no access token";
        Authenticate TokenClaim { claim: Cow<'static, str> } "token_claim" CredentialRefused "the claim {claim} is missing or malformed";
        Authenticate SubjectTaken { issuer: Arc<str>, subject: String } "subject_taken" CredentialRefused "the subject {subject:?} of {issuer} is the id of an account here: with accounts = \"store\" it would be that account";
        Authenticate EnvironmentForeign { found: String } "environment_foreign" CredentialRefused "the credential is for the environment {found:?}";
        Authenticate SessionEnded { session: SessionId } "session_ended" CredentialRefused "the session {session} has ended";
        Authenticate KeyMalformed { what: &'static str } "key_malformed" CredentialRefused "the key is malformed: {what}";
        Authenticate KeyChecksum "key_checksum" CredentialRefused "the key's checksum is wrong: a typing error or no key of ours";
        Authenticate KeyUnknown "key_unknown" CredentialRefused "no such key";
        Authenticate KeyRevoked { key: KeyId } "key_revoked" CredentialRefused "the key {key} was revoked";
        Authenticate KeyExpired { key: KeyId } "key_expired" CredentialRefused "the key {key} has expired";
        Authenticate CertificateExpired { serial: String } "certificate_expired" CredentialRefused "the client certificate {serial} has expired";
        Authenticate CertificateSubject { serial: String } "certificate_subject" CredentialRefused "the client certificate {serial} has no name of the configured kinds, or two of one";
        Authenticate AccountDisabled { account: AccountId } "account_disabled" CredentialRefused "the account {account} is disabled";
        Authenticate AccountGone { account: String } "account_gone" CredentialRefused "the account {account} no longer exists";
        Authorize ScopeMissing { scope: String } "scope_missing" NotPermitted "the caller lacks {scope}";
        Authorize RoleMissing { role: String } "role_missing" NotPermitted "the caller's role is below {role}";
        Authorize TenantForeign { tenant: String } "tenant_foreign" NotPermitted "the caller has no part in the tenant {tenant:?}";
        Authorize TenantBound { credential: Arc<str> } "tenant_bound" NotPermitted "the credential {credential} is good inside its tenants only, and the path names none";
        Authorize KeyAddress { key: KeyId, address: std::net::IpAddr } "key_address" AddressRefused "the key {key} may not be used from {address}";
        Authorize KeyOnUnmapped { kind: CredentialKind } "key_on_unmapped" NotPermitted "the contract lists no such route, and a credential of kind {kind} passes on listed routes only";
        Limit OverLimit { limit: Arc<str>, quota: Arc<str>, retry_after: Duration } "over_limit" OverLimit "the limit {limit} of {quota} is used up; free again in {retry_after:?}";
        Issuer SessionForeign { issuer: Arc<str> } "session_foreign" NotPermitted "the session of a token of {issuer} is not ours to end";
        Issuer AccountForeign { issuer: Arc<str> } "account_foreign" NotPermitted "the subjects of {issuer} have no account here";
        Issuer MediaTypeUnsupported "media_type_unsupported" UnsupportedMediaType "the body is not sent as application/json";
        Issuer BodyNotJson { what: String } "body_not_json" BadRequest "the body is no JSON object: {what}";
        Issuer FieldInvalid { field: String, reason: String } "field_invalid" BadRequest "{field}: {reason}";
        Issuer LoginUnknown "login_unknown" CredentialRefused "no account has this login name";
        Issuer LoginPassword { account: AccountId } "login_password" CredentialRefused "wrong password for the account {account}";
        Issuer LoginDisabled { account: AccountId } "login_disabled" CredentialRefused "the account {account} is disabled";
        Issuer RefreshUnknown "refresh_unknown" CredentialRefused "no session has this refresh token";
        Issuer RefreshExpired { session: SessionId } "refresh_expired" CredentialRefused "the refresh token has expired";
        Issuer RecordUnknown { what: &'static str } "record_unknown" NotFound "there is no such {what}";
        Issuer ScopeNotGrantable { scope: String } "scope_not_grantable" NotPermitted "the caller may not give {scope}: it does not have it";
        Issuer TenantNotGrantable { tenant: String } "tenant_not_grantable" NotPermitted "the caller may not give the tenant {tenant:?}: it has no part in it";
    }
}

impl Denial {
    /// Words for the client beyond what the contract writes for the class: only about the client's own input, never
    /// about a check.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "silence is the safe default: a new reason says nothing until someone decides otherwise"
    )]
    pub fn public(&self) -> Option<String> {
        match self {
            Self::FieldInvalid { field, reason } => Some(format!("{field} {reason}")),
            Self::BodyNotJson { .. } => Some("the body must be a JSON object".to_owned()),
            Self::RecordUnknown { what } => Some(format!("no such {what}")),
            Self::PathAmbiguous { .. } => Some("ambiguous path".to_owned()),
            Self::CredentialDuplicate { name } => Some(format!("duplicate header: {name}")),
            Self::HeadMalformed { .. } | Self::FramingAmbiguous { .. } => Some("malformed request".to_owned()),
            Self::HostMissing | Self::HostMalformed => Some("invalid host".to_owned()),
            Self::BodyBroken => Some("the body is incomplete".to_owned()),
            Self::HostMisdirected { .. } => Some("the connection is for another host".to_owned()),
            Self::NoRoute | Self::HostUnknown { .. } => Some("not found".to_owned()),
            _ => None,
        }
    }

    /// How long to wait before the next try, for `Retry-After`.
    pub fn retry_after(&self) -> Option<Duration> {
        if let Self::OverLimit { retry_after, .. } = self { Some(*retry_after) } else { None }
    }
}
