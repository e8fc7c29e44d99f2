#[derive(Debug, clap::Subcommand)]
pub enum KeyCommand {
    X,
}
pub fn run(_: &crate::cli::load::Invocation, _: KeyCommand) -> anyhow::Result<()> {
    Ok(())
}
