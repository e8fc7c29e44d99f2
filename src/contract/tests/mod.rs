//! Contracts as a whole: what compiles, what a wrong file is told, and what `gateway.toml` may change.

mod kinds;

use std::path::Path;

use http::Method;

use crate::config::parse;
use crate::config::report::Report;
use crate::contract::{Access, Api, Carrier, Demand, Route, Surroundings, Target, builtin, compile};
use crate::identity::{CredentialKind, Scope};

const API: &str = "[[api]]\nupstream = \"http://127.0.0.1:9000\"\n";
const NATIVE: &str = "native";

/// Compiles the only API of a config whose contract, if one is given, stands in `own.toml` beside it.
fn build(config: &str, own: Option<&str>) -> (Option<Api>, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    if let Some(text) = own {
        std::fs::write(folder.path().join("own.toml"), text).unwrap();
    }
    let (mut report, environment) = (Report::default(), |_: &str| None);
    let loaded = parse(config, Path::new("gateway.toml"), &environment, &mut report);
    assert!(report.is_clean(), "{report}");
    let around = Surroundings { folder: folder.path(), environment: &environment };
    let api = compile(&loaded.unwrap().config.apis[0], &around, &mut report);
    let found = report.diagnostics().iter().map(|finding| format!("{}: {}", finding.line, finding.message)).collect();
    (api, found)
}

/// The API of a contract without mistakes, and of what the config says besides.
fn own(contract: &str, rest: &str) -> Api {
    let (api, found) = build(&format!("{API}contract = \"own.toml\"\n{rest}"), Some(contract));
    assert_eq!(found, Vec::<String>::new());
    api.unwrap()
}

/// What a wrong contract is told.
fn told(contract: &str) -> Vec<String> {
    let (api, found) = build(&format!("{API}contract = \"own.toml\"\n"), Some(contract));
    assert!(api.is_none());
    found
}

/// The messages without their lines.
fn words(contract: &str) -> Vec<String> {
    told(contract).into_iter().map(|line| line.split_once(": ").unwrap().1.to_owned()).collect()
}

/// The native contract, for `/api` only, with routes of a system that has tenants.
fn contract() -> String {
    let text = builtin::text(NATIVE).unwrap().replace("prefixes = [\"/\"]", "prefixes = [\"/api\"]");
    let (before, after) = text.split_once("[[route]]").unwrap();
    let (_, limits) = after.split_once("# ── limits").unwrap();
    format!(
        "{before}[[route]]\non = \"/api/admin/**\"\nscopes = [\"admin\"]\n\
         [[route]]\nunder = \"/api/t/{{tenant}}\"\ntenant = \"{{tenant}}\"\nrules = [\n\
         {{ on = [\"GET /nodes\", \"POST /nodes\"], scopes = [\"write\"], by_kind = {{ api_key = {{ scopes = [\"admin\"] }} }} }},\n\
         {{ on = \"/**\", role = \"editor\" }} ]\n# {limits}"
    )
}

fn route<'a>(api: &'a Api, method: Option<Method>, pattern: &str) -> &'a Route {
    let methods: Vec<Method> = method.into_iter().collect();
    let mut found = api.routes.iter().filter(|route| route.pattern.as_str() == pattern && route.methods == methods);
    let route = found.next().unwrap_or_else(|| panic!("no {methods:?} {pattern}"));
    assert!(found.next().is_none(), "two {methods:?} {pattern}");
    route
}

/// Kinds, scopes, role and what the kinds must have besides, in one line.
fn access(route: &Route) -> String {
    let demand = |demand: &Demand| {
        let scopes: Vec<&str> = demand.scopes.iter().map(Scope::as_str).collect();
        format!("[{}] {}", scopes.join(" "), demand.role.as_deref().unwrap_or("-"))
    };
    match &route.access {
        Access::Public => "public".to_owned(),
        Access::Known { kinds, demand: all, by_kind, unmapped } => {
            let kinds: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
            let besides: String = by_kind.iter().map(|(kind, also)| format!(" {kind}: {}", demand(also))).collect();
            format!("{} {}{besides}{}", kinds.join(","), demand(all), if *unmapped { " unmapped" } else { "" })
        }
    }
}

#[test]
fn every_built_in_contract_compiles_with_the_least_that_a_config_may_say() {
    assert!(builtin::names().count() >= 2);
    for name in builtin::names() {
        let (api, found) = build(&format!("{API}contract = \"{name}\"\n"), None);
        assert_eq!(found, Vec::<String>::new(), "{name}");
        let api = api.unwrap();
        assert_eq!(&*api.facts.name, name);
        for (operation, route) in api.routes.iter().filter_map(|route| match &route.target {
            Target::Local(endpoint) => Some((endpoint.operation, route)),
            Target::Upstream | Target::Fixed(_) => None,
        }) {
            let open = matches!(route.access, Access::Public);
            assert_eq!(open, !operation.needs_caller(), "{name} {}", route.name);
        }
    }
}

