//! Paths and methods to routes. Segment by segment a literal beats a capture and a capture beats a tail; when the better
//! branch has no route for the method, the next one is tried, so that `POST /nodes/query` does not hide `GET /nodes/**`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::config::value::{PathPattern, Segment};
use crate::pipeline::path::NormalPath;

/// The compiled routes of one API. Values are indexes into its list of routes.
#[derive(Debug, Default)]
pub struct Tree {
    root: Branch,
}

#[derive(Debug, Default)]
struct Branch {
    literals: HashMap<String, Self>,
    capture: Option<Box<Self>>,
    /// Routes that end here.
    ends: Vec<End>,
    /// Routes that take whatever follows, nothing included.
    tails: Vec<End>,
}

/// One route at its end.
#[derive(Debug)]
struct End {
    route: usize,
    /// Empty = all.
    methods: Vec<Method>,
    conditions: Vec<(HeaderName, HeaderValue)>,
    captures: Vec<Arc<str>>,
    tail: Option<Arc<str>>,
}

/// What a path leads to.
#[derive(Debug, PartialEq, Eq)]
pub enum Lookup {
    Found {
        route: usize,
        captures: Vec<(Arc<str>, String)>,
    },
    /// Routes match the path and none takes the method: the methods that they take, for `Allow`.
    WrongMethod(Vec<Method>),
    /// Routes match the path and the method, and none the headers. No wider route takes such a request.
    Unmet,
    Nothing,
}

impl Tree {
    /// `conditions` are the headers that a request must have besides.
    pub fn insert(&mut self, pattern: &PathPattern, methods: &[Method], conditions: &[(HeaderName, HeaderValue)], route: usize) {
        let mut branch = &mut self.root;
        let mut tail = None;
        let mut is_tail = false;
        for segment in &pattern.segments {
            match segment {
                Segment::Literal(text) => branch = branch.literals.entry(text.clone()).or_default(),
                Segment::Capture(_) => branch = branch.capture.get_or_insert_default(),
                Segment::Tail(name) => {
                    is_tail = true;
                    tail.clone_from(name);
                }
            }
        }
        let capture = |segment: &Segment| if let Segment::Capture(name) = segment { Some(name.clone()) } else { None };
        let captures = pattern.segments.iter().filter_map(capture).collect();
        let end = End { route, methods: methods.to_vec(), conditions: conditions.to_vec(), captures, tail };
        let ends = if is_tail { &mut branch.tails } else { &mut branch.ends };
        // A route that asks for more headers stands before one that asks for fewer, and of two that ask for as many one that
        // names its methods before one that takes all; else they stand as they come.
        let rank = |end: &End| (std::cmp::Reverse(end.conditions.len()), end.methods.is_empty());
        let at = ends.iter().take_while(|earlier| rank(earlier) <= rank(&end)).count();
        ends.insert(at, end);
    }

    pub fn find(&self, method: &Method, path: &NormalPath, headers: &HeaderMap) -> Lookup {
        // One trailing slash is no segment of its own: clients write both forms, and both are one resource.
        let mut segments: Vec<&str> = path.segments().collect();
        if segments.last().is_some_and(|last| last.is_empty()) {
            segments.pop();
        }
        let mut search = Search { method, headers, segments: &segments, values: Vec::new(), allowed: Vec::new(), closed: false };
        match search.descend(&self.root, 0) {
            Some((route, captures)) => Lookup::Found { route, captures },
            None if search.closed => Lookup::Unmet,
            None if search.allowed.is_empty() => Lookup::Nothing,
            None => Lookup::WrongMethod(search.allowed),
        }
    }
}

impl End {
    /// HEAD goes where GET goes (RFC 9110, section 9.3.2), unless a route names it.
    fn takes(&self, method: &Method) -> bool {
        let named = |method: &Method| self.methods.contains(method);
        self.methods.is_empty() || named(method) || (method == Method::HEAD && named(&Method::GET))
    }

    /// Whether each header that is asked for stands there once, with that value.
    fn is_met(&self, headers: &HeaderMap) -> bool {
        self.conditions.iter().all(|(name, wanted)| {
            let mut lines = headers.get_all(name).iter();
            lines.next() == Some(wanted) && lines.next().is_none()
        })
    }
}

struct Search<'t> {
    method: &'t Method,
    headers: &'t HeaderMap,
    segments: &'t [&'t str],
    /// The captured segments on the way to the current branch.
    values: Vec<&'t str>,
    allowed: Vec<Method>,
    /// The path has routes of its own, and the headers are none of theirs: a wider one, which may ask for less, is not tried.
    closed: bool,
}

type Hit = (usize, Vec<(Arc<str>, String)>);

