//! Paths that the upstream sees otherwise than the client sent them: no rewrite leads past a rule.

use crate::support::{Gateway, Upstream, vectors};

/// `/public` is open and `/svc` asks for a session; of both the upstream sees the rest. `/admin` is protected.
fn gateway(upstream: &Upstream) -> Gateway {
    let route = |name: &str, path: &str, more: &str| format!("[[api.route]]\nname = \"{name}\"\npath = \"{path}\"\n{more}\n");
    Gateway::start(&format!(
        "[[api]]\nupstream = \"{}\"\ncontract = \"infracast\"\n{}{}{}",
        upstream.url(),
        route("public", "/public/{**rest}", "public = true\nrewrite = { strip_prefix = \"/public\" }"),
        route("svc", "/svc/{**rest}", "accept = [\"jwt\"]\nrewrite = { strip_prefix = \"/svc\" }"),
        route("admin", "/admin/{**rest}", "accept = [\"api_key\"]"),
    ))
}

fn line(upstream: &Upstream) -> String {
    upstream.last().lines().next().unwrap_or_default().to_owned()
}

/// A3: the rules of the path that a rewrite makes hold beside those of the path that was asked for.
#[test]
fn a_rewritten_path_has_the_rules_of_both() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    gateway.add_user("ann", "correct horse", &["prod=viewer"]);
    gateway.add_user("root", "correct horse", &["admin"]);
    let bearer = |name: &str| format!("Authorization: Bearer {}", gateway.login(name, "correct horse").0);
    let (ann, root) = (bearer("ann"), bearer("root"));
    for (path, seen) in [
        ("/public/a/b?c=/d", "GET /a/b?c=/d HTTP/1.1"),
        ("/public", "GET / HTTP/1.1"),
        ("/public/", "GET / HTTP/1.1"),
        ("/public/health", "GET /health HTTP/1.1"),
        ("/public/public/a", "GET /public/a HTTP/1.1"),
        ("/public/%61", "GET /a HTTP/1.1"),
    ] {
        upstream.forget();
        assert_eq!((gateway.get(path, &[]).status, line(&upstream).as_str()), (200, seen), "{path}");
    }
    upstream.forget();
    for (path, credential, status, reason) in [
        ("/public/admin", "", 401, "refused credential credential_missing"),
        ("/public/admin/x", "", 401, "refused credential credential_missing"),
        ("/public/ADMIN/x", "", 400, "refused route path_ambiguous"),
        ("/public/%2561dmin", "", 400, "refused route path_ambiguous"),
        ("/public/..%2fadmin", "", 400, "refused route path_ambiguous"),
        ("/public//admin", "", 400, "refused route path_ambiguous"),
        ("/public/api/v1/tenants/prod/nodes", "", 401, "refused credential credential_missing"),
        ("/publicadmin", "", 404, "refused route no_route"),
        ("/svc/a", "", 401, "refused credential credential_missing"),
        ("/svc/admin/x", &root, 401, "refused credential credential_kind_refused"),
        ("/svc/api/v1/admin/x", &ann, 403, "refused authorize scope_missing"),
        ("/svc/api/v1/tenants/dev/nodes", &ann, 403, "refused authorize tenant_foreign"),
    ] {
        let answer = gateway.get(path, &[credential].into_iter().filter(|line| !line.is_empty()).collect::<Vec<_>>());
        assert_eq!((answer.status, gateway.why(&answer).as_str()), (status, reason), "{path}");
    }
    // What the gateway answers itself is no way to an endpoint of that name behind it.
    let answer = gateway.post("/public/api/v1/auth/token", &[], "{}");
    assert_eq!((answer.status, gateway.why(&answer).as_str()), (404, "refused route no_route"));
    assert_eq!(upstream.count(), 0);
    assert_eq!(gateway.get("/svc/api/v1/admin/x", &[&root]).status, 200);
    assert_eq!(line(&upstream), "GET /api/v1/admin/x HTTP/1.1");
    assert_eq!(gateway.get("/svc/api/v1/tenants/prod/nodes", &[&ann]).status, 200);
    assert_eq!(line(&upstream), "GET /api/v1/tenants/prod/nodes HTTP/1.1");
}

/// A3: the shared vectors through a rewrite: whatever is asked for, nothing protected is reached.
#[test]
fn no_spelling_leads_through_a_rewrite_to_what_is_protected() {
    let Some(rows) = vectors("own/paths.json") else { return };
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    let mut asked = 0;
    for row in rows["tests"].as_array().unwrap() {
        let Some(target) = row["target"].as_str() else { continue };
        for target in [target.to_owned(), format!("/public{target}")] {
            if target.bytes().any(|byte| byte <= b' ') {
                continue;
            }
            gateway.raw(format!("GET {target} HTTP/1.1\r\nHost: gw.test\r\nConnection: close\r\n\r\n"));
            asked += 1;
        }
    }
    assert!(asked > 100, "{asked}");
    let seen = upstream.requests();
    assert!(seen.len() > 10, "{}", seen.len());
    let protected = |request: &&String| {
        let target = request.split(' ').nth(1).unwrap_or_default().to_lowercase();
        let path = target.split('?').next().unwrap_or_default();
        path == "/admin" || path.starts_with("/admin/") || path.split('/').any(|segment| segment == "..")
    };
    assert_eq!(seen.iter().filter(protected).collect::<Vec<_>>(), Vec::<&String>::new());
}

/// A3: the limits of the path that is left are spent too, and the tenant of the path that was asked for stays the tenant.
#[test]
fn a_rewrite_leads_past_no_limit_and_into_no_other_tenant() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&format!(
        "[[api]]\nupstream = \"{}\"\ncontract = \"native\"\n\
         [[api.limit]]\nname = \"few\"\nper = [\"client_ip\"]\nquota = \"2 per 1h\"\n\
         [[api.route]]\nname = \"items\"\npath = \"/items/{{**rest}}\"\npublic = true\nlimits = [\"few\"]\nmax_body = \"8B\"\n\
         [[api.route]]\nname = \"v1\"\npath = \"/v1/{{**rest}}\"\npublic = true\nrewrite = {{ strip_prefix = \"/v1\" }}\n\
         [[api.route]]\nname = \"t\"\npath = \"/t/{{tenant}}/{{**rest}}\"\naccept = [\"jwt\"]\ntenant = \"{{tenant}}\"\n\
         rewrite = {{ strip_prefix = \"/t\" }}\n",
        upstream.url()
    ));
    let large = gateway.request("POST", "/v1/items/a", &[], "123456789");
    assert_eq!((large.status, gateway.why(&large).as_str()), (413, "refused listener body_too_large"));
    assert_eq!(gateway.get("/v1/items/a", &[]).status, 200);
    let over = gateway.get("/v1/items/a", &[]);
    assert_eq!((over.status, gateway.why(&over).as_str()), (429, "refused limit over_limit"));
    assert_eq!(upstream.count(), 1);
    gateway.add_user("ann", "correct horse", &["t=viewer", "prod=viewer"]);
    let login = gateway.post("/auth/login", &[], r#"{"username":"ann","password":"correct horse"}"#).json();
    let bearer = format!("Authorization: Bearer {}", login["access_token"].as_str().unwrap());
    let crossed = gateway.get("/t/t/prod/x", &[&bearer]);
    assert_eq!((crossed.status, gateway.why(&crossed).as_str()), (403, "refused authorize tenant_foreign"));
    assert_eq!(upstream.count(), 1);
}
