//! What the stages' tests start from: an API, a request, and somebody who sends it.

use std::path::Path;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, Request};

use crate::clock::{self, Timestamp};
use crate::config::parse;
use crate::config::report::Report;
use crate::contract::{Api, Route, Surroundings, compile};
use crate::identity::{
    Account, AccountId, ApiKey, Caller, CredentialKind, Digest, KeyId, Membership, Networks, Principal, ScopeSet, SessionId,
    Status,
};
use crate::listener::{ClientAddress, Peer};
use crate::pipeline::exchange::{Arrival, Exchange, Serves};

/// The native contract, and what a config says besides.
pub fn api(rest: &str) -> Api {
    let text = format!("[[api]]\nupstream = \"http://127.0.0.1:9000\"\ncontract = \"native\"\n{rest}");
    let (mut report, environment) = (Report::default(), |_: &str| None);
    let loaded = parse(&text, Path::new("gateway.toml"), &environment, &mut report);
    let around = Surroundings { folder: Path::new("."), environment: &environment };
    let api = loaded.and_then(|loaded| compile(&loaded.config.apis[0], &around, &mut report));
    api.unwrap_or_else(|| panic!("{report}"))
}

/// The route of this name.
pub fn route<'a>(api: &'a Api, name: &str) -> &'a Route {
    api.routes.iter().find(|route| &*route.name == name).unwrap_or_else(|| panic!("no route {name}"))
}

/// A `GET` from an address, with headers.
pub fn exchange(client: &str, headers: &[(&str, &str)]) -> Exchange {
    let mut request = Request::get("/x").body(()).unwrap();
    *request.headers_mut() = header_map(headers);
    let ip = client.parse().unwrap();
    let arrival = Arrival {
        now: clock::now(),
        listener: "public".into(),
        serves: Serves::Requests,
        client: ClientAddress { ip, peer: Peer::Untrusted, ignored_header: None, malformed: false },
        peer: std::net::SocketAddr::new(ip, 4711),
        tls: None,
        fault: None,
    };
    Exchange::new(request.into_parts().0, arrival, "0123456789abcdef0123456789abcdef".to_owned())
}

pub fn header_map(headers: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
    }
    map
}

/// An account with flat roles, and with others in tenants.
pub fn account(roles: &[&str], tenants: &[(&str, &str)]) -> Account {
    Account {
        id: AccountId::new("u1"),
        realm: "native".into(),
        username: "ann".to_owned(),
        email: None,
        display_name: None,
        status: Status::Active,
        roles: roles.iter().map(|role| (*role).into()).collect(),
        tenants: tenants.iter().map(|(tenant, role)| Membership { tenant: (*tenant).into(), role: (*role).into() }).collect(),
        attributes: std::collections::BTreeMap::new(),
        created_at: Timestamp::default(),
        sessions_valid_from: Timestamp::default(),
    }
}

/// Somebody with a session.
pub fn session(account: Account) -> Caller {
    Caller::Known(Arc::new(Principal {
        account: Arc::new(account),
        kind: CredentialKind::Jwt,
        key: None,
        session: Some(SessionId::new("s1")),
        foreign: None,
        credential_id: "t1".into(),
        expires_at: None,
    }))
}

/// Somebody's key, with scopes separated by blanks.
pub fn key(account: Account, scopes: &str, tenants: &[&str], allowed_ips: &[&str]) -> Caller {
    let key = ApiKey {
        id: KeyId::new("key-1"),
        realm: account.realm.clone(),
        owner: account.id.clone(),
        name: "k".to_owned(),
        scopes: ScopeSet::from_spaced(scopes),
        tenants: tenants.iter().map(|tenant| (*tenant).into()).collect(),
        allowed_ips: allowed_ips.iter().map(|text| Networks::parse_one(text).unwrap()).collect(),
        environment: "live".into(),
        digest: Digest::of("x"),
        created_at: Timestamp::default(),
        expires_at: None,
        revoked_at: None,
    };
    Caller::Known(Arc::new(Principal {
        account: Arc::new(account),
        kind: CredentialKind::ApiKey,
        credential_id: key.id.0.clone(),
        key: Some(Arc::new(key)),
        session: None,
        foreign: None,
        expires_at: None,
    }))
}
