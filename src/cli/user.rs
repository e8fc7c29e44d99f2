#[derive(Debug, clap::Subcommand)]
pub enum UserCommand {
    X,
}
pub fn run(_: &crate::cli::load::Invocation, _: UserCommand) -> anyhow::Result<()> {
    Ok(())
}
