//! `gateward diff`: what a reload with another config would change. Says so with its exit code, as diff(1) does.

use std::fmt::Write as _;

use crate::app::changes::{Changes, KeyChange, RouteChange};
use crate::cli::arguments::DiffOptions;
use crate::cli::load::Invocation;
use crate::cli::outcome::Differs;
use crate::cli::output::{self, Form};

pub fn run(invocation: &Invocation, options: &DiffOptions) -> anyhow::Result<()> {
    let old = invocation.load()?;
    let new = Invocation { config: Some(options.new.clone()) }.load()?;
    let changes = Changes::between(&old, &new);
    match options.output.form() {
        Form::Json => output::json(&changes)?,
        Form::Text => output::text(&as_text(&changes))?,
    }
    if changes.is_empty() { Ok(()) } else { Err(Differs.into()) }
}

fn as_text(changes: &Changes) -> String {
    let mut out = String::new();
    for key in &changes.keys {
        let _ = writeln!(out, "{}", key_line(key));
    }
    for route in &changes.routes {
        let _ = writeln!(out, "{}", route_line(route));
    }
    if !changes.restart.is_empty() {
        let _ = writeln!(out, "A reload would be refused; a restart is needed for {}", changes.restart.join(", "));
    }
    out
}

fn key_line(change: &KeyChange) -> String {
    let key = &change.key;
    match (&change.old, &change.new) {
        (Some(old), Some(new)) if old == new => format!("~ {key}: {new}, which stands for something else now"),
        (Some(old), Some(new)) => format!("~ {key}: {old} -> {new}"),
        (Some(old), None) => format!("- {key}: {old}"),
        (None, new) => format!("+ {key}: {}", new.as_deref().unwrap_or_default()),
    }
}

fn route_line(change: &RouteChange) -> String {
    let methods = if change.methods.is_empty() { "*" } else { &change.methods };
    let route = format!("route {} of API {} ({methods} {})", change.name, change.api, change.path);
    match (&change.old, &change.new) {
        (Some(old), Some(_)) if change.opens => format!("! {route}: PUBLIC now, was for {old}"),
        (None, Some(_)) if change.opens => format!("! {route}: new and PUBLIC"),
        (Some(old), Some(new)) => format!("~ {route}: for {old} -> for {new}"),
        (Some(old), None) => format!("- {route}: gone, was for {old}"),
        (None, new) => format!("+ {route}: new, for {}", new.as_deref().unwrap_or_default()),
    }
}
