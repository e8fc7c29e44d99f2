//! Keys whose place the issuer's metadata tells.

use super::*;

#[tokio::test]
async fn an_issuer_is_discovered_in_both_ways() {
    for (path, found, asked) in [
        ("", "/.well-known/openid-configuration", &["/.well-known/openid-configuration"][..]),
        (
            "/realm/",
            "/.well-known/oauth-authorization-server/realm",
            &["/realm/.well-known/openid-configuration", "/.well-known/oauth-authorization-server/realm"],
        ),
    ] {
        let body = jwks(&["a"]);
        let server = Server::http(move |head| {
            let (path_asked, host) = (head.split(' ').nth(1).unwrap(), head.split("host: ").nth(1).unwrap());
            let host = host.lines().next().unwrap();
            match path_asked {
                "/keys" => Reply::ok(&body),
                path_asked if path_asked == found => Reply::ok(
                    json!({ "issuer": format!("http://{host}{path}"), "jwks_uri": format!("http://{host}/keys") }).to_string(),
                ),
                _ => Reply::with("404 Not Found", "", "{}"),
            }
        });
        let source = KeySource::fetched(ISSUER, fetching(KeyPlace::Discover { issuer: server.url("http", path) }));
        assert_eq!(source.status(clock::now()).url, None);
        assert_eq!(source.refresh_now().await, Ok(()));
        assert!(keys(&source).set.knows("a"));
        assert_eq!(source.status(clock::now()).url, Some(server.url("http", "/keys")));
        let paths: Vec<String> = server.heads().iter().map(|head| head.split(' ').nth(1).unwrap().to_owned()).collect();
        assert_eq!(paths, [asked, &["/keys"]].concat());
    }
}

/// G3 G5
#[tokio::test]
async fn what_is_discovered_is_judged_like_what_is_configured() {
    let nowhere = "nothing is fetched from there";
    let by_https = "http is for loopback addresses, everything else is fetched by https";
    for (end, jwks_uri, expected) in [
        (
            "",
            "https://169.254.169.254/",
            format!("169.254.169.254 has the address 169.254.169.254, which is link-local: {nowhere}"),
        ),
        ("", "http://8.8.8.8/", format!("8.8.8.8 has the address 8.8.8.8, which is public: {by_https}")),
        ("", "file:///etc/passwd", "(without host): it is no URL".to_owned()),
        (
            "/",
            "https://keys.test/",
            "its metadata is of the issuer \"ISSUER/\", and the config says \"ISSUER\"; they must be equal to the byte"
                .to_owned(),
        ),
    ] {
        let server = Server::http(move |head| {
            let host = head.split("host: ").nth(1).unwrap().lines().next().unwrap();
            Reply::ok(json!({ "issuer": format!("http://{host}{end}"), "jwks_uri": jwks_uri }).to_string())
        });
        let issuer = server.url("http", "");
        let source = KeySource::fetched(ISSUER, fetching(KeyPlace::Discover { issuer: issuer.clone() }));
        assert_eq!(source.refresh_now().await, Err(expected.replace("ISSUER", &issuer)));
        assert_eq!(server.count(), 1);
    }
    let endless = Server::http(|_| Reply::Endless(b"HTTP/1.1 200 OK\r\n\r\n{".to_vec(), vec![b' '; 1 << 16]));
    let source = KeySource::fetched(ISSUER, fetching(KeyPlace::Discover { issuer: endless.url("http", "") }));
    let expected = "its metadata cannot be fetched: the answer of localhost has more than 262144 bytes";
    assert_eq!(source.refresh_now().await, Err(expected.to_owned()));
}
