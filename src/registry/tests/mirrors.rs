//! Mirrors that fail in every way, and logins, against registries in the test's own process.

use super::fake::{Door, Fake, Fault, client, impatient};
use super::{descriptor, named, read};
use crate::registry::{Client, Credentials, MirrorAt, Settings};

fn secret(username: &str) -> Credentials {
    Credentials::Basic {
        username: username.to_owned(),
        password: "secret".to_owned(),
    }
}

/// A client for `origin` with mirrors that hold its repositories under `/hub`.
fn mirrored(origin: &Fake, mirrors: &[&Fake]) -> Client {
    let at = |mirror: &&Fake| {
        MirrorAt::parse(&origin.domain(), &format!("{}/hub", mirror.domain())).unwrap()
    };
    let settings = Settings {
        mirrors: mirrors.iter().map(at).collect(),
        ..impatient()
    };
    Client::for_pull(&named(origin, "a"), secret("origin"), settings, &|domain| {
        secret(domain)
    })
    .unwrap()
}

#[tokio::test]
async fn a_mirror_that_breaks_off_is_followed_by_the_registry() {
    let (origin, mirror) = (Fake::start().await, Fake::start().await);
    let content = vec![7; 10_000];
    origin.blob("a", &content);
    mirror.blob("hub/a", &content);
    mirror.fault(Fault::Cut {
        path: "/blobs/",
        after: 4_000,
    });
    let client = mirrored(&origin, &[&mirror]);
    let reference = named(&origin, "a");
    let (got, pauses) = read(&client, &reference, &descriptor(&content)).await;
    assert_eq!((got.unwrap(), pauses), (content, 1));
    let log = origin.shared.lock().log.clone();
    let ranges: Vec<_> = log.iter().filter_map(|seen| seen.range.clone()).collect();
    assert_eq!(ranges, ["bytes=4000-"], "{log:?}");
}

#[tokio::test]
async fn every_failure_of_a_mirror_leads_on_and_secrets_stay_with_their_host() {
    let (origin, first, second) = (
        Fake::start().await,
        Fake::start().await,
        Fake::start().await,
    );
    let digest = second.image("hub/a", "1", &[b"layer".to_vec()], "amd64");
    for (at, status) in [(&first, 503), (&first, 403), (&first, 429)] {
        at.fault(Fault::Answer {
            path: "/manifests/",
            status,
            header: None,
            body: "no",
        });
        let client = mirrored(&origin, &[&first, &second]);
        let got = client.manifest(&named(&origin, "a:1")).await.unwrap();
        assert_eq!(got.id.0, digest);
    }
    assert!(origin.shared.lock().log.is_empty(), "it need not be there");

    // Each asks for a password, and each is told its own only.
    let basic = |name: &str| {
        use base64::Engine as _;
        let pair = format!("{name}:secret");
        let text = base64::engine::general_purpose::STANDARD.encode(pair);
        format!("Basic {text}")
    };
    first.shared.lock().door = Door::Basic(basic("nobody"));
    second.shared.lock().door = Door::Basic(basic(&second.domain()));
    let client = mirrored(&origin, &[&first, &second]);
    client.manifest(&named(&origin, "a:1")).await.unwrap();
    for (fake, own) in [(&first, first.domain()), (&second, second.domain())] {
        let log = fake.shared.lock().log.clone();
        let told: Vec<_> = log.iter().filter_map(|s| s.authorization.clone()).collect();
        assert!(!told.is_empty());
        assert!(told.iter().all(|told| *told == basic(&own)), "{told:?}");
    }
}

#[tokio::test]
async fn what_a_mirror_spoils_comes_from_the_next_source() {
    let (origin, mirror) = (Fake::start().await, Fake::start().await);
    let digest = origin.image("a", "1", &[], "amd64");
    let reference = named(&origin, "a:1");
    // Garbage, and one that is none of ours under a digest that is.
    mirror.manifest("hub/a", "1", "text/html", "<html>log in here</html>");
    mirror.manifest("hub/a", &digest.to_string(), "", "{}");
    for asked in [reference.clone(), reference.with_digest(digest)] {
        let client = mirrored(&origin, &[&mirror]);
        let got = client.manifest(&asked).await.unwrap();
        assert_eq!(got.id.0, digest);
        // It is asked nothing more.
        client.manifest(&asked).await.unwrap();
    }
    assert_eq!(mirror.seen("/manifests/").len(), 2);

    // A blob that is another, one that is shorter, and a piece that was not asked for.
    let content = vec![7; 10_000];
    let (blob, id) = (descriptor(&content), origin.blob("a", &content));
    mirror.blob("hub/a", &content);
    for spoilt in [vec![8; 10_000], vec![7; 9_000]] {
        mirror.shared.lock().blobs.insert(id, spoilt.into());
        let client = mirrored(&origin, &[&mirror]);
        let got = client.small_blob(&reference, &blob, "image config", 10_000);
        assert_eq!(got.await.unwrap(), content);
    }
    mirror.fault(Fault::Answer {
        path: "/blobs/",
        status: 206,
        header: Some(("content-range", "bytes 5-9/10000".to_owned())),
        body: "seven",
    });
    let client = mirrored(&origin, &[&mirror]);
    let got = client.small_blob(&reference, &blob, "image config", 10_000);
    assert_eq!(got.await.unwrap(), content);
    assert_eq!(mirror.seen("/blobs/").len(), 3);
}

#[tokio::test]
async fn a_mirror_that_hiccups_is_asked_again_where_the_registry_is_out_of_reach() {
    let (origin, mirror) = (Fake::start().await, Fake::start().await);
    let digest = mirror.image("hub/a", "1", &[], "amd64");
    let (reference, client) = (named(&origin, "a:1"), mirrored(&origin, &[&mirror]));
    drop(origin);
    mirror.fault(Fault::Cut {
        path: "/manifests/",
        after: 5,
    });
    let got = client.manifest(&reference).await.unwrap();
    assert_eq!(got.id.0, digest);
}

#[tokio::test]
async fn what_no_mirror_has_is_reported_as_the_registry_says_it() {
    let (origin, mirror) = (Fake::start().await, Fake::start().await);
    let client = mirrored(&origin, &[&mirror]);
    let reference = named(&origin, "a:1");
    let error = client.manifest(&reference).await.unwrap_err();
    let expected =
        format!("manifest for {reference} not found: manifest unknown: manifest unknown");
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn a_login_returns_what_the_token_server_gives_to_keep() {
    let fake = Fake::start().await;
    fake.shared.lock().door = Door::Token {
        uses: 9,
        who: Some("Basic bWU6c2VjcmV0".to_owned()),
    };
    let token = client(&fake.domain(), secret("me")).log_in().await.unwrap();
    assert_eq!(token.as_deref(), Some("to-keep"));
    let error = client(&fake.domain(), secret("you")).log_in().await;
    let error = error.unwrap_err();
    assert_eq!(error.status(), 401);
    assert!(
        error
            .to_string()
            .contains("unauthorized: incorrect username or password"),
        "{error}"
    );
    // A registry that asks for nothing takes everybody, and gives nothing.
    fake.shared.lock().door = Door::Open;
    let token = client(&fake.domain(), secret("me")).log_in().await.unwrap();
    assert_eq!(token, None);
}