#[test]
fn all_mistakes_of_a_contract_are_told_at_once_with_their_places() {
    let text = contract()
        .replace("operation = \"logout\"", "operation = \"log-out\"")
        .replace("role = \"editor\"", "role = \"editr\"")
        .replace("order = [\"bearer\", \"header X-API-Key\"]", "order = [\"bearer\", \"cookie x\"]")
        .replace("limits = [\"refresh\"]", "limits = [\"refrsh\"]")
        .replace("not_found = ", "not_here = ")
        .replace("\"X-Auth-Roles\" = \"account.roles\"", "\"X-Auth-Roles\" = \"account.rolls\"");
    let line = |part: &str| text.lines().position(|line| line.contains(part)).unwrap() + 1;
    let found = told(&text);
    for (part, message) in [
        ("log-out", "unknown operation `log-out`"),
        ("editr", "unknown role `editr`"),
        ("cookie x", "unknown carrier `cookie x`"),
        ("refrsh", "unknown limit `refrsh`"),
        ("not_here", "unknown reason `not_here`"),
        ("account.rolls", "unknown fact about the caller `account.rolls`"),
    ] {
        assert!(found.contains(&format!("{}: {message}", line(part))), "{message}\n{found:#?}");
    }
}

#[test]
fn a_prefix_that_would_leave_its_paths_outside_of_itself_is_refused() {
    let with = |prefixes: &str| words(&contract().replace("prefixes = [\"/api\"]", prefixes));
    assert_eq!(with("prefixes = []"), ["`prefixes` is empty: `[\"/\"]` is the whole host"]);
    assert_eq!(with("prefixes = [\"/api/**\"]"), ["the prefix `/api/**` ends in `**` already"]);
}

#[test]
fn what_lies_outside_every_prefix_may_be_opened_and_no_prefix() {
    let api = own(&contract(), "outside = \"public\"\n");
    assert_eq!(access(route(&api, None, "/**")), "public");
    assert_eq!(access(route(&api, None, "/api/**")), " [] - unmapped");
    let whole = own(builtin::text(NATIVE).unwrap(), "outside = \"public\"\n");
    assert_eq!(access(route(&whole, None, "/**")), "jwt,api_key [write] -");
}

#[test]
fn demands_beside_under_are_refused_because_no_rule_would_have_them() {
    let beside = "beside `under`, who may do what is said in each of the `rules`";
    for member in ["accept = [\"jwt\"]", "scopes = [\"admin\"]", "role = \"admin\"", "limits = [\"login\"]", "public = true"] {
        let text = contract().replace("tenant = \"{tenant}\"\n", &format!("tenant = \"{{tenant}}\"\n{member}\n"));
        assert_eq!(words(&text), [beside], "{member}");
    }
    let either = "a route needs either `on`, or `under` with `rules`";
    assert_eq!(words(&contract().replace("on = \"/api/admin/**\"\n", "")), [either]);
    assert_eq!(words(&contract().replace("under = \"/api/t/{tenant}\"", "on = \"/api/t/{tenant}\"")), [either]);
}

#[test]
fn a_contract_says_each_thing_once() {
    let twice = format!("{}\n[[route]]\non = \"/api/admin/**\"\n", contract());
    assert_eq!(words(&twice), ["the contract lists `* /api/admin/**` twice"]);
    let limits = format!("{}\n[[limit]]\nname = \"login\"\nper = []\nquota = \"1 per 1m\"\n", contract());
    assert_eq!(words(&limits), ["two limits are called `login`", "`per` is empty"]);
    let headers = contract().replace("\"X-Auth-Roles\" = ", "\"X_Auth_User-Id\" = ");
    assert_eq!(words(&headers), ["`X_Auth_User-Id` stands there twice"]);
}

#[test]
fn headers_that_say_how_a_message_is_framed_are_no_identity() {
    for (name, why) in [
        ("Content-Length", "`Content-Length` says how long the message is"),
        ("Connection", "`Connection` is about one connection and not forwarded (RFC 9110, 7.6.1)"),
        ("Host", "`Host` says which server is meant"),
    ] {
        assert_eq!(words(&contract().replace("\"X-Auth-Roles\" = ", &format!("\"{name}\" = "))), [why]);
        assert_eq!(words(&contract().replace("\"Cache-Control\" = ", &format!("\"{name}\" = "))), [why]);
    }
}

