//! `gateward check`: every mistake of the config and its contract files.

use crate::app::certificates;
use crate::cli::arguments::CheckOptions;
use crate::cli::load::{Invocation, environment};
use crate::cli::outcome::ConfigRefused;
use crate::cli::output::{self, Form};
use crate::config::report::Report;

pub fn run(invocation: &Invocation, options: &CheckOptions) -> anyhow::Result<()> {
    let path = match &options.file {
        Some(file) => file.clone(),
        None => invocation.path()?,
    };
    let mut report = Report::default();
    let ready = crate::app::load::load(&path, &environment, &mut report);
    if let Some(ready) = &ready {
        certificates::check(&ready.config, &mut report);
    }
    let ready = ready.filter(|_| report.is_clean());
    match options.output.form() {
        Form::Json => output::json(&report.diagnostics())?,
        Form::Text => match &ready {
            Some(ready) => {
                let routes = ready.apis.iter().map(|api| api.routes.len()).sum();
                let (apis, routes) = (counted(ready.apis.len(), "API"), counted(routes, "route"));
                output::text(&format!("{}: {apis}, {routes}, no errors\n", ready.path.display()))?;
            }
            None => output::note(&report.to_string()),
        },
    }
    if ready.is_some() { Ok(()) } else { Err(ConfigRefused(None).into()) }
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_plural() {
        assert_eq!([0, 1, 2].map(|count| counted(count, "API")), ["0 APIs", "1 API", "2 APIs"]);
    }
}