impl Search<'_> {
    fn descend(&mut self, branch: &Branch, depth: usize) -> Option<Hit> {
        let Some(&segment) = self.segments.get(depth) else {
            return self.choose(&branch.ends, depth).or_else(|| self.choose(&branch.tails, depth));
        };
        // Decoded, because the upstream decodes it: `v1%2e0` is `v1.0`, whichever of the two a pattern says.
        if let Some(next) = branch.literals.get(&*decode(segment))
            && let Some(hit) = self.descend(next, depth + 1)
        {
            return Some(hit);
        }
        if let Some(next) = &branch.capture {
            self.values.push(segment);
            let hit = self.descend(next, depth + 1);
            self.values.pop();
            if hit.is_some() {
                return hit;
            }
        }
        self.choose(&branch.tails, depth)
    }

    fn choose(&mut self, ends: &[End], depth: usize) -> Option<Hit> {
        if self.closed {
            return None;
        }
        for end in ends {
            if end.takes(self.method) {
                if !end.is_met(self.headers) {
                    self.closed = true;
                    continue;
                }
                return Some((end.route, self.captures(end, depth)));
            }
            let new = end.methods.iter().filter(|method| !self.allowed.contains(method)).cloned().collect::<Vec<_>>();
            self.allowed.extend(new);
        }
        None
    }

    fn captures(&self, end: &End, depth: usize) -> Vec<(Arc<str>, String)> {
        let mut out: Vec<(Arc<str>, String)> =
            end.captures.iter().zip(&self.values).map(|(name, value)| (name.clone(), decode(value).into_owned())).collect();
        if let Some(name) = &end.tail {
            out.push((name.clone(), self.segments.get(depth..).unwrap_or_default().join("/")));
        }
        out
    }
}

