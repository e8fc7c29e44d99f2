#[derive(Debug, clap::Subcommand)]
pub enum TokenCommand {
    X,
}
pub fn run(_: &crate::cli::load::Invocation, _: TokenCommand) -> anyhow::Result<()> {
    Ok(())
}
