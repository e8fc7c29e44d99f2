//! What a text is taken for: a token, a key of the gateway's own, or one that was made elsewhere.

use super::*;

#[test]
fn kinds_that_take_the_gateways_own_credentials_for_others_are_refused() {
    let text = contract().replace("{ prefix = \"gw_\", kind = \"api_key\" }", "{ prefix = \"gx_\", kind = \"api_key\" }");
    assert_eq!(words(&text), ["`kinds` takes `gw_live_…` for another kind than api_key"]);
    let text = contract().replace("{ prefix = \"gw_\", kind = \"api_key\" }", "{ prefix = \"gw_\", kind = \"jwt\" }");
    assert_eq!(words(&text), ["`kinds` takes `gw_live_…` for another kind than api_key"]);
    let text = contract().replace("{ kind = \"jwt\" }", "{ kind = \"api_key\" }");
    assert_eq!(words(&text), ["`kinds` takes `eyJ…` for another kind than jwt"]);
}

#[test]
fn what_nothing_else_tells_from_a_token_is_told_by_its_carrier_or_by_the_prefixes_of_gateway_toml() {
    let carriers = [Carrier::Bearer, Carrier::parse("header X-API-Key").unwrap()];
    let told = |rest: &str, text: &str| {
        let api = own(&contract(), rest);
        (carriers.each_ref().map(|carrier| api.kind_of(carrier, text).unwrap()), api.kind_in_any_carrier(text).unwrap())
    };
    let (jwt, key) = (CredentialKind::Jwt, CredentialKind::ApiKey);
    let prefixes = "[api.credentials]\nkey_prefixes = [\"ak_\", \"SG.\"]\n";
    for (rest, text, kinds, anywhere) in [
        ("", "ak_0123456789", [jwt, key], key),
        (prefixes, "ak_0123456789", [key, key], key),
        (prefixes, "SG.0123456789", [key, key], key),
        (prefixes, "sg.0123456789", [jwt, key], key),
        (prefixes, "gw_live_x", [key, key], key),
        (prefixes, "eyJx.y.z", [jwt, jwt], jwt),
        ("[api.credentials]\ncarriers = [\"bearer\"]\n", "ak_0123456789", [jwt, key], jwt),
        ("[api.credentials]\ncarriers = [\"header X-API-Key\"]\n", "ak_0123456789", [jwt, jwt], jwt),
    ] {
        assert_eq!(told(rest, text), (kinds, anywhere), "{rest} {text}");
    }
}

#[test]
fn keys_made_elsewhere_name_no_environment() {
    let api = own(&contract(), "[api.credentials]\nkey_prefixes = [\"gw_old_\"]\n");
    assert_eq!(api.tokens.foreign_environment("gw_test_0123"), Some("test"));
    assert_eq!(api.tokens.foreign_environment("gw_old_0123"), None);
}

#[test]
fn prefixes_that_no_key_or_every_token_has_are_refused() {
    for (prefix, why) in [
        ("", "what keys begin with is visible ASCII without blanks and commas"),
        ("a b", "what keys begin with is visible ASCII without blanks and commas"),
        ("a,", "what keys begin with is visible ASCII without blanks and commas"),
        ("ey", "every JSON Web Token begins with `eyJ`"),
        ("eyJh", "every JSON Web Token begins with `eyJ`"),
    ] {
        let config = format!("{API}contract = \"native\"\n[api.credentials]\nkey_prefixes = [\"ak_\", \"{prefix}\"]\n");
        assert_eq!(build(&config, None).1, [format!("5: {why}")], "{prefix}");
    }
}
