//! Layers that several pulls want, and sources that cannot be trusted with one.

use super::registries::{host, named};
use super::*;
use crate::registry::tests::fake::{Fake, Fault};
use crate::registry::{Client, Credentials, MirrorAt, Settings};

/// Two pulls of one image at the same time.
async fn pull_twice(fake: &Fake, to: &TempStore) -> [Result<Pulled>; 2] {
    let (downloads, client) = (Downloads::default(), fake.client());
    let (one, two) = (Told::default(), Told::default());
    let name = named(fake, "a:1");
    let (one, two) = tokio::join!(
        pull(&to.store, &client, &name, None, &downloads, one.arc()),
        pull(&to.store, &client, &name, None, &downloads, two.arc()),
    );
    [one, two]
}

#[tokio::test(flavor = "multi_thread")]
async fn two_pulls_of_one_layer_share_one_download() {
    let (fake, to) = (Fake::start().await, TempStore::new());
    let layers: Vec<Vec<u8>> = (0..6).map(big_tar).collect();
    fake.image("a", "1", &layers, &host());
    for pulled in pull_twice(&fake, &to).await {
        pulled.unwrap();
    }
    for layer in &layers {
        assert_eq!(fake.seen(&Digest::of(layer).hex()).len(), 1);
    }
    to.assert_whole();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_goes_on_where_the_one_that_it_waited_for_failed() {
    let (fake, to) = (Fake::start().await, TempStore::new());
    fake.image("a", "1", &[big_tar(1)], &host());
    let layer = Digest::of(&big_tar(1)).hex();
    fake.fault(Fault::Answer {
        path: Box::leak(layer.clone().into_boxed_str()),
        status: 403,
        header: None,
        body: "",
    });
    let ends = pull_twice(&fake, &to).await.map(|pulled| pulled.is_ok());
    assert_eq!(
        ends.iter().filter(|ok| **ok).count(),
        1,
        "one meets the fault"
    );
    assert_eq!(fake.seen(&layer).len(), 2, "the other one asks for itself");
    to.assert_whole();
}

/// A pull in a task of its own, that can be broken off.
fn pulling(
    fake: &Fake,
    to: &TempStore,
    downloads: &Downloads,
) -> tokio::task::JoinHandle<Result<Pulled>> {
    let (store, client, name) = (to.store.clone(), fake.client(), named(fake, "a:1"));
    let downloads = downloads.clone();
    tokio::spawn(async move {
        let told = Told::default();
        pull(&store, &client, &name, None, &downloads, told.arc()).await
    })
}

async fn until(mut holds: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("it never came to that");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_goes_on_where_the_one_before_was_broken_off() {
    let (fake, to, downloads) = (Fake::start().await, TempStore::new(), Downloads::default());
    let layer = big_tar(1);
    let digest = Digest::of(&layer);
    let hex: &'static str = Box::leak(digest.hex().into_boxed_str());
    fake.image("a", "1", std::slice::from_ref(&layer), &host());
    let after = layer.len() / 2;
    fake.fault(Fault::Stall { path: hex, after });
    let first = pulling(&fake, &to, &downloads);
    until(|| !fake.seen(hex).is_empty()).await;
    let second = pulling(&fake, &to, &downloads);
    until(|| downloads.wanted_by(&digest) == 2).await;
    // What has left the registry has been read.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    first.abort();
    second.await.unwrap().unwrap();
    let ranges: Vec<_> = fake.seen(hex).into_iter().map(|seen| seen.range).collect();
    assert_eq!(ranges, [None, Some(format!("bytes={after}-"))]);
    to.assert_whole();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_left_by_a_pull_that_got_rubbish_is_begun_again() {
    let (fake, to, downloads) = (Fake::start().await, TempStore::new(), Downloads::default());
    let layer = big_tar(1);
    let digest = Digest::of(&layer);
    let hex: &'static str = Box::leak(digest.hex().into_boxed_str());
    fake.image("a", "1", std::slice::from_ref(&layer), &host());
    let after = layer.len() / 2;
    let mut rubbish = layer.clone();
    rubbish[after - 1] ^= 1;
    fake.shared.lock().blobs.insert(digest, rubbish.into());
    fake.fault(Fault::Stall { path: hex, after });
    let first = pulling(&fake, &to, &downloads);
    until(|| !fake.seen(hex).is_empty()).await;
    let second = pulling(&fake, &to, &downloads);
    until(|| downloads.wanted_by(&digest) == 2).await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    fake.blob("a", &layer);
    first.abort();
    second.await.unwrap().unwrap();
    assert_eq!(fake.seen(hex).len(), 3);
    to.assert_whole();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_is_broken_off_alone_leaves_nothing() {
    let (fake, to, downloads) = (Fake::start().await, TempStore::new(), Downloads::default());
    let layer = big_tar(1);
    let hex: &'static str = Box::leak(Digest::of(&layer).hex().into_boxed_str());
    fake.image("a", "1", std::slice::from_ref(&layer), &host());
    let after = layer.len() / 2;
    fake.fault(Fault::Stall { path: hex, after });
    let only = pulling(&fake, &to, &downloads);
    until(|| !fake.seen(hex).is_empty()).await;
    only.abort();
    assert!(only.await.unwrap_err().is_cancelled());
    until(|| downloads.wanted_by(&Digest::of(&layer)) == 0).await;
    // The unpacking ends a moment later, by itself.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    to.assert_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_a_mirror_spoils_comes_from_the_registry() {
    let (fake, mirror, to) = (Fake::start().await, Fake::start().await, TempStore::new());
    let layer = big_tar(1);
    let digest = fake.image("a", "1", std::slice::from_ref(&layer), &host());
    mirror.image("hub/a", "1", std::slice::from_ref(&layer), &host());
    let mut spoilt = layer.clone();
    spoilt[layer.len() / 2] ^= 1;
    mirror
        .shared
        .lock()
        .blobs
        .insert(Digest::of(&layer), spoilt.into());
    let at = MirrorAt::parse(&fake.domain(), &format!("{}/hub", mirror.domain())).unwrap();
    let settings = Settings {
        mirrors: vec![at],
        ..Settings::default()
    };
    let name = named(&fake, "a:1");
    let client = Client::for_pull(&name, Credentials::Anonymous, settings, &|_| {
        Credentials::Anonymous
    })
    .unwrap();
    let told = Told::default();
    let downloads = Downloads::default();
    let pulled = pull(&to.store, &client, &name, None, &downloads, told.arc()).await;
    assert_eq!(pulled.unwrap().digest.0, digest);
    let hex = Digest::of(&layer).hex();
    assert_eq!((mirror.seen(&hex).len(), fake.seen(&hex).len()), (1, 1));
    to.assert_whole();
}
