//! The command line as a whole: every command is well formed and explains itself.

use clap::{Command, CommandFactory};

use crate::cli::arguments::Arguments;

fn each(command: &Command, path: &str, judge: &mut impl FnMut(&str, &Command)) {
    judge(path, command);
    for child in command.get_subcommands() {
        each(child, &format!("{path} {}", child.get_name()), judge);
    }
}

#[test]
fn the_declarations_are_sound() {
    Arguments::command().debug_assert();
    assert_eq!(Arguments::command().get_name(), "gateward");
}

#[test]
fn every_command_has_a_description_and_an_example() {
    let mut seen = 0;
    each(&Arguments::command(), "gateward", &mut |path, command| {
        seen += 1;
        assert!(command.get_about().is_some(), "{path}");
        let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(after.starts_with("Example"), "{path}");
        assert!(after.contains(path.split(' ').nth(1).unwrap_or("gateward")), "{path}: {after}");
    });
    assert!(seen >= 20, "{seen}");
}

#[test]
fn every_option_is_explained() {
    let mut silent = Vec::new();
    each(&Arguments::command(), "gateward", &mut |path, command| {
        let arguments = command.get_arguments().filter(|argument| argument.get_help().is_none());
        silent.extend(arguments.map(|argument| format!("{path} {}", argument.get_id())));
    });
    assert_eq!(silent, Vec::<String>::new());
}