/// The normaliser proved that the escapes are UTF-8 and hold no slash.
fn decode(segment: &str) -> Cow<'_, str> {
    percent_encoding::percent_decode_str(segment).decode_utf8_lossy()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tree(routes: &[&str]) -> Tree {
        let mut tree = Tree::default();
        for (index, route) in routes.iter().enumerate() {
            let (method, path) = route.split_once(' ').unwrap();
            let methods = if method == "*" { vec![] } else { vec![method.parse().unwrap()] };
            tree.insert(&PathPattern::parse(path).unwrap(), &methods, &[], index);
        }
        tree
    }

    fn find(routes: &[&str], method: &str, path: &str) -> String {
        match tree(routes).find(&method.parse().unwrap(), &NormalPath::parse(path).unwrap(), &HeaderMap::new()) {
            Lookup::Found { route, captures } => {
                let captures: Vec<String> = captures.iter().map(|(name, value)| format!(" {name}={value}")).collect();
                format!("{}{}", routes[route], captures.concat())
            }
            Lookup::WrongMethod(allowed) => format!("allow {}", allowed.iter().map(Method::as_str).collect::<Vec<_>>().join(",")),
            Lookup::Unmet => "unmet".to_owned(),
            Lookup::Nothing => "nothing".to_owned(),
        }
    }

    #[test]
    fn literals_beat_captures_and_captures_beat_tails() {
        let routes = ["GET /a/b", "GET /a/{x}", "GET /a/**", "* /**"];
        assert_eq!(find(&routes, "GET", "/a/b"), "GET /a/b");
        assert_eq!(find(&routes, "GET", "/a/c"), "GET /a/{x} x=c");
        assert_eq!(find(&routes, "GET", "/a/c/d"), "GET /a/**");
        assert_eq!(find(&routes, "GET", "/a"), "GET /a/**");
        assert_eq!(find(&routes, "GET", "/ab"), "* /**");
    }

    #[test]
    fn a_better_path_with_the_wrong_method_does_not_hide_another_route() {
        let routes = ["POST /nodes/query", "GET /nodes/**"];
        assert_eq!(find(&routes, "GET", "/nodes/query"), "GET /nodes/**");
        assert_eq!(find(&routes, "POST", "/nodes/query"), "POST /nodes/query");
        assert_eq!(find(&routes, "PUT", "/nodes/query"), "allow POST,GET");
        assert_eq!(find(&routes, "PUT", "/node"), "nothing");
    }

    #[test]
    fn head_goes_where_get_goes() {
        assert_eq!(find(&["GET /a", "* /**"], "HEAD", "/a"), "GET /a");
    }

    #[test]
    fn the_search_goes_back_when_a_literal_branch_leads_nowhere() {
        let routes = ["GET /{t}/x", "GET /a/y"];
        assert_eq!(find(&routes, "GET", "/a/x"), "GET /{t}/x t=a");
    }

    /// What an upstream reads as one path is judged as one path.
    #[test]
    fn an_escaped_character_does_not_lead_past_a_literal() {
        let routes = ["GET /v1.0/admin", "POST /items:purge", "* /**"];
        assert_eq!(find(&routes, "GET", "/v1%2e0/admin"), "GET /v1.0/admin");
        assert_eq!(find(&routes, "GET", "/v1%2E0/%61dmin/"), "GET /v1.0/admin");
        assert_eq!(find(&routes, "POST", "/items%3Apurge"), "POST /items:purge");
        assert_eq!(find(&routes, "GET", "/v1%2d0/admin"), "* /**");
    }

    /// The route that asks for most headers wins; what meets none of them reaches no wider route.
    #[test]
    fn headers_choose_among_the_routes_of_one_path() {
        let mut tree = Tree::default();
        let condition =
            |name: &'static str, value: &'static str| (HeaderName::from_static(name), HeaderValue::from_static(value));
        let two = [condition("x-a", "1"), condition("x-b", "2")];
        let path = |text: &str| PathPattern::parse(text).unwrap();
        tree.insert(&path("/p"), &[Method::GET], &two[..1], 1);
        tree.insert(&path("/p"), &[], &two, 2);
        tree.insert(&path("/q"), &[], &two[1..], 3);
        tree.insert(&path("/q"), &[], &[], 4);
        tree.insert(&path("/**"), &[], &[], 5);
        let found = |method: Method, path: &str, lines: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(*name, HeaderValue::from_static(value));
            }
            match tree.find(&method, &NormalPath::parse(path).unwrap(), &headers) {
                Lookup::Found { route, .. } => route,
                Lookup::WrongMethod(_) | Lookup::Unmet | Lookup::Nothing => 0,
            }
        };
        assert_eq!(found(Method::GET, "/p", &[("x-a", "1")]), 1);
        assert_eq!(found(Method::GET, "/p", &[("x-a", "1"), ("x-b", "2")]), 2);
        assert_eq!(found(Method::GET, "/p", &[("x-a", "1"), ("x-b", "3")]), 1);
        assert_eq!(found(Method::GET, "/p", &[("x-a", "1"), ("x-a", "1")]), 0);
        assert_eq!(found(Method::GET, "/p", &[("x-a", "2")]), 0);
        assert_eq!(found(Method::GET, "/p", &[]), 0);
        assert_eq!(found(Method::POST, "/p", &[("x-a", "1")]), 0);
        assert_eq!((found(Method::GET, "/q", &[]), found(Method::GET, "/q", &[("x-b", "2")])), (4, 3));
        assert_eq!(found(Method::GET, "/r", &[]), 5);
    }

    /// O9: a rule for /admin/pki does not match /admin/pkix.
    #[test]
    fn prefixes_end_at_a_slash() {
        assert_eq!(find(&["GET /admin/pki/**"], "GET", "/admin/pkix"), "nothing");
    }

    #[test]
    fn a_trailing_slash_is_the_same_resource_and_captures_are_decoded() {
        assert_eq!(find(&["GET /k/{id}"], "GET", "/k/a%20b/"), "GET /k/{id} id=a b");
        assert_eq!(find(&["GET /f/{**rest}"], "GET", "/f/a/b"), "GET /f/{**rest} rest=a/b");
        assert_eq!(find(&["GET /f/{**rest}"], "GET", "/f"), "GET /f/{**rest} rest=");
    }

    /// What the tree must find, by trying every pattern: the most specific of those that match path and method.
    fn by_trying(routes: &[String], segments: &[&str]) -> Option<usize> {
        let rank = |pattern: &PathPattern| -> Option<Vec<u8>> {
            let mut ranks = Vec::new();
            for (index, segment) in pattern.segments.iter().enumerate() {
                match segment {
                    Segment::Tail(_) => {
                        ranks.push(2);
                        return Some(ranks);
                    }
                    Segment::Literal(text) if segments.get(index) == Some(&text.as_str()) => ranks.push(0),
                    Segment::Capture(_) if index < segments.len() => ranks.push(1),
                    Segment::Literal(_) | Segment::Capture(_) => return None,
                }
            }
            (pattern.segments.len() == segments.len()).then_some(ranks)
        };
        let ranked =
            routes.iter().enumerate().filter_map(|(index, text)| Some((rank(&PathPattern::parse(text).unwrap())?, index)));
        ranked.min().map(|(_, index)| index)
    }

    proptest! {
        #[test]
        fn the_tree_finds_what_trying_every_pattern_finds(
            routes in proptest::collection::hash_set("(/(a|b|\\{x\\}|\\{y\\})){1,3}(/\\*\\*)?", 1..8),
            path in "(/(a|b|c)){1,4}",
        ) {
            let mut shapes = std::collections::HashSet::new();
            let routes: Vec<String> = routes.into_iter()
                .filter(|text| PathPattern::parse(text).is_ok_and(|pattern| shapes.insert(pattern.shape())))
                .collect();
            let mut tree = Tree::default();
            for (index, text) in routes.iter().enumerate() {
                tree.insert(&PathPattern::parse(text).unwrap(), &[], &[], index);
            }
            let normal = NormalPath::parse(&path).unwrap();
            let found = match tree.find(&Method::GET, &normal, &HeaderMap::new()) {
                Lookup::Found { route, .. } => Some(route),
                Lookup::WrongMethod(_) | Lookup::Unmet | Lookup::Nothing => None,
            };
            let segments: Vec<&str> = normal.segments().collect();
            prop_assert_eq!(found, by_trying(&routes, &segments));
        }
    }
}
