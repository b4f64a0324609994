//! The client against a registry that keeps to the protocol, and one that does not.
#![expect(clippy::unwrap_used, reason = "tests")]

mod documents;
pub(crate) mod fake;
mod mirrors;
mod uploads;

use base64::Engine as _;
use bytes::Bytes;
use nacre_store::Digest;

use self::fake::{Door, Fake, Fault, client};
use super::*;
use crate::reference::Reference;

fn named(fake: &Fake, rest: &str) -> Reference {
    Reference::parse(&format!("{}/{rest}", fake.domain())).unwrap()
}

fn descriptor(content: &[u8]) -> Descriptor {
    let (digest, size) = (Digest::of(content), content.len() as u64);
    Descriptor {
        media_type: String::new(),
        digest,
        size,
        platform: None,
        annotations: Default::default(),
        urls: Vec::new(),
    }
}

/// Reads a blob to its end, counting the pauses.
async fn read(client: &Client, reference: &Reference, blob: &Descriptor) -> (Result<Vec<u8>>, u32) {
    let mut stream = client.blob(reference, blob);
    let (mut content, mut pauses) = (Vec::new(), 0);
    loop {
        match stream.chunk(&mut |_| pauses += 1).await {
            Ok(Some(chunk)) => content.extend_from_slice(&chunk),
            Ok(None) => return (Ok(content), pauses),
            Err(error) => return (Err(error), pauses),
        }
    }
}

#[tokio::test]
async fn a_manifest_comes_byte_for_byte() {
    let fake = Fake::start().await;
    let digest = fake.image("a/b", "1", &[b"layer".to_vec()], "amd64");
    let fetched = fake
        .client()
        .manifest(&named(&fake, "a/b:1"))
        .await
        .unwrap();
    assert_eq!(fetched.id.0, digest);
    assert!(
        std::str::from_utf8(&fetched.raw.bytes)
            .unwrap()
            .contains("\n\t\"x-odd\" : true")
    );
    let by_digest = fake
        .client()
        .manifest(&named(&fake, &format!("a/b@{digest}")))
        .await
        .unwrap();
    assert_eq!(by_digest.raw, fetched.raw);
    assert_eq!(
        fake.client().tags(&named(&fake, "a/b")).await.unwrap(),
        ["1"]
    );
}

#[tokio::test]
async fn what_is_not_there_is_said_in_dockers_words() {
    let fake = Fake::start().await;
    let reference = named(&fake, "a:1");
    let error = fake.client().manifest(&reference).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("manifest for {reference} not found: manifest unknown: manifest unknown")
    );
    assert_eq!(error.status(), 404);

    let denied =
        r#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#;
    fake.fault(Fault::Answer {
        path: "/manifests/",
        status: 403,
        header: None,
        body: denied,
    });
    let error = fake.client().manifest(&reference).await.unwrap_err();
    let name = reference.familiar_repository();
    let text = format!(
        "pull access denied for {name}, repository does not exist or may require 'docker login': \
         denied: requested access to the resource is denied"
    );
    assert_eq!((error.to_string(), error.status()), (text, 404));

    let scope = (
        "www-authenticate",
        r#"Bearer realm="http://127.0.0.1:1/t",error="insufficient_scope""#.to_owned(),
    );
    fake.fault(Fault::Answer {
        path: "/manifests/",
        status: 403,
        header: Some(scope),
        body: "",
    });
    let error = fake.client().manifest(&reference).await.unwrap_err();
    assert!(
        error.to_string().starts_with("pull access denied for"),
        "{error}"
    );
}

#[tokio::test]
async fn a_registry_that_is_not_there_is_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let domain = listener.local_addr().unwrap().to_string();
    drop(listener);
    let reference = Reference::parse(&format!("{domain}/a:1")).unwrap();
    let error = client(&domain, Credentials::Anonymous)
        .manifest(&reference)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("Get \"http://{domain}/v2/\": connect: connection refused")
    );
    assert_eq!(error.status(), 500);
}

#[tokio::test]
async fn a_registry_that_answers_nothing_is_an_error() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let domain = listener.local_addr().unwrap().to_string();
    let task = tokio::spawn(async move {
        loop {
            drop(listener.accept().await.unwrap());
        }
    });
    let reference = Reference::parse(&format!("{domain}/a:1")).unwrap();
    let error = client(&domain, Credentials::Anonymous)
        .manifest(&reference)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Transport { .. }), "{error}");
    task.abort();
}

