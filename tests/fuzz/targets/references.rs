//! Image names: service and command line read them alike, and a name that is written out is read as itself.

use nacre::reference::{IdOrReference, InvalidReference, Reference};
use nacre_cli::fuzzing;

/// Takes one input.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let ours = Reference::parse(&text);
    let theirs = fuzzing::reference(&text);
    match (&ours, &theirs) {
        (Ok(ours), Some(theirs)) => {
            assert_eq!(ours.domain(), theirs.domain);
            assert_eq!(ours.path(), theirs.path);
            assert_eq!(ours.tag(), theirs.tag.as_deref());
            let digest = ours.digest().map(ToString::to_string);
            assert_eq!(digest, theirs.digest);
            assert_eq!(ours.familiar_repository(), theirs.familiar);
            round_trip(ours);
        }
        (Err(_), None) => {}
        (Ok(_), None) => panic!("only the command line refuses {text:?}"),
        // The command line leaves the judgement of digests to the service.
        (
            Err(
                InvalidReference::DigestAlgorithm
                | InvalidReference::DigestLength
                | InvalidReference::DigestFormat,
            ),
            Some(theirs),
        ) => assert!(theirs.digest.is_some()),
        // As docker does, the service takes all before the first colon for the name, an odd digest's algorithm too.
        (Err(InvalidReference::Uppercase(name)), Some(theirs)) if name.contains('@') => {
            assert!(theirs.digest.is_some());
        }
        (Err(error), Some(_)) => panic!("only the service refuses {text:?}: {error}"),
    }
    if let Ok(IdOrReference::Id(digest)) = IdOrReference::parse(&text) {
        assert!(text.ends_with(&digest.hex()), "{text:?}");
    }
}

fn round_trip(name: &Reference) {
    for shown in [name.to_string(), name.familiar()] {
        match Reference::parse(&shown) {
            Ok(again) => assert_eq!(&again, name, "{shown}"),
            // docker.io/HEX is a name; HEX alone, its short form, is an ID.
            Err(InvalidReference::LooksLikeId(_)) => assert_eq!(shown, name.familiar()),
            Err(error) => panic!("{shown}: {error}"),
        }
    }
    let latest = name.clone().or_latest();
    assert!(latest.tag().is_some() || latest.digest().is_some());
    assert_eq!(latest.name_only(), name.name_only());
}
