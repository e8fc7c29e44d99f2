//! `gateward reload`: has the running server read its config anew.

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::cli::arguments::Output;
use crate::cli::load::Invocation;
use crate::cli::outcome::ConfigRefused;
use crate::cli::output::{self, Form};
use crate::cli::server::call;

pub fn run(invocation: &Invocation, options: Output) -> anyhow::Result<()> {
    // Mistakes are shown here already, by this process, and nobody is asked.
    let ready = invocation.load()?;
    let (status, body) = call(ready.config.admin.address, "POST", "/reload", "")?;
    let answer: Value = serde_json::from_str(&body).context("the server's answer is no JSON")?;
    let message = answer.get("message").and_then(Value::as_str).unwrap_or_default();
    match status {
        200 => {}
        // The server reads its own file, with its own environment.
        422 if answer.get("error").is_some_and(|code| code == "invalid_config") => {
            return Err(ConfigRefused(Some(format!("the server finds mistakes that are none here\n{message}"))).into());
        }
        _ => bail!("nothing was taken over: {message}"),
    }
    match options.form() {
        Form::Json => output::json(&answer),
        Form::Text => output::text(&as_text(&answer)),
    }
}

fn as_text(answer: &Value) -> String {
    let sections = answer.get("sections").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let number = answer.get("generation").and_then(Value::as_u64).unwrap_or_default();
    let lines: String = sections.iter().filter_map(Value::as_str).map(|section| format!("  {section}\n")).collect();
    let what = if lines.is_empty() { "nothing has changed" } else { "changed:" };
    format!("generation {number} is in effect; {what}\n{lines}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_text_names_what_changed() {
        let changed = json!({ "generation": 3, "sections": ["api.a.route.r", "-upstream.old"] });
        assert_eq!(as_text(&changed), "generation 3 is in effect; changed:\n  api.a.route.r\n  -upstream.old\n");
        assert_eq!(as_text(&json!({ "generation": 4, "sections": [] })), "generation 4 is in effect; nothing has changed\n");
    }
}
