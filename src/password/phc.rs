//! The stored form of a password: PHC strings of Argon2 (RFC 9106). Pure and slow; runs on the hashing threads only.

use argon2::password_hash::phc::{Output, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, PasswordHasher, Version};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use zeroize::Zeroizing;

use crate::identity::Secret;
use crate::random;

/// A PHC string taken apart: everything that verifying needs is there and within bounds.
pub struct Stored {
    algorithm: Algorithm,
    version: Version,
    params: Params,
    salt: Salt,
    output: Output,
}

/// The memory that a thread hashes in, kept from one password to the next: an allocator that is given 19 MiB back again
/// and again keeps several times as much.
#[derive(Default)]
pub struct Workspace(Vec<Block>);

impl Workspace {
    /// As many blocks as the parameters ask for; more than today's parameters need is not kept for the next time.
    fn blocks(&mut self, params: &Params) -> &mut [Block] {
        let wanted = params.block_count();
        if self.0.len() > wanted.max(CURRENT.block_count()) {
            self.0 = Vec::new();
        }
        if self.0.len() < wanted {
            self.0.resize_with(wanted, Block::default);
        }
        &mut self.0
    }
}

impl Stored {
    /// The error says what is wrong and holds nothing of the string.
    pub fn parse(stored: &Secret) -> Result<Self, String> {
        let text = stored.expose();
        if text.is_empty() {
            return Err("it is empty".to_owned());
        }
        let parts = PasswordHash::new(text).map_err(|_| "it is no PHC string")?;
        let algorithm = Algorithm::try_from(parts.algorithm.as_str()).map_err(|_| "it is no Argon2 hash")?;
        // The first version of Argon2 wrote no version into the string.
        let version = Version::try_from(parts.version.unwrap_or(0x10)).map_err(|_| "its version of Argon2 is not known")?;
        let params = Params::try_from(&parts).map_err(|_| "its parameters cannot be read")?;
        let salt = parts.salt.ok_or("it has no salt")?;
        let output = parts.hash.ok_or("it has no hash")?;
        if params.m_cost() > MOST_MEMORY_KIB || params.t_cost() > MOST_PASSES || params.p_cost() > MOST_LANES {
            return Err(format!("its parameters cost more than m={MOST_MEMORY_KIB},t={MOST_PASSES},p={MOST_LANES}"));
        }
        if output.len() < SHORTEST_OUTPUT {
            return Err(format!("its hash is shorter than {SHORTEST_OUTPUT} bytes"));
        }
        Ok(Self { algorithm, version, params, salt, output })
    }

    /// Whether this is the password, compared in constant time.
    pub fn matches(&self, password: &Secret, workspace: &mut Workspace) -> bool {
        let mut found = Zeroizing::new(vec![0; self.output.len()]);
        let hasher = Argon2::new(self.algorithm, self.version, self.params.clone());
        let blocks = workspace.blocks(&self.params);
        let done = hasher.hash_password_into_with_memory(password.expose().as_bytes(), &self.salt, &mut found, blocks);
        done.is_ok() && verify_slices_are_equal(&found, self.output.as_bytes()).is_ok()
    }

    pub fn is_outdated(&self) -> bool {
        let costs = |params: &Params| (params.m_cost(), params.t_cost(), params.p_cost());
        self.algorithm != Algorithm::Argon2id
            || self.version != Version::V0x13
            || costs(&self.params) != costs(&CURRENT)
            || self.output.len() != Params::DEFAULT_OUTPUT_LEN
    }
}

/// A PHC string of the password with a new salt of 128 bits.
pub fn hash(password: &Secret) -> Result<Secret, String> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, CURRENT)
        .hash_password_with_salt(password.expose().as_bytes(), &random::bytes::<16>())
        .map(|hash| Secret::new(hash.to_string()))
        .map_err(|error| format!("Argon2: {error}"))
}

/// What new hashes are made with: OWASP's floor for Argon2id.
const CURRENT: Params = Params::DEFAULT;
const _: () = assert!(CURRENT.m_cost() == 19_456 && CURRENT.t_cost() == 2 && CURRENT.p_cost() == 1);

