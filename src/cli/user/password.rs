//! Where an account's password comes from: standard input, or one that is made here and shown once.

use std::io::{BufRead, IsTerminal, Read};

use anyhow::bail;
use clap::Args;

use crate::cli::output;
use crate::identity::Secret;
use crate::password::Passwords;
use crate::random;

#[derive(Debug, Args)]
pub struct PasswordOptions {
    /// Read the password from standard input, in place of making one
    #[arg(long)]
    password_stdin: bool,
}

/// A password, before it is hashed.
pub enum Passphrase {
    Given(Secret),
    /// Nobody knows it until it is shown.
    Made(Secret),
}

impl PasswordOptions {
    /// # Errors
    /// When the password on standard input is too short, too long or not one line of text.
    pub fn choose(&self) -> anyhow::Result<Passphrase> {
        match self.password_stdin {
            true => Ok(Passphrase::Given(check(&read()?)?)),
            false => Ok(Passphrase::Made(make())),
        }
    }
}

impl Passphrase {
    /// The PHC string to store.
    pub async fn hash(&self) -> anyhow::Result<Secret> {
        let (Self::Given(secret) | Self::Made(secret)) = self;
        Ok(Passwords::start(1, 1).hash(secret.clone()).await?)
    }

    /// The text to show.
    pub fn made(&self) -> Option<&str> {
        match self {
            Self::Made(secret) => Some(secret.expose()),
            Self::Given(_) => None,
        }
    }
}

/// 100 random bits, without letters that are taken for one another: 20 of 32.
fn make() -> Secret {
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnopqrstuvwxyz2345678";
    let letter = |byte: u8| ALPHABET.get(usize::from(byte % 32)).copied().map_or('a', char::from);
    Secret::new(random::bytes::<20>().map(letter).iter().collect::<String>())
}

/// All of standard input, or one line where somebody types it.
fn read() -> anyhow::Result<Secret> {
    let stdin = std::io::stdin();
    // With room for all of it: a text that grows leaves copies of the secret behind.
    let mut text = String::with_capacity(MAX_BYTES + 8);
    let most = MAX_BYTES as u64 + 3;
    if stdin.is_terminal() {
        output::note("Password (it shows while you type):");
        stdin.lock().take(most).read_line(&mut text)?;
    } else {
        stdin.lock().take(most).read_to_string(&mut text)?;
    }
    Ok(Secret::new(text))
}

/// Editors and `echo` add a line end; it is no part of the password.
fn check(text: &Secret) -> anyhow::Result<Secret> {
    let text = text.expose();
    let password = text.strip_suffix('\n').map_or(text, |rest| rest.strip_suffix('\r').unwrap_or(rest));
    if password.len() > MAX_BYTES {
        bail!("the password is longer than {MAX_BYTES} bytes");
    }
    if password.contains(char::is_control) {
        bail!("the password is not one line of text");
    }
    if password.chars().count() < MIN_CHARACTERS {
        bail!("the password has fewer than {MIN_CHARACTERS} characters");
    }
    Ok(Secret::new(password))
}

/// What a login takes.
const MAX_BYTES: usize = 1024;
/// NIST SP 800-63B, section 5.1.1.1.
const MIN_CHARACTERS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn checked(text: &str) -> Result<String, String> {
        check(&Secret::new(text)).map(|secret| secret.expose().to_owned()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_made_password_has_twenty_readable_letters_and_never_repeats() {
        let made: HashSet<String> = (0..200).map(|_| make().expose().to_owned()).collect();
        assert_eq!(made.len(), 200);
        let readable = |c: char| (c.is_ascii_lowercase() && c != 'l') || matches!(c, '2'..='8');
        assert!(made.iter().all(|text| text.len() == 20 && text.chars().all(readable)));
        let letters: HashSet<char> = made.iter().flat_map(|text| text.chars()).collect();
        assert_eq!(letters.len(), 32);
    }

    #[test]
    fn a_password_is_the_line_without_its_end() {
        for text in ["correct horse", "correct horse\n", "correct horse\r\n"] {
            assert_eq!(checked(text), Ok("correct horse".to_owned()), "{text:?}");
        }
        assert_eq!(checked(" correct horse \n"), Ok(" correct horse ".to_owned()));
        assert_eq!(checked("äöüäöüäö"), Ok("äöüäöüäö".to_owned()));
        assert_eq!(checked(&format!("{}\r\n", "x".repeat(1024))), Ok("x".repeat(1024)));
    }

    #[test]
    fn short_long_and_broken_passwords_are_refused_without_showing_them() {
        for (text, why) in [
            ("", "the password has fewer than 8 characters"),
            ("äöüäöüä\n", "the password has fewer than 8 characters"),
            ("correct horse\nbattery\n", "the password is not one line of text"),
            ("correct\0horse", "the password is not one line of text"),
            (&"x".repeat(1025), "the password is longer than 1024 bytes"),
        ] {
            assert_eq!(checked(text), Err(why.to_owned()));
        }
    }
}
