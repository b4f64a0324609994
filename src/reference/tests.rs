//! The grammar by table, and that no text makes it panic.
#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;

const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[test]
fn names_have_a_complete_and_a_familiar_form() {
    let table = [
        ("debian", "docker.io/library/debian", "debian"),
        ("debian:12", "docker.io/library/debian:12", "debian:12"),
        ("docker.io/debian", "docker.io/library/debian", "debian"),
        (
            "index.docker.io/debian:12",
            "docker.io/library/debian:12",
            "debian:12",
        ),
        (
            "docker.io/library/debian",
            "docker.io/library/debian",
            "debian",
        ),
        ("library/debian", "docker.io/library/debian", "debian"),
        ("library/a/b", "docker.io/library/a/b", "library/a/b"),
        ("foo/bar", "docker.io/foo/bar", "foo/bar"),
        ("docker.io/a.b/c", "docker.io/a.b/c", "docker.io/a.b/c"),
        (
            "docker.io/localhost/c",
            "docker.io/localhost/c",
            "docker.io/localhost/c",
        ),
        ("localhost/bar", "localhost/bar", "localhost/bar"),
        (
            "localhost:5000/bar:x",
            "localhost:5000/bar:x",
            "localhost:5000/bar:x",
        ),
        (
            "127.0.0.1:5000/a/b__c-d--e.f:T_1",
            "127.0.0.1:5000/a/b__c-d--e.f:T_1",
            "127.0.0.1:5000/a/b__c-d--e.f:T_1",
        ),
        ("[::1]:5000/a", "[::1]:5000/a", "[::1]:5000/a"),
        ("[::1]/a", "[::1]/a", "[::1]/a"),
        ("Foo/bar", "Foo/bar", "Foo/bar"),
        ("ghcr.io/a", "ghcr.io/a", "ghcr.io/a"),
        ("xn--n3h.com/a", "xn--n3h.com/a", "xn--n3h.com/a"),
        ("a:5000", "docker.io/library/a:5000", "a:5000"),
    ];
    for (text, complete, familiar) in table {
        let reference = Reference::parse(text).unwrap();
        assert_eq!(reference.to_string(), complete, "{text}");
        assert_eq!(reference.familiar(), familiar, "{text}");
        assert_eq!(
            Reference::parse(complete).unwrap(),
            reference,
            "{text}: the complete form means the same"
        );
        assert_eq!(
            Reference::parse(familiar).unwrap(),
            reference,
            "{text}: the familiar form means the same"
        );
    }
}

#[test]
fn refusals_use_dockers_words() {
    let long = format!("docker.io/{}", "a".repeat(PATH_BYTES_MAX + 1));
    let long_tag = format!("a:{}", "t".repeat(TAG_BYTES_MAX + 1));
    let uppercase = |name: &str| InvalidReference::Uppercase(name.to_owned());
    let table = [
        ("", InvalidReference::Format),
        ("Nginx", uppercase("library/Nginx")),
        ("foo/Bar:x", uppercase("foo/Bar")),
        ("a//b", InvalidReference::Format),
        ("a/", InvalidReference::Format),
        ("/a", InvalidReference::Format),
        ("-a", InvalidReference::Format),
        ("a-", InvalidReference::Format),
        ("a..b", InvalidReference::Format),
        ("a___b", InvalidReference::Format),
        ("a._b", InvalidReference::Format),
        ("a:", InvalidReference::Format),
        ("a:-x", InvalidReference::Format),
        ("a b", InvalidReference::Format),
        ("a:b:c", InvalidReference::Format),
        ("a@", InvalidReference::Format),
        ("a@sha256:0123", InvalidReference::Format),
        ("foo.com:/a", InvalidReference::Format),
        ("foo.com:x/a", InvalidReference::Format),
        ("-foo.com/a", InvalidReference::Format),
        ("[::1/a", InvalidReference::Format),
        ("[]:5000/a", InvalidReference::Format),
        ("foo..com/a", InvalidReference::Format),
        ("äöü", InvalidReference::Format),
        (HEX, InvalidReference::LooksLikeId(HEX.to_owned())),
        (&long_tag, InvalidReference::Format),
        (&long, InvalidReference::TooLong),
    ];
    for (text, refusal) in table {
        assert_eq!(Reference::parse(text), Err(refusal), "{text:?}");
    }
    let text = Reference::parse("Nginx").unwrap_err().to_string();
    assert_eq!(
        text,
        "invalid reference format: repository name (library/Nginx) must be lowercase"
    );
}

#[test]
fn digests_are_sha256_in_lower_case() {
    let digested = Reference::parse(&format!("debian:12@sha256:{HEX}")).unwrap();
    assert_eq!(digested.tag(), Some("12"));
    assert_eq!(digested.digest().unwrap().hex(), HEX);
    assert_eq!(digested.familiar(), format!("debian:12@sha256:{HEX}"));
    let refusals = [
        (
            format!("a@sha256:{}", HEX.to_uppercase()),
            InvalidReference::DigestFormat,
        ),
        (format!("a@sha256:{HEX}00"), InvalidReference::DigestLength),
        (
            format!("a@sha512:{HEX}{HEX}"),
            InvalidReference::DigestAlgorithm,
        ),
    ];
    for (text, refusal) in refusals {
        assert_eq!(Reference::parse(&text), Err(refusal), "{text}");
    }
}

#[test]
fn ids_are_told_from_names() {
    let id: Digest = format!("sha256:{HEX}").parse().unwrap();
    assert_eq!(IdOrReference::parse(HEX), Ok(IdOrReference::Id(id)));
    assert_eq!(
        IdOrReference::parse(&id.to_string()),
        Ok(IdOrReference::Id(id))
    );
    let short = IdOrReference::parse("0123456789ab").unwrap();
    assert_eq!(
        short,
        IdOrReference::Reference(Reference::parse("0123456789ab").unwrap())
    );
}

#[test]
fn latest_fills_in_only_where_nothing_is_said() {
    let named = |text: &str| Reference::parse(text).unwrap().or_latest().to_string();
    assert_eq!(named("a"), "docker.io/library/a:latest");
    assert_eq!(named("a:1"), "docker.io/library/a:1");
    assert_eq!(
        named(&format!("a@sha256:{HEX}")),
        format!("docker.io/library/a@sha256:{HEX}")
    );
}

proptest! {
    #[test]
    fn any_text_is_answered_without_panic(text in "\\PC{0,80}") {
        if let Ok(reference) = Reference::parse(&text) {
            prop_assert_eq!(Reference::parse(&reference.to_string()), Ok(reference));
        }
    }

    #[test]
    fn what_parses_survives_both_forms(text in "([a-zA-Z0-9.:_\\[\\]-]{1,12}/)?[a-z0-9._/-]{1,30}(:[a-zA-Z0-9._-]{1,10})?") {
        if let Ok(reference) = Reference::parse(&text) {
            prop_assert_eq!(Reference::parse(&reference.to_string()), Ok(reference.clone()));
            prop_assert_eq!(Reference::parse(&reference.familiar()), Ok(reference));
        }
    }
}