/// Two contract files may give themselves one name; two APIs of one name would be one realm with one signing key.
#[test]
fn an_api_is_called_after_its_file_and_not_after_what_the_file_calls_itself() {
    let api = own(&contract(), "");
    assert_eq!((&*api.facts.name, &*api.facts.realm, &*api.facts.public_url), ("own", "own", "own"));
    let api = own(&contract(), "name = \"shop\"\n");
    assert_eq!((&*api.facts.name, &*api.facts.realm, &*api.facts.public_url), ("shop", "shop", "shop"));
}

#[test]
fn switches_reach_the_prefix_of_keys_and_no_identity_header() {
    let switch = "[option.mark]\ndefault = \"zz\"\nhelp = \"h\"\n\n[credentials]";
    let text = contract().replace("[credentials]", switch);
    let marked = text.replace("prefix = \"gw_{api.environment}_\"", "prefix = \"gw_{option.mark}_\"");
    assert_eq!(own(&marked, "").tokens.key_prefix.whole, "gw_zz_");
    let header = text.replace("\"X-Auth-Roles\" = \"account.roles\"", "\"X-Auth-Roles\" = \"option.mark\"");
    assert_eq!(words(&header), ["unknown fact about the caller `option.mark`"]);
}

/// The member that `gateway.toml` must write, `accept`, takes nothing else away.
#[test]
fn an_overlay_replaces_the_members_that_it_names_and_no_others() {
    let overlay = |rest: &str| {
        let path = "[[api.route]]\nname = \"nodes\"\npath = \"/api/t/{t}/nodes\"\nmethods = [\"POST\"]\n";
        let api = own(&contract(), &format!("{path}{rest}"));
        let route = route(&api, Some(Method::POST), "/api/t/{tenant}/nodes").clone();
        assert_eq!((&*route.name, route.tenant.as_deref()), ("nodes", Some("tenant")));
        route
    };
    let narrowed = overlay("accept = [\"jwt\", \"api_key\"]\nallow_ips = [\"10.0.0.0/8\"]\n");
    assert_eq!(access(&narrowed), "jwt,api_key [write] - api_key: [admin] -");
    assert!(!narrowed.allow_ips.is_empty());
    assert_eq!(access(&overlay("accept = [\"jwt\"]\n")), "jwt [write] - api_key: [admin] -");
    assert_eq!(
        access(&overlay("accept = [\"jwt\"]\nscopes = [\"read\"]\nrole = \"viewer\"\n")),
        "jwt [read] viewer api_key: [admin] -"
    );
    assert_eq!(access(&overlay("public = true\n")), "public");
    assert_eq!(access(&overlay("accept = [\"jwt\"]\ntenant = \"{t}\"\n")), "jwt [write] - api_key: [admin] -");
}

#[test]
fn an_overlay_covers_the_methods_that_it_names_also_those_that_the_contract_lists_nowhere() {
    let rest = |methods: &str| {
        format!("[[api.route]]\nname = \"n\"\npath = \"/api/t/{{t}}/nodes\"\n{methods}accept = [\"jwt\"]\nscopes = [\"admin\"]\n")
    };
    let api = own(&contract(), &rest("methods = [\"GET\", \"HEAD\", \"PATCH\"]\n"));
    assert_eq!(access(route(&api, Some(Method::GET), "/api/t/{tenant}/nodes")), "jwt [admin] - api_key: [admin] -");
    assert_eq!(access(route(&api, Some(Method::POST), "/api/t/{tenant}/nodes")), "jwt,api_key [write] - api_key: [admin] -");
    let patch = route(&api, Some(Method::PATCH), "/api/t/{t}/nodes");
    assert_eq!((access(patch).as_str(), patch.tenant.as_deref()), ("jwt [admin] -", Some("t")));
}

#[test]
fn an_overlay_opens_no_method_that_it_does_not_name() {
    let found = |methods: &str| {
        let rest = format!("[[api.route]]\nname = \"n\"\npath = \"/api/t/{{t}}/nodes\"\n{methods}accept = [\"jwt\"]\n");
        build(&format!("{API}contract = \"own.toml\"\n{rest}"), Some(&contract())).1
    };
    assert_eq!(found(""), ["4: the contract lists `/api/t/{t}/nodes` for some methods; a route for all would open the others"]);
    assert_eq!(
        found("methods = [\"HEAD\"]\n"),
        ["7: HEAD goes where GET goes, and the contract lists GET for `/api/t/{t}/nodes`"]
    );
    assert_eq!(found("methods = [\"HEAD\", \"GET\", \"DELETE\"]\n"), Vec::<String>::new());
}