#[tokio::test]
async fn a_registry_that_keeps_silent_is_given_up() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let domain = listener.local_addr().unwrap().to_string();
    let reference = Reference::parse(&format!("{domain}/a:1")).unwrap();
    let error = client(&domain, Credentials::Anonymous)
        .manifest(&reference)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("Get \"http://{domain}/v2/\": no answer for 2 seconds")
    );
}

#[tokio::test]
async fn a_failing_registry_is_asked_again_and_then_given_up() {
    let fake = Fake::start().await;
    fake.image("a", "1", &[], "amd64");
    let fault = |status, header| Fault::Answer {
        path: "/manifests/",
        status,
        header,
        body: "oh no",
    };
    fake.fault(fault(503, Some(("retry-after", "0".to_owned()))));
    fake.fault(fault(429, None));
    fake.client().manifest(&named(&fake, "a:1")).await.unwrap();
    for _ in 0..3 {
        fake.fault(fault(500, None));
    }
    let error = fake
        .client()
        .manifest(&named(&fake, "a:1"))
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("received unexpected HTTP status: 500 Internal Server Error"),
        "{error}"
    );
    assert_eq!(fake.seen("/manifests/").len(), 6);
}

#[tokio::test]
async fn wrong_manifests_are_refused() {
    let fake = Fake::start().await;
    let other = Digest::of(b"other");
    fake.manifest("a", &other.to_string(), media::OCI_MANIFEST, "{}");
    let error = fake
        .client()
        .manifest(&named(&fake, &format!("a@{other}")))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::DigestMismatch {
                what: "manifest",
                ..
            }
        ),
        "{error}"
    );
    fake.manifest(
        "a",
        "huge",
        media::OCI_MANIFEST,
        &" ".repeat(MANIFEST_BYTES_MAX + 1),
    );
    let error = fake
        .client()
        .manifest(&named(&fake, "a:huge"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    fake.manifest("a", "odd", "text/html", "<html>");
    let error = fake
        .client()
        .manifest(&named(&fake, "a:odd"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Manifest { .. }), "{error}");
}

#[tokio::test]
async fn basic_credentials_are_given_when_asked_for() {
    let fake = Fake::start().await;
    fake.image("a", "1", &[], "amd64");
    let header = format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode("me:secret")
    );
    fake.shared.lock().door = Door::Basic(header);
    let with = |password: &str| Credentials::Basic {
        username: "me".to_owned(),
        password: password.to_owned(),
    };
    fake.client_as(with("secret"))
        .manifest(&named(&fake, "a:1"))
        .await
        .unwrap();

    let error = fake
        .client_as(with("wrong"))
        .manifest(&named(&fake, "a:1"))
        .await
        .unwrap_err();
    assert_eq!(error.status(), 401, "{error}");
    let error = fake
        .client()
        .manifest(&named(&fake, "a:1"))
        .await
        .unwrap_err();
    assert!(
        error.to_string().ends_with("no basic auth credentials"),
        "{error}"
    );
    assert_eq!(error.status(), 401);
}

#[tokio::test]
async fn tokens_are_fetched_kept_and_fetched_again_when_they_end() {
    let fake = Fake::start().await;
    let content = b"blob".to_vec();
    fake.image("a", "1", std::slice::from_ref(&content), "amd64");
    fake.shared.lock().door = Door::Token { uses: 2, who: None };
    let (client, reference) = (fake.client(), named(&fake, "a:1"));
    client.manifest(&reference).await.unwrap();
    for _ in 0..3 {
        assert_eq!(
            read(&client, &reference, &descriptor(&content))
                .await
                .0
                .unwrap(),
            content
        );
    }
    // Two requests a token, four requests.
    let tokens = fake.seen("/token");
    assert_eq!(tokens.len(), 2, "{tokens:?}");
    assert!(
        tokens[0]
            .line
            .contains("service=fake&scope=repository%3Aa%3Apull"),
        "{tokens:?}"
    );
}

#[tokio::test]
async fn a_token_server_that_refuses_is_quoted() {
    let fake = Fake::start().await;
    let good = format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode("me:secret")
    );
    fake.shared.lock().door = Door::Token {
        uses: 9,
        who: Some(good),
    };
    let wrong = Credentials::Basic {
        username: "me".to_owned(),
        password: "wrong".to_owned(),
    };
    let error = fake
        .client_as(wrong)
        .manifest(&named(&fake, "a:1"))
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("unauthorized: incorrect username or password"),
        "{error}"
    );
    assert_eq!(error.status(), 401);
}

