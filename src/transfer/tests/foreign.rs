//! Layers that are not where their image is.

use super::registries::{host, named};
use super::*;
use crate::registry::tests::fake::{Door, Fake, Fault};
use crate::registry::{Credentials, media};

const FOREIGN: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";

/// Puts an image into a registry whose one layer is elsewhere; returns the layer and the manifest's digest.
fn image(fake: &Fake, media_type: &str, urls: &[String]) -> (Vec<u8>, Digest) {
    let tar = big_tar(3);
    let layer = gzip(&tar);
    let config = format!(
        r#"{{"architecture":"{}","os":"linux","rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
        host(),
        Digest::of(&tar)
    );
    let id = fake.blob("a", config.as_bytes());
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}","digest":"{id}","size":{}}},"layers":[{{"mediaType":"{media_type}","digest":"{}","size":{},"urls":{urls:?}}}]}}"#,
        media::DOCKER_MANIFEST,
        media::DOCKER_CONFIG,
        config.len(),
        Digest::of(&layer),
        layer.len(),
    );
    let digest = fake.manifest("a", "1", media::DOCKER_MANIFEST, &manifest);
    (layer, digest)
}

fn address(at: &Fake, content: &[u8]) -> String {
    format!(
        "http://{}/v2/cdn/blobs/{}",
        at.domain(),
        Digest::of(content)
    )
}

async fn pull_as(fake: &Fake, to: &TempStore, credentials: Credentials) -> Result<Pulled> {
    let (client, told) = (fake.client_as(credentials), Told::default());
    let (name, downloads) = (named(fake, "a:1"), Downloads::default());
    pull(&to.store, &client, &name, None, &downloads, told.arc()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_layer_comes_from_its_address_and_is_not_pushed() {
    let (fake, cdn, to) = (Fake::start().await, Fake::start().await, TempStore::new());
    let layer = gzip(&big_tar(3));
    cdn.blob("cdn", &layer);
    let dead = "http://127.0.0.1:1/nothing".to_owned();
    let odd = "file:///etc/passwd".to_owned();
    let (_, digest) = image(&fake, FOREIGN, &[odd, dead, address(&cdn, &layer)]);
    let header = "Basic bWU6c2VjcmV0".to_owned();
    fake.shared.lock().door = Door::Basic(header);
    let me = Credentials::Basic {
        username: "me".to_owned(),
        password: "secret".to_owned(),
    };
    // It breaks on the way, and goes on.
    let hex: &'static str = Box::leak(Digest::of(&layer).hex().into_boxed_str());
    for (at, after) in [(&cdn, 50), (&fake, 0)] {
        at.fault(match after {
            0 => Fault::Answer {
                path: hex,
                status: 404,
                header: None,
                body: "",
            },
            after => Fault::Cut { path: hex, after },
        });
    }
    let pulled = pull_as(&fake, &to, me).await.unwrap();
    assert_eq!(pulled.digest.0, digest);
    let asked = cdn.seen(hex);
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert_eq!(asked[1].range.as_deref(), Some("bytes=50-"));
    assert!(asked.iter().all(|seen| seen.authorization.is_none()));

    let (other, told) = (Fake::start().await, Told::default());
    let name = named(&other, "b:1");
    to.store.tag(&name.to_string(), &pulled.image).unwrap();
    let pushed = push(&to.store, &other.client(), &name, None, told.arc()).await;
    assert_eq!(pushed.unwrap().digest.0, digest);
    let line = format!("{}: Skipped foreign layer", short(&big_tar(3)));
    assert!(told.has(&line), "{:?}", told.lines());
    assert!(other.seen(hex).is_empty());
    to.assert_whole();
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_are_asked_for_foreign_layers_only_and_verified() {
    let (fake, cdn, to) = (Fake::start().await, Fake::start().await, TempStore::new());
    let layer = gzip(&big_tar(3));
    let at = address(&cdn, &layer);
    let digest = cdn.blob("cdn", &layer);
    image(&fake, media::DOCKER_LAYER_GZIP, std::slice::from_ref(&at));
    let error = pull_as(&fake, &to, Credentials::Anonymous)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("blob unknown"), "{error}");
    assert!(cdn.seen("blobs").is_empty());

    image(&fake, FOREIGN, std::slice::from_ref(&at));
    let mut other = layer.clone();
    other[layer.len() / 2] ^= 1;
    cdn.shared.lock().blobs.insert(digest, other.into());
    let error = pull_as(&fake, &to, Credentials::Anonymous)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("mismatch"), "{error}");
    // Where the registry has it all the same, nobody else is asked.
    fake.blob("a", &layer);
    pull_as(&fake, &to, Credentials::Anonymous).await.unwrap();
    assert_eq!(cdn.seen("blobs").len(), 1);

    let many = vec![at; 17];
    image(&fake, FOREIGN, &many);
    let error = pull_as(&fake, &to, Credentials::Anonymous)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("more than 16 urls"), "{error}");
    to.assert_whole();
}

/// What an address gives is verified, and where it is not the layer, the next one is asked for all of it. One that gave only
/// the rest of it is asked for the whole first: the beginning may have been wrong.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_gives_something_else_is_followed_by_the_next() {
    let layer = gzip(&big_tar(3));
    let mut other = layer.clone();
    other[layer.len() / 2] ^= 1;
    let hex: &'static str = Box::leak(Digest::of(&layer).hex().into_boxed_str());
    for breaks_at in [None, Some(layer.len() / 2 + 9)] {
        let (fake, bad, good) = (
            Fake::start().await,
            Fake::start().await,
            Fake::start().await,
        );
        let to = TempStore::new();
        image(
            &fake,
            FOREIGN,
            &[address(&bad, &layer), address(&good, &layer)],
        );
        let digest = bad.blob("cdn", &layer);
        bad.shared.lock().blobs.insert(digest, other.clone().into());
        if let Some(after) = breaks_at {
            bad.fault(Fault::Cut { path: hex, after });
            bad.fault(Fault::Answer {
                path: hex,
                status: 404,
                header: None,
                body: "",
            });
        }
        good.blob("cdn", &layer);
        pull_as(&fake, &to, Credentials::Anonymous).await.unwrap();
        let ranges: Vec<_> = good.seen(hex).into_iter().map(|seen| seen.range).collect();
        match breaks_at {
            None => {
                assert_eq!(bad.seen(hex).len(), 1);
                assert_eq!(ranges, [None]);
            }
            Some(after) => {
                assert_eq!(bad.seen(hex).len(), 2);
                assert_eq!(ranges, [Some(format!("bytes={after}-")), None]);
            }
        }
        to.assert_whole();
    }
    // All of them give something else: that is the error, and nothing stays.
    let (fake, bad, to) = (Fake::start().await, Fake::start().await, TempStore::new());
    let at = address(&bad, &layer);
    image(&fake, FOREIGN, &[at.clone(), at]);
    let digest = bad.blob("cdn", &layer);
    bad.shared.lock().blobs.insert(digest, other.into());
    let error = pull_as(&fake, &to, Credentials::Anonymous).await;
    assert!(error.is_err());
    assert_eq!(bad.seen(hex).len(), 2);
    to.assert_empty();
}
