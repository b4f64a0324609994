//! Small documents over a bad network: what breaks off within is asked for again.

use super::fake::{Fake, Fault, client, impatient};
use super::named;
use crate::registry::{Client, Credentials, Error, Settings};

#[tokio::test]
async fn a_document_that_breaks_off_is_asked_for_again() {
    let fake = Fake::start().await;
    let digest = fake.image("a", "1", &[b"layer".to_vec()], "amd64");
    let cut = |path| Fault::Cut { path, after: 5 };
    let reference = named(&fake, "a:1");

    fake.fault(cut("/manifests/"));
    fake.fault(cut("/manifests/"));
    let got = fake.client().manifest(&reference).await.unwrap();
    assert_eq!(got.id.0, digest);
    assert_eq!(fake.seen("/manifests/").len(), 3);

    fake.fault(cut("/tags/list"));
    assert_eq!(fake.client().tags(&reference).await.unwrap(), ["1"]);
    assert_eq!(fake.seen("/tags/list").len(), 2);

    for _ in 0..9 {
        fake.fault(cut("/manifests/"));
    }
    let error = fake.client().manifest(&reference).await.unwrap_err();
    assert!(matches!(error, Error::Transport { .. }), "{error}");
    let attempts = usize::try_from(Settings::default().request_attempts).unwrap();
    assert_eq!(fake.seen("/manifests/").len(), 3 + attempts);
}

#[tokio::test]
async fn a_token_that_breaks_off_or_is_not_to_be_had_now_is_asked_for_again() {
    let fake = Fake::start().await;
    fake.image("a", "1", &[], "amd64");
    fake.shared.lock().door = super::fake::Door::Token { uses: 9, who: None };
    fake.fault(Fault::Cut {
        path: "/token",
        after: 5,
    });
    fake.fault(Fault::Answer {
        path: "/token",
        status: 503,
        header: None,
        body: "",
    });
    let client = client(&fake.domain(), Credentials::Anonymous);
    client.manifest(&named(&fake, "a:1")).await.unwrap();
    assert_eq!(fake.seen("/token").len(), 3);
    for _ in 0..9 {
        fake.fault(Fault::Answer {
            path: "/token",
            status: 503,
            header: None,
            body: "",
        });
    }
    let fresh = fake.client().manifest(&named(&fake, "a:1")).await;
    let error = fresh.unwrap_err();
    let expected = format!(
        "failed to fetch a token from http://{}/token",
        fake.domain()
    );
    assert!(error.to_string().starts_with(&expected), "{error}");
}

#[tokio::test]
async fn manifests_have_the_limits_that_were_set() {
    let fake = Fake::start().await;
    let (one, two) = (b"one".to_vec(), b"two".to_vec());
    fake.image("a", "1", &[one, two], "amd64");
    let reference = named(&fake, "a:1");
    for (settings, words) in [
        (
            Settings {
                layers_max: 1,
                ..impatient()
            },
            "invalid manifest: more than 1 layers",
        ),
        (
            Settings {
                manifest_bytes_max: 100,
                ..impatient()
            },
            "is larger than 100 bytes",
        ),
    ] {
        let client = Client::new(&fake.domain(), Credentials::Anonymous, settings).unwrap();
        let error = client.manifest(&reference).await.unwrap_err();
        assert!(error.to_string().ends_with(words), "{error}");
    }
    fake.client().manifest(&reference).await.unwrap();
}
