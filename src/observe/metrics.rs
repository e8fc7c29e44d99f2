//! Numbers for Prometheus. Every label comes from the config file or from a closed set; nothing that a caller sends
//! becomes a label.
//!
//! A route's handle is resolved when its config is loaded: what a request does with it is a few atomic additions.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::observe::histogram::Histogram;
use crate::observe::shard::Sharded;
use crate::rejection::Rejection;

/// A cheap clone.
#[derive(Clone, Default)]
pub struct Metrics {
    routes: Arc<Mutex<Routes>>,
    readings: Arc<Mutex<BTreeMap<&'static str, Reading>>>,
}

/// By API and route, in the order in which they are rendered.
type Routes = BTreeMap<(String, String), Arc<RouteMetrics>>;

/// What is counted for one route. Recording takes no lock.
pub struct RouteMetrics {
    served: Sharded<CLASSES>,
    /// A row of status classes for each reason.
    rejected: Box<[AtomicU64]>,
    duration: Histogram,
}

/// A value that its owner keeps, read when the metrics are rendered.
struct Reading {
    help: &'static str,
    value: Value,
}

enum Value {
    Gauge(Box<dyn Fn() -> f64 + Send + Sync>),
    Counter(Box<dyn Fn() -> u64 + Send + Sync>),
    Gauges { label: &'static str, read: Box<dyn Fn() -> Vec<(String, f64)> + Send + Sync> },
    Family { label: &'static str, counters: Box<dyn Fn() -> Vec<(&'static str, u64)> + Send + Sync> },
    Table { kind: MetricType, labels: Labels, rows: Box<dyn Fn() -> Rows + Send + Sync> },
    Histogram(Arc<Histogram>),
}

type Labels = [&'static str; 2];

/// Numbers by the values of two labels, which come from the config.
pub type Rows = BTreeMap<[String; 2], u64>;

impl Metrics {
    /// The handle of a route; the same one for the same names. Requests that match no route have a handle too, with an
    /// empty `route`. Beyond 10,000 routes, which no config reaches, the rest share one handle.
    pub fn route(&self, api: &str, route: &str) -> Arc<RouteMetrics> {
        let mut routes = lock(&self.routes);
        let known = routes.contains_key(&(api.to_owned(), route.to_owned()));
        let key = if known || routes.len() < ROUTES { (api, route) } else { ("others", "others") };
        Arc::clone(routes.entry((key.0.to_owned(), key.1.to_owned())).or_default())
    }

    /// A value that goes up and down, e.g. open connections. `read` must not block. A name that is taken is replaced.
    pub fn gauge(&self, name: &'static str, help: &'static str, read: impl Fn() -> f64 + Send + Sync + 'static) {
        lock(&self.readings).insert(name, Reading { help, value: Value::Gauge(Box::new(read)) });
    }

    /// A value that only goes up, e.g. lines that the access log dropped; `_total` is added to the name.
    pub fn counter(&self, name: &'static str, help: &'static str, read: impl Fn() -> u64 + Send + Sync + 'static) {
        lock(&self.readings).insert(name, Reading { help, value: Value::Counter(Box::new(read)) });
    }

    /// Values that only go up, told apart by one label. `read` gives each of its words, a closed set, with the value.
    pub fn family(
        &self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        read: impl Fn() -> Vec<(&'static str, u64)> + Send + Sync + 'static,
    ) {
        lock(&self.readings).insert(name, Reading { help, value: Value::Family { label, counters: Box::new(read) } });
    }

    /// Values that go up and down, told apart by one label, whose words come from the config or its files.
    pub fn gauges(
        &self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        read: impl Fn() -> Vec<(String, f64)> + Send + Sync + 'static,
    ) {
        lock(&self.readings).insert(name, Reading { help, value: Value::Gauges { label, read: Box::new(read) } });
    }

    /// Values that go up and down, told apart by two labels.
    pub fn gauge_table(
        &self,
        name: &'static str,
        help: &'static str,
        labels: Labels,
        rows: impl Fn() -> Rows + Send + Sync + 'static,
    ) {
        let value = Value::Table { kind: MetricType::Gauge, labels, rows: Box::new(rows) };
        lock(&self.readings).insert(name, Reading { help, value });
    }

    /// The same for values that only go up; `_total` is added to the name.
    pub fn counter_table(
        &self,
        name: &'static str,
        help: &'static str,
        labels: Labels,
        rows: impl Fn() -> Rows + Send + Sync + 'static,
    ) {
        let value = Value::Table { kind: MetricType::Counter, labels, rows: Box::new(rows) };
        lock(&self.readings).insert(name, Reading { help, value });
    }

    /// Durations that their owner observes; the name ends in `_seconds`.
    pub fn histogram(&self, name: &'static str, help: &'static str, histogram: Arc<Histogram>) {
        lock(&self.readings).insert(name, Reading { help, value: Value::Histogram(histogram) });
    }

    /// OpenMetrics text 1.0.0; serve it as [`Metrics::CONTENT_TYPE`].
    ///
    /// # Errors
    /// When a name or label cannot be written.
    pub fn render(&self) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self.clone()));
        let mut out = String::new();
        text::encode(&mut out, &registry)?;
        Ok(out)
    }

    pub const CONTENT_TYPE: &'static str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
}