/// Beyond these a stored string is refused: an import must not be able to take the machine's memory.
const MOST_MEMORY_KIB: u32 = 256 * 1024;
const MOST_PASSES: u32 = 32;
const MOST_LANES: u32 = 16;
const SHORTEST_OUTPUT: usize = 16;

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn with_parameters(password: &str, m: u32, t: u32, p: u32) -> String {
        Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(m, t, p, None).unwrap())
            .hash_password_with_salt(password.as_bytes(), b"0123456789abcdef")
            .unwrap()
            .to_string()
    }

    fn parse(text: &str) -> Result<Stored, String> {
        Stored::parse(&Secret::new(text))
    }

    fn why(text: &str) -> String {
        parse(text).map(|_| "it was taken").unwrap_or_else(|why| why.leak()).to_owned()
    }

    #[test]
    fn a_new_hash_states_todays_parameters_and_no_salt_repeats() {
        let (one, other) = (hash(&Secret::new("pw")).unwrap(), hash(&Secret::new("pw")).unwrap());
        assert!(one.expose().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", one.expose());
        assert_ne!(one.expose(), other.expose());
        assert!(!Stored::parse(&one).unwrap().is_outdated());
    }

    #[test]
    fn the_published_vector_of_the_reference_implementation_verifies() {
        // phc-winner-argon2, src/test.c: hashtest(version, 2, 16, 1, "password", "somesalt", …, Argon2_id)
        let text = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        let stored = parse(text).unwrap();
        let mut workspace = Workspace::default();
        assert!(stored.matches(&Secret::new("password"), &mut workspace));
        assert!(!stored.matches(&Secret::new("differentpassword"), &mut workspace));
        assert!(stored.is_outdated());
    }

    /// Whatever was hashed before in the same memory, with more of it or less.
    #[test]
    fn a_used_workspace_changes_no_answer() {
        let mut workspace = Workspace::default();
        let (right, wrong) = (Secret::new("right"), Secret::new("wrong"));
        for (m, t) in [(64, 3), (20_000, 1), (19_456, 2), (8, 1), (64, 3)] {
            let stored = parse(&with_parameters("right", m, t, 1)).unwrap();
            let answers = [&right, &wrong, &right].map(|password| stored.matches(password, &mut workspace));
            assert_eq!(answers, [true, false, true], "m={m},t={t}");
        }
        assert_eq!(workspace.0.len(), CURRENT.block_count(), "what the largest needed was given back");
    }

    #[test]
    fn other_parameters_are_outdated() {
        for (m, t, p) in [(64, 2, 1), (19_456, 1, 1), (19_456, 2, 2), (19_457, 2, 1)] {
            assert!(parse(&with_parameters("pw", m, t, p)).unwrap().is_outdated(), "m={m},t={t},p={p}");
        }
        let current = with_parameters("pw", 19_456, 2, 1);
        assert!(!parse(&current).unwrap().is_outdated());
        for weaker in [current.replace("argon2id", "argon2i"), current.replace("v=19", "v=16"), current.replace("$v=19", "")] {
            assert!(parse(&weaker).unwrap().is_outdated(), "{weaker}");
        }
    }

    #[test]
    fn strings_that_cannot_be_used_say_why_and_repeat_nothing() {
        let good = with_parameters("pw", 64, 1, 1);
        let without_hash = good.rsplit_once('$').unwrap().0;
        for (text, expected) in [
            ("", "it is empty"),
            ("hunter2", "it is no PHC string"),
            ("$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHRzYWx0", "it has no hash"),
            (without_hash, "it has no hash"),
            ("$argon2id$v=19$m=64,t=1,p=1", "it has no salt"),
            (
                "$argon2id$v=18$m=64,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
                "its version of Argon2 is not known",
            ),
            (
                "$argon2id$v=19$m=1,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
                "its parameters cannot be read",
            ),
            (
                "$argon2id$v=19$m=4194304,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
                "its parameters cost more than m=262144,t=32,p=16",
            ),
            ("$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFQ", "its hash is shorter than 16 bytes"),
            ("$scrypt$ln=16,r=8,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc", "it is no Argon2 hash"),
        ] {
            assert_eq!(why(text), expected, "{text}");
        }
    }
}