#[tokio::test]
async fn a_registry_that_never_accepts_is_not_asked_for_ever() {
    let fake = Fake::start().await;
    fake.shared.lock().door = Door::Token { uses: 0, who: None };
    let error = fake
        .client()
        .manifest(&named(&fake, "a:1"))
        .await
        .unwrap_err();
    assert_eq!(error.status(), 401, "{error}");
    assert!(fake.shared.lock().log.len() < 8);
}

#[tokio::test]
async fn a_redirect_to_another_host_is_followed_without_the_credentials() {
    let (fake, storage) = (Fake::start().await, Fake::start().await);
    let content = b"far away".to_vec();
    let digest = storage.blob("cdn", &content);
    let header = format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode("me:secret")
    );
    fake.shared.lock().door = Door::Basic(header);
    let to = format!(
        "http://{}/v2/cdn/blobs/{digest}?signature=secret",
        storage.domain()
    );
    fake.fault(Fault::Answer {
        path: "/blobs/",
        status: 307,
        header: Some(("location", to)),
        body: "",
    });
    let credentials = Credentials::Basic {
        username: "me".to_owned(),
        password: "secret".to_owned(),
    };
    let client = fake.client_as(credentials);
    assert_eq!(
        read(&client, &named(&fake, "a:1"), &descriptor(&content))
            .await
            .0
            .unwrap(),
        content
    );
    assert!(
        fake.seen("/blobs/")
            .iter()
            .any(|seen| seen.authorization.is_some())
    );
    let asked = storage.seen("/blobs/");
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].authorization, None);
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_broke() {
    let content: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    for ignores_ranges in [false, true] {
        let fake = Fake::start().await;
        fake.shared.lock().ignores_ranges = ignores_ranges;
        fake.blob("a", &content);
        for after in [1000, 100_000] {
            fake.fault(Fault::Cut {
                path: "/blobs/",
                after,
            });
        }
        let (got, pauses) = read(&fake.client(), &named(&fake, "a:1"), &descriptor(&content)).await;
        assert!(got.unwrap() == content, "ignores_ranges {ignores_ranges}");
        assert_eq!(pauses, 2);
        let ranges: Vec<Option<String>> = fake
            .seen("/blobs/")
            .into_iter()
            .map(|seen| seen.range)
            .collect();
        assert_eq!(ranges.len(), 3);
        assert!(ranges[0].is_none() && ranges[2].is_some(), "{ranges:?}");
    }
}

#[tokio::test]
async fn a_download_that_always_breaks_is_given_up() {
    let fake = Fake::start().await;
    let content = vec![1; 5000];
    fake.blob("a", &content);
    for _ in 0..10 {
        fake.fault(Fault::Cut {
            path: "/blobs/",
            after: 10,
        });
    }
    let (got, pauses) = read(&fake.client(), &named(&fake, "a:1"), &descriptor(&content)).await;
    assert!(matches!(got, Err(Error::Transport { .. })), "{got:?}");
    assert_eq!(pauses + 1, Settings::default().blob_attempts);
}

#[tokio::test]
async fn a_blob_of_another_length_is_refused() {
    let fake = Fake::start().await;
    let content = vec![1; 5000];
    fake.blob("a", &content);
    for size in [4999, 5001] {
        let lying = Descriptor {
            size,
            ..descriptor(&content)
        };
        let (got, _) = read(&fake.client(), &named(&fake, "a:1"), &lying).await;
        assert!(
            matches!(got, Err(Error::SizeMismatch { actual: 5000, .. })),
            "{got:?}"
        );
    }
    let (got, _) = read(
        &fake.client(),
        &named(&fake, "a:1"),
        &descriptor(b"not there"),
    )
    .await;
    assert!(
        got.unwrap_err()
            .to_string()
            .ends_with("blob unknown: blob unknown to registry")
    );
}

#[tokio::test]
async fn small_blobs_are_verified() {
    let fake = Fake::start().await;
    let digest = fake.blob("a", b"right");
    fake.shared
        .lock()
        .blobs
        .insert(digest, Bytes::from_static(b"wrong"));
    let (client, reference) = (fake.client(), named(&fake, "a:1"));
    let error = client
        .small_blob(&reference, &descriptor(b"right"), "image config", 100)
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::DigestMismatch {
                what: "image config",
                ..
            }
        ),
        "{error}"
    );
    let error = client
        .small_blob(&reference, &descriptor(b"right"), "image config", 4)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
}