impl RouteMetrics {
    /// Counts one request. `reason` is a code of [`Rejection::codes`], or `None` when it was served.
    pub fn record(&self, status: u16, reason: Option<&'static str>, duration_us: u64) {
        let class = match status {
            100..600 => usize::from(status / 100),
            // The client left before it was answered.
            _ => 0,
        };
        match reason {
            None => self.served.add(class, 1),
            Some(code) => self.reject(class, code),
        }
        self.duration.observe(duration_us);
    }

    fn reject(&self, class: usize, code: &str) {
        let row = reasons().rows.get(code).copied().unwrap_or_default();
        if let Some(cell) = self.rejected.get(row * CLASSES + class) {
            cell.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes the counters that are not zero, and the one of a route's successes in any case: a rate needs its zero.
    fn encode_counters(&self, encoder: &mut MetricEncoder<'_>, api: &str, route: &str) -> fmt::Result {
        let mut write = |class: &str, reason: &str, count: u64| {
            let labels = [("api", api), ("route", route), ("status_class", class), ("reason", reason)];
            encoder.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, f64>(&count, None)
        };
        for (class, count) in CLASS_NAMES.iter().zip(self.served.sums()) {
            if count > 0 || *class == "2xx" {
                write(class, "none", count)?;
            }
        }
        for (reason, row) in reasons().names.iter().zip(self.rejected.chunks(CLASSES)) {
            for (class, cell) in CLASS_NAMES.iter().zip(row) {
                let count = cell.load(Ordering::Relaxed);
                if count > 0 {
                    write(class, reason, count)?;
                }
            }
        }
        Ok(())
    }
}

impl Default for RouteMetrics {
    fn default() -> Self {
        let cells = reasons().names.len() * CLASSES;
        Self {
            served: Sharded::default(),
            rejected: std::iter::repeat_with(AtomicU64::default).take(cells).collect(),
            duration: Histogram::default(),
        }
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let build = "The version that runs";
        let mut info = encoder.encode_descriptor("gateward_build", build, None, MetricType::Info)?;
        info.encode_info(&[("version", env!("CARGO_PKG_VERSION"))])?;

        for (name, reading) in lock(&self.readings).iter() {
            match &reading.value {
                Value::Gauge(read) => {
                    encoder.encode_descriptor(name, reading.help, None, MetricType::Gauge)?.encode_gauge(&read())?;
                }
                Value::Counter(read) => {
                    let mut counter = encoder.encode_descriptor(name, reading.help, None, MetricType::Counter)?;
                    counter.encode_counter::<NoLabelSet, u64, f64>(&read(), None)?;
                }
                Value::Gauges { label, read } => {
                    let mut family = encoder.encode_descriptor(name, reading.help, None, MetricType::Gauge)?;
                    for (word, value) in read() {
                        family.encode_family(&[(*label, word.as_str())])?.encode_gauge(&value)?;
                    }
                }
                Value::Family { label, counters } => {
                    let mut family = encoder.encode_descriptor(name, reading.help, None, MetricType::Counter)?;
                    for (word, count) in counters() {
                        family.encode_family(&[(*label, word)])?.encode_counter::<NoLabelSet, u64, f64>(&count, None)?;
                    }
                }
                Value::Table { kind, labels, rows } => {
                    encode_rows(&mut encoder.encode_descriptor(name, reading.help, None, *kind)?, *kind, labels, &rows())?;
                }
                Value::Histogram(histogram) => {
                    histogram.encode(encoder.encode_descriptor(name, reading.help, None, MetricType::Histogram)?)?;
                }
            }
        }

        let routes = lock(&self.routes).clone();
        let help = "Requests by route, class of the answer's status, and the reason for which they were not served, or none";
        let mut requests = encoder.encode_descriptor("gateward_requests", help, None, MetricType::Counter)?;
        for ((api, route), metrics) in &routes {
            metrics.encode_counters(&mut requests, api, route)?;
        }

        let help = "From the end of a request's head to the end of its answer";
        let mut durations = encoder.encode_descriptor("gateward_request_duration_seconds", help, None, MetricType::Histogram)?;
        for ((api, route), metrics) in &routes {
            metrics.duration.encode(durations.encode_family(&[("api", api), ("route", route)])?)?;
        }
        Ok(())
    }
}

fn encode_rows(table: &mut MetricEncoder<'_>, kind: MetricType, labels: &Labels, rows: &Rows) -> fmt::Result {
    let [first, second] = labels;
    for ([one, other], value) in rows {
        let labels = [(*first, one.as_str()), (*second, other.as_str())];
        let mut row = table.encode_family(&labels)?;
        if matches!(kind, MetricType::Counter) {
            row.encode_counter::<NoLabelSet, u64, f64>(value, None)?;
        } else {
            row.encode_gauge(&i64::try_from(*value).unwrap_or(i64::MAX))?;
        }
    }
    Ok(())
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

struct Reasons {
    /// Row 0 is for a code that no table has.
    names: Vec<&'static str>,
    rows: HashMap<&'static str, usize>,
}

fn reasons() -> &'static Reasons {
    static REASONS: OnceLock<Reasons> = OnceLock::new();
    REASONS.get_or_init(|| {
        let names: Vec<_> = ["unknown"].into_iter().chain(Rejection::codes()).collect();
        let rows = names.iter().enumerate().map(|(row, name)| (*name, row)).collect();
        Reasons { names, rows }
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Routes that have a handle of their own, at most.
const ROUTES: usize = 10_000;
const CLASSES: usize = CLASS_NAMES.len();
const CLASS_NAMES: [&str; 6] = ["other", "1xx", "2xx", "3xx", "4xx", "5xx"];

#[cfg(test)]
mod tests {
    use super::*;

    /// The value of the line that begins with `series`.
    fn value(page: &str, series: &str) -> Option<f64> {
        let line = page.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// Checks the form of every line: a comment, or `name{labels} number` of the family that was described last.
    fn assert_open_metrics(page: &str) {
        let (mut family, mut described) = (String::new(), Vec::new());
        let body = page.strip_suffix("# EOF\n").expect("ends with # EOF");
        for line in body.lines() {
            let words: Vec<&str> = line.splitn(4, ' ').collect();
            match words[..] {
                ["#", "HELP", name, help] => {
                    assert!(!help.is_empty(), "{line}");
                    assert!(!described.contains(&name.to_owned()), "{name} is described twice");
                    family = name.to_owned();
                    described.push(family.clone());
                }
                ["#", "TYPE", name, kind] => {
                    assert_eq!(name, family);
                    assert!(["counter", "gauge", "histogram", "info"].contains(&kind), "{line}");
                }
                _ => {
                    let rest = line.strip_prefix(&family).unwrap_or_else(|| panic!("{line} is not of {family}"));
                    let (name, number) = rest.rsplit_once(' ').unwrap();
                    let suffix = name.split('{').next().unwrap();
                    assert!(["", "_total", "_info", "_sum", "_count", "_bucket"].contains(&suffix), "{line}");
                    assert!(!name.contains('{') || name.ends_with('}'), "{line}");
                    number.parse::<f64>().unwrap_or_else(|_| panic!("{line}"));
                }
            }
        }
    }

    #[test]
    fn requests_are_counted_by_route_class_and_reason() {
        let metrics = Metrics::default();
        let jobs = metrics.route("api", "jobs");
        jobs.record(200, None, 900);
        jobs.record(201, None, 1_100);
        jobs.record(401, Some("key_revoked"), 50);
        jobs.record(502, Some("upstream_unreachable"), 50);
        jobs.record(0, None, 7);
        metrics.route("api", "quiet");
        let page = metrics.render().unwrap();
        assert_open_metrics(&page);
        let requests = |labels: &str| value(&page, &format!("gateward_requests_total{{{labels}}}"));
        let jobs =
            |class: &str, reason: &str| requests(&format!(r#"api="api",route="jobs",status_class="{class}",reason="{reason}""#));
        assert_eq!(jobs("2xx", "none"), Some(2.0));
        assert_eq!(jobs("4xx", "key_revoked"), Some(1.0));
        assert_eq!(jobs("5xx", "upstream_unreachable"), Some(1.0));
        assert_eq!(jobs("other", "none"), Some(1.0));
        assert_eq!(jobs("4xx", "key_expired"), None, "zeroes of other reasons would drown the page");
        assert_eq!(requests(r#"api="api",route="quiet",status_class="2xx",reason="none""#), Some(0.0));
        let duration = |rest: &str| value(&page, &format!("gateward_request_duration_seconds_{rest}"));
        assert_eq!(duration(r#"bucket{le="0.0001",api="api",route="jobs"}"#), Some(3.0));
        assert_eq!(duration(r#"bucket{le="0.001",api="api",route="jobs"}"#), Some(4.0));
        assert_eq!(duration(r#"bucket{le="+Inf",api="api",route="jobs"}"#), Some(5.0));
        assert_eq!(duration(r#"count{api="api",route="jobs"}"#), Some(5.0));
        assert_eq!(duration(r#"sum{api="api",route="jobs"}"#), Some(0.002_107));
    }

    #[test]
    fn every_reason_has_a_series_of_its_own() {
        let metrics = Metrics::default();
        let route = metrics.route("api", "r");
        Rejection::codes().for_each(|code| route.record(400, Some(code), 1));
        route.record(400, Some("no_such_code"), 1);
        let page = metrics.render().unwrap();
        for code in Rejection::codes().chain(["unknown"]) {
            let series = format!(r#"gateward_requests_total{{api="api",route="r",status_class="4xx",reason="{code}"}}"#);
            assert_eq!(value(&page, &series), Some(1.0), "{code}");
        }
    }

    #[test]
    fn gauges_and_counters_are_read_when_rendered() {
        let metrics = Metrics::default();
        let open = Arc::new(AtomicU64::new(1));
        let read = Arc::clone(&open);
        metrics.gauge("gateward_connections_open", "Open connections", move || {
            f64::from(u32::try_from(read.load(Ordering::Relaxed)).unwrap())
        });
        metrics.counter("gateward_access_log_dropped", "Lines that were not written", || 3);
        open.store(7, Ordering::Relaxed);
        let page = metrics.render().unwrap();
        assert_open_metrics(&page);
        assert_eq!(value(&page, "gateward_connections_open"), Some(7.0));
        assert_eq!(value(&page, "gateward_access_log_dropped_total"), Some(3.0));
        assert_eq!(value(&page, concat!("gateward_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}")), Some(1.0));
    }

    #[test]
    fn families_and_histograms_of_others_are_read_when_rendered() {
        let metrics = Metrics::default();
        let waits = Arc::new(Histogram::default());
        metrics.family("gateward_counters_calls", "Calls", "outcome", || vec![("answered", 2), ("refused", 0)]);
        metrics.histogram("gateward_counters_wait_seconds", "Waits", waits.clone());
        [19_999, 20_000, 20_001].iter().for_each(|micros| waits.observe(*micros));
        let page = metrics.render().unwrap();
        assert_open_metrics(&page);
        assert_eq!(value(&page, r#"gateward_counters_calls_total{outcome="answered"}"#), Some(2.0));
        assert_eq!(value(&page, r#"gateward_counters_calls_total{outcome="refused"}"#), Some(0.0));
        assert_eq!(value(&page, r#"gateward_counters_wait_seconds_bucket{le="0.02"}"#), Some(2.0));
        assert_eq!(value(&page, r#"gateward_counters_wait_seconds_bucket{le="0.025"}"#), Some(3.0));
        assert_eq!(value(&page, "gateward_counters_wait_seconds_sum"), Some(0.06));
    }

    #[test]
    fn one_route_has_one_handle() {
        let metrics = Metrics::default();
        metrics.route("a", "r").record(200, None, 1);
        metrics.clone().route("a", "r").record(200, None, 1);
        let page = metrics.render().unwrap();
        assert_eq!(value(&page, r#"gateward_requests_total{api="a",route="r",status_class="2xx",reason="none"}"#), Some(2.0));
    }

    #[test]
    fn names_from_the_config_are_escaped() {
        let metrics = Metrics::default();
        metrics.route("a\"b", "c\\d\ne");
        let page = metrics.render().unwrap();
        assert_open_metrics(&page);
        assert!(page.contains(r#"{api="a\"b",route="c\\d\ne","#), "{page}");
    }
}
