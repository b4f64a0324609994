//! Identifiers and names of containers and mounts: how they are made and what they must look like. Pure but for chance.

use super::error::{Error, Result};
use crate::runtime::spec::ContainerId;

/// A fresh container's identity: 64 hex digits.
pub(crate) fn new_container_id() -> Result<ContainerId> {
    ContainerId::new(random_hex()?).map_err(|e| Error::broken(e.to_string()))
}

/// The first 12 digits of an ID, as people see it.
pub(crate) fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// 64 random hex digits; never all decimal in the first twelve, so that the short form cannot be read as a number.
pub(crate) fn random_hex() -> Result<String> {
    loop {
        let mut bytes = [0_u8; 32];
        getrandom::fill(&mut bytes)
            .map_err(|e| Error::broken(format!("cannot get random bytes: {e}")))?;
        let id = hex::encode(bytes);
        if id.bytes().take(12).any(|b| b.is_ascii_alphabetic()) {
            return Ok(id);
        }
    }
}

/// Longest name of a container or mount; a host name and a file name must be able to hold it.
const NAME_LEN_MAX: usize = 200;

/// Checks a name that a user chose: docker's rule, so at least two characters.
pub(crate) fn check(name: &str) -> Result<()> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
    let rest = bytes.clone().count() >= 1
        && bytes.all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if first && rest && name.len() <= NAME_LEN_MAX {
        return Ok(());
    }
    let rule = "only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed";
    Err(Error::invalid(format!(
        "Invalid container name ({name}), {rule}"
    )))
}

const ADJECTIVES: &[&str] = &[
    "agile", "amber", "ample", "azure", "brave", "breezy", "bright", "brisk", "calm", "candid",
    "clever", "coral", "cosy", "crisp", "daring", "deft", "eager", "early", "earnest", "fair",
    "fluent", "fond", "frank", "fresh", "gentle", "glad", "golden", "grand", "hardy", "honest",
    "humble", "jolly", "keen", "kind", "lively", "loyal", "lucid", "mellow", "merry", "mild",
    "modest", "neat", "nimble", "noble", "patient", "pearly", "plain", "polite", "proud",
    "prudent", "quick", "quiet", "rapid", "ready", "serene", "sharp", "silver", "smooth", "solid",
    "sturdy", "subtle", "sunny", "swift", "tidy", "upbeat", "vivid", "warm", "wise", "witty",
    "young", "zesty",
];

const SURNAMES: &[&str] = &[
    "abel",
    "agnesi",
    "anning",
    "arago",
    "banach",
    "bessel",
    "bohr",
    "boole",
    "bose",
    "brahe",
    "braun",
    "cantor",
    "carson",
    "cauchy",
    "celsius",
    "clarke",
    "cori",
    "curie",
    "dalton",
    "darwin",
    "dirac",
    "euler",
    "faraday",
    "fermat",
    "fermi",
    "fourier",
    "franklin",
    "galois",
    "gauss",
    "germain",
    "gibbs",
    "goodall",
    "hadamard",
    "haeckel",
    "halley",
    "hamilton",
    "hertz",
    "hilbert",
    "hooke",
    "hopper",
    "hubble",
    "huygens",
    "joule",
    "kepler",
    "klein",
    "lagrange",
    "laplace",
    "leavitt",
    "leibniz",
    "linnaeus",
    "lovelace",
    "maxwell",
    "meitner",
    "mendel",
    "morse",
    "napier",
    "newton",
    "noether",
    "ohm",
    "oersted",
    "pascal",
    "pauling",
    "perrin",
    "planck",
    "ramanujan",
    "riemann",
    "rontgen",
    "sagan",
    "tesla",
    "turing",
    "volta",
    "wallace",
    "weyl",
    "wiles",
    "young",
    "yukawa",
];

/// Makes up `adjective_surname`; `taken` says what is in use. After a while a digit makes it unique.
pub(crate) fn invent(taken: impl Fn(&str) -> bool) -> Result<String> {
    const PLAIN_TRIES: u32 = 20;
    for attempt in 0.. {
        let name = format!("{}_{}", pick(ADJECTIVES)?, pick(SURNAMES)?);
        let name = if attempt < PLAIN_TRIES {
            name
        } else {
            format!("{name}{attempt}")
        };
        if !taken(&name) {
            return Ok(name);
        }
    }
    Err(Error::broken("no free name left"))
}

fn pick(words: &'static [&'static str]) -> Result<&'static str> {
    let chance =
        getrandom::u32().map_err(|e| Error::broken(format!("cannot get random bytes: {e}")))?;
    let at = usize::try_from(chance)
        .unwrap_or(0)
        .checked_rem(words.len())
        .unwrap_or(0);
    Ok(words.get(at).copied().unwrap_or("plain"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn names_follow_dockers_rule() {
        for good in ["web", "a1", "A.b-c_d", "9z"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["", "w", "-web", "we b", "a/b", "wéb", "_x"] {
            assert!(check(bad).is_err(), "{bad}");
        }
        let text = check("w").unwrap_err().to_string();
        assert_eq!(
            text,
            "Invalid container name (w), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        );
    }

    #[test]
    fn invented_names_avoid_what_is_taken_and_pass_the_rule() {
        let first = invent(|_| false).unwrap();
        check(&first).unwrap();
        let plain = |name: &str| name.bytes().all(|b| !b.is_ascii_digit());
        let numbered = invent(plain).unwrap();
        assert!(!plain(&numbered));
    }

    #[test]
    fn the_word_lists_hold_valid_words() {
        assert!(
            ADJECTIVES
                .iter()
                .chain(SURNAMES)
                .all(|w| w.bytes().all(|b| b.is_ascii_lowercase()))
        );
    }
}
