//! temporary
use std::process::ExitCode;
pub fn run() -> ExitCode {
    let path = std::env::args().nth(2).unwrap();
    let mut report = crate::config::report::Report::default();
    let Some(ready) = crate::app::load::load(std::path::Path::new(&path), &|n| std::env::var(n).ok(), &mut report) else {
        eprintln!("{report}");
        return ExitCode::from(78);
    };
    let c = crate::observe::Colour::of(&std::io::stdout(), None);
    let _d = crate::observe::Diagnostics::start(ready.config.log.level, None, c, Box::new(std::io::stderr())).unwrap();
    let log = crate::observe::AccessLog::start(ready.config.log.access, c, Box::new(std::io::stdout())).unwrap();
    match crate::app::serve::serve(ready, log, |_| {}) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e:#}");
            ExitCode::from(1)
        }
    }
}
