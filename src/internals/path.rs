//! Paths: what the normaliser accepts has one form, and no later reader leaves its segments.

use percent_encoding::percent_decode_str;

use crate::pipeline::NormalPath;

/// # Panics
/// When an accepted path has a second form, or a reader that decodes it once or twice could see other segments.
pub fn path(raw: &str) {
    let Ok(normal) = NormalPath::parse(raw) else { return };
    let normal = normal.as_str();
    let again = NormalPath::parse(normal);
    assert_eq!(again.as_ref().map(NormalPath::as_str).map_err(ToString::to_string), Ok(normal), "{raw:?} has two forms");
    let target: http::Uri = normal.parse().unwrap_or_default();
    assert_eq!((target.path(), target.query()), (normal, None), "{raw:?} is another target");
    assert!(normal.bytes().all(|byte| byte.is_ascii_graphic()), "{normal:?}");
    let lower = normal.to_ascii_lowercase();
    for refused in ["//", ";", "\\", "%2f", "%5c", "%3b", "%00", "%0d", "%0a", "?", "#"] {
        assert!(!lower.contains(refused), "{normal:?} holds {refused}");
    }
    let once = String::from_utf8_lossy(&percent_decode_str(normal).collect::<Vec<u8>>()).into_owned();
    assert!(!once.contains(char::REPLACEMENT_CHARACTER) || lower.contains("%ef%bf%bd"), "{normal:?} is no UTF-8");
    let twice = percent_decode_str(&once).decode_utf8_lossy().into_owned();
    let segments = normal.split('/').count();
    for form in [normal, &once, &twice] {
        assert!(!form.split('/').any(|part| part == "." || part == ".."), "{normal:?} leaves its segment as {form:?}");
        assert_eq!(form.split('/').count(), segments, "{normal:?} has other segments as {form:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn accepted_paths_have_one_form(raw in "/[a-zA-Z0-9%./;\\\\~?# -]{0,40}") {
            path(&raw);
            prop_assert!(raw.starts_with('/'));
        }

        #[test]
        fn no_accepted_path_leaves_its_segment_when_it_is_decoded_again(raw in "/[a-f0-9%./2eEfFcC5;]{0,40}") {
            path(&raw);
            prop_assert!(raw.starts_with('/'));
        }
    }
}
