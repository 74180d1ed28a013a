//! Asking before something is destroyed.

use std::io::{IsTerminal, Write};

use super::report::{hinted, usage};

/// Asks for a yes, unless `--yes` said it already. Where nobody can be asked, that is wrong usage.
pub(crate) fn confirm(question: &str, yes: bool) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(hinted(
            usage(format!(
                "{question}: needs a yes, and there is no terminal to ask on"
            )),
            "add --yes",
        ));
    }
    eprint!("{question}? [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        anyhow::bail!("not done")
    }
}