#[test]
fn an_overlay_of_some_methods_keeps_what_the_route_of_all_methods_demands() {
    let rest = "contract = \"native\"\n[[api.route]]\nname = \"w\"\npath = \"/**\"\nmethods = [\"POST\", \"PUT\"]\n\
                accept = [\"api_key\"]\nallow_ips = [\"10.0.0.0/8\"]\n";
    let (api, found) = build(&format!("{API}{rest}"), None);
    assert_eq!(found, Vec::<String>::new());
    let api = api.unwrap();
    let named = api.routes.iter().find(|route| &*route.name == "w").unwrap();
    assert_eq!((access(named).as_str(), named.methods.as_slice()), ("api_key [write] -", [Method::POST, Method::PUT].as_slice()));
    assert_eq!(access(route(&api, None, "/**")), "jwt,api_key [write] -");
}

#[test]
fn a_new_route_below_a_tenants_path_is_the_tenants() {
    let rest = |path: &str, more: &str| {
        let config = format!("[[api.route]]\nname = \"n\"\npath = \"{path}\"\naccept = [\"jwt\"]\n{more}");
        route(&own(&contract(), &config), None, path).tenant.as_deref().map(str::to_owned)
    };
    assert_eq!(rest("/api/t/{who}/special", "").as_deref(), Some("who"));
    assert_eq!(rest("/api/t/{who}/{id}", "tenant = \"{id}\"\n").as_deref(), Some("id"));
    assert_eq!(rest("/api/s/{who}/special", "").as_deref(), None);
    assert_eq!(rest("/api/t", "").as_deref(), None);
}

#[test]
fn an_endpoint_that_acts_for_a_caller_cannot_be_opened() {
    let config = format!(
        "{API}contract = \"own.toml\"\n[[api.route]]\nname = \"n\"\npath = \"/auth/keys\"\nmethods = [\"GET\"]\npublic = true\n"
    );
    let (api, found) = build(&config, Some(&contract()));
    assert!(api.is_none());
    assert_eq!(found, ["8: `keys.list` acts for a caller and cannot be public"]);
}

#[test]
fn by_kind_adds_to_what_all_kinds_must_have() {
    let api = own(&contract(), "");
    let Access::Known { by_kind, .. } = &route(&api, Some(Method::GET), "/api/t/{tenant}/nodes").access else { panic!() };
    assert_eq!(by_kind.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [CredentialKind::ApiKey]);
    let unknown = contract().replace("by_kind = { api_key", "by_kind = { apikey");
    assert!(words(&unknown).contains(&"unknown kind of credential `apikey`".to_owned()), "{:?}", words(&unknown));
}

#[test]
fn refusals_are_errors_and_answers_are_none() {
    let text = contract().replace("not_found = { code", "not_found = { status = 200, code");
    assert_eq!(words(&text), ["an error's `status` is one from 400 to 599"]);
    let text = contract().replace("status = 201", "status = 400");
    assert_eq!(words(&text), ["an answer's `status` is one from 200 to 299; what goes wrong is said in [errors.when]"]);
}

#[test]
fn what_opens_a_prefix_or_never_works_is_refused() {
    for (part, other, told) in [
        ("order = [\"bearer\", \"header X-API-Key\"]", "order = []", "`order` is empty: no credential would ever be found"),
        ("username = \"{account.username}\",", "iss = \"{account.username}\",", "the gateway itself writes the claim `iss`"),
        ("answer.status = 204", "answer = { status = 204, json = {} }", "an answer of status 204 has no body"),
        (
            "on = \"/api/admin/**\"\nscopes = [\"admin\"]",
            "on = \"/api/**\"\npublic = true",
            "`/api/**` lets everybody do everything",
        ),
        ("on = \"/api/admin/**\"\nscopes = [\"admin\"]", "on = \"/**\"\npublic = true", "`/**` lets everybody do everything"),
        ("on = \"/api/admin/**\"\nscopes = [\"admin\"]", "on = \"/api/admin/**\"\nscopes = [\"admn\"]", "unknown scope `admn`"),
        ("{ api_key = { scopes = [\"admin\"] } }", "{ api_key = { scopes = [\"admn\"] } }", "unknown scope `admn`"),
        ("by_kind = { api_key", "accept = [\"jwt\"], by_kind = { api_key", "`accept` does not take the kind `api_key`"),
        ("is = \"login.password\" }", "is = \"login.name\" }", "two members are `login.name`"),
        ("required = true, is = \"login.password\"", "is = \"login.password\"", "`login` cannot do without `login.password`"),
    ] {
        assert!(contract().contains(part), "{part}");
        let found = words(&contract().replace(part, other));
        assert!(found.iter().any(|message| message == told), "{told}: {found:#?}");
    }
}

/// Closed to whoever is not known is not closed: each would see and end the keys of all.
#[test]
fn endpoints_that_reach_the_keys_of_every_account_say_who_may() {
    for (on, operation) in [("GET /auth/keys", "keys.list"), ("DELETE /auth/keys/{id}", "keys.revoke")] {
        let part = format!("on = \"{on}\"\nscopes = [\"admin\"]");
        assert!(contract().contains(&part));
        let text = contract().replace(&part, &format!("on = \"{on}\""));
        assert_eq!(words(&text), [format!("`{operation}` reaches the keys of every account")]);
        own(&contract().replace(&part, &format!("on = \"{on}\"\nrole = \"admin\"")), "");
    }
}

/// Else whoever has a session would reach what no rule lists below the tenants of others.
#[test]
fn what_no_rule_lists_below_a_tenants_path_is_the_tenants_too() {
    let text = contract().replace("unmapped = \"deny\"", "unmapped = \"sessions\"");
    let listed = text.replace(",\n{ on = \"/**\", role = \"editor\" } ]", " ]");
    assert_ne!(text, listed);
    let api = own(&listed, "outside = \"public\"\n");
    let rest = route(&api, None, "/api/t/{tenant}/**");
    assert_eq!((access(rest).as_str(), rest.tenant.as_deref()), ("jwt [] - unmapped", Some("tenant")));
    assert_eq!(route(&api, None, "/api/**").tenant, None);
    assert_eq!(access(route(&own(&text, ""), None, "/api/t/{tenant}/**")), "jwt,api_key [] editor", "a rule is stronger");
}

/// The narrower route wins: had it forgotten what the wider one demands, it would let in whoever has a session.
#[test]
fn some_methods_of_a_route_for_all_keep_its_demands() {
    let rest =
        "[[api.route]]\nname = \"n\"\npath = \"/api/admin/**\"\nmethods = [\"GET\"]\naccept = [\"jwt\"]\nmax_body = \"1KiB\"\n";
    let api = own(&contract(), rest);
    let narrowed = route(&api, Some(Method::GET), "/api/admin/**");
    assert_eq!((access(narrowed).as_str(), narrowed.max_body), ("jwt [admin] -", Some(1024)));
    let whole = route(&api, None, "/api/admin/**");
    assert_eq!((access(whole).as_str(), whole.max_body), ("jwt,api_key [admin] -", None));
}

#[test]
fn no_prefix_is_opened_as_a_whole_and_no_scope_is_asked_for_that_nobody_can_hold() {
    let route = |members: &str| {
        let config = format!("{API}contract = \"own.toml\"\n[[api.route]]\nname = \"n\"\n{members}");
        build(&config, Some(&contract())).1
    };
    assert_eq!(route("path = \"/api/{**rest}\"\npublic = true\n"), ["6: `/api/{**rest}` lets everybody do everything"]);
    assert_eq!(route("path = \"/api/x\"\naccept = [\"jwt\"]\nscopes = [\"raed\"]\n"), ["4: unknown scope `raed`"]);
    assert_eq!(route("path = \"/api/open/**\"\npublic = true\n"), Vec::<String>::new());
}

#[test]
fn a_limit_that_would_never_be_spent_is_refused() {
    for (per, more, refused) in [
        ("per = [\"account\"]", "public = true", true),
        ("per = [\"account\"]\nelse_per = [\"client_ip\"]", "public = true", false),
        ("per = [\"account\"]", "accept = [\"jwt\"]", false),
        ("per = [\"key\"]", "accept = [\"jwt\"]", true),
        ("per = [\"key\"]", "accept = [\"jwt\", \"api_key\"]", false),
        ("per = [\"tenant\"]", "accept = [\"jwt\"]", true),
        ("per = [\"tenant\"]\nelse_per = [\"tenant\"]", "accept = [\"jwt\"]", true),
    ] {
        let config = format!(
            "{API}contract = \"own.toml\"\n[[api.route]]\nname = \"n\"\npath = \"/api/x\"\n{more}\nlimits = [\"l\"]\n\
             [[api.limit]]\nname = \"l\"\nquota = \"1 per 1m\"\n{per}\n"
        );
        let expected: &[&str] =
            if refused { &["8: the limit `l` counts by what `/api/x` never knows: it would not be spent"] } else { &[] };
        assert_eq!(build(&config, Some(&contract())).1, expected, "{per} {more}");
    }
}
