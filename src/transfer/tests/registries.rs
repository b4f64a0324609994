//! Pull and push.

use nacre_store::{ImageId, NewImage, RefUpdate};

use super::*;
use crate::reference::Reference;
use crate::registry::tests::fake::{Fake, Fault};
use crate::registry::{Platform, media};

pub(super) fn named(fake: &Fake, rest: &str) -> Reference {
    Reference::parse(&format!("{}/{rest}", fake.domain())).unwrap()
}

async fn pull_from(fake: &Fake, to: &TempStore, name: &str, told: &Told) -> Result<Pulled> {
    pull(
        &to.store,
        &fake.client(),
        &named(fake, name),
        None,
        &Downloads::default(),
        told.arc(),
    )
    .await
}

pub(super) fn host() -> String {
    Platform::host().architecture
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pulled_image_is_there_with_its_names_and_docker_hears_its_lines() {
    let (fake, to, told) = (Fake::start().await, TempStore::new(), Told::default());
    let layers = [tar(&[("a", b"1")]), big_tar(1)];
    let digest = fake.image("lib/app", "1", &layers, &host());
    let pulled = pull_from(&fake, &to, "lib/app:1", &told).await.unwrap();
    assert!(pulled.updated);
    assert_eq!(pulled.digest_line(), format!("Digest: {digest}"));
    assert_eq!(
        pulled.status_line(),
        format!(
            "Status: Downloaded newer image for {}/lib/app:1",
            fake.domain()
        )
    );
    let base = format!("{}/lib/app", fake.domain());
    assert_eq!(
        to.names(),
        [format!("{base}:1"), format!("{base}@{digest}")]
    );

    let lines = told.lines();
    let (one, two) = (short(&layers[0]), short(&layers[1]));
    let before = [
        &"1: Pulling from lib/app".to_owned(),
        &format!("{one}: Pulling fs layer"),
        &format!("{two}: Pulling fs layer"),
    ];
    assert_eq!(lines.iter().take(3).collect::<Vec<_>>(), before);
    let after = [
        format!("{one}: Pull complete"),
        format!("{two}: Pull complete"),
    ];
    assert_eq!(lines[lines.len() - 2..], after);
    for line in ["Verifying Checksum", "Download complete"] {
        assert!(told.has(&format!("{one}: {line}")), "{line}: {lines:?}");
    }
    let again = Told::default();
    let pulled = pull_from(&fake, &to, "lib/app:1", &again).await.unwrap();
    assert!(!pulled.updated);
    assert_eq!(again.lines(), ["1: Pulling from lib/app"]);
    let config = fake.seen(&pulled.image.0.hex());
    assert_eq!(
        config.len(),
        1,
        "an image that is here costs its manifest alone"
    );
    to.assert_whole();
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_that_are_here_are_not_fetched() {
    let (fake, to, told) = (Fake::start().await, TempStore::new(), Told::default());
    let base = big_tar(2);
    fake.image("a", "1", std::slice::from_ref(&base), &host());
    let twice = tar(&[("twice", b"x")]);
    fake.image(
        "a",
        "2",
        &[base.clone(), twice.clone(), twice.clone()],
        &host(),
    );
    pull_from(&fake, &to, "a:1", &told).await.unwrap();
    pull_from(&fake, &to, "a:2", &told).await.unwrap();
    assert!(
        told.has(&format!("{}: Already exists", short(&base))),
        "{:?}",
        told.lines()
    );
    assert_eq!(fake.seen(&Digest::of(&base).hex()).len(), 1);
    assert_eq!(
        fake.seen(&Digest::of(&twice).hex()).len(),
        1,
        "a layer that an image has twice comes once"
    );
    to.assert_whole();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_gives_the_image_of_the_platform_under_the_indexs_digest() {
    let (fake, to, told) = (Fake::start().await, TempStore::new(), Told::default());
    let one = fake.image("m", "x", &[tar(&[("arch", b"host")])], &host());
    let other = fake.image("m", "y", &[tar(&[("arch", b"s390x")])], "s390x");
    let entry = |digest: &Digest, platform: &str, rest: &str| {
        let size = fake.shared.lock().manifests[&("m".to_owned(), digest.to_string())]
            .1
            .len();
        format!(
            r#"{{"mediaType":"{}","digest":"{digest}","size":{size},"platform":{{"os":"{platform}"}}{rest}}}"#,
            media::OCI_MANIFEST
        )
    };
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{},{},{}]}}"#,
        media::OCI_INDEX,
        entry(
            &one,
            "unknown\",\"architecture\":\"unknown",
            r#","annotations":{"vnd.docker.reference.type":"attestation-manifest"}"#
        ),
        entry(&other, "linux\",\"architecture\":\"s390x", ""),
        entry(&one, &format!("linux\",\"architecture\":\"{}", host()), ""),
    );
    let digest = fake.manifest("m", "multi", media::OCI_INDEX, &index);
    let pulled = pull_from(&fake, &to, "m:multi", &told).await.unwrap();
    assert_eq!(pulled.digest.0, digest);
    let image = to.store.image(&pulled.image).unwrap().unwrap();
    assert_eq!(
        image.manifest.unwrap().0,
        one,
        "the manifest that was picked is kept"
    );

    let elsewhere = Platform::parse("linux/s390x").unwrap();
    let reference = named(&fake, "m:multi");
    let other_image = pull(
        &to.store,
        &fake.client(),
        &reference,
        Some(&elsewhere),
        &Downloads::default(),
        told.arc(),
    )
    .await
    .unwrap();
    assert_ne!(other_image.image, pulled.image);
    let nowhere = Platform::parse("linux/riscv64").unwrap();
    let error = pull(
        &to.store,
        &fake.client(),
        &reference,
        Some(&nowhere),
        &Downloads::default(),
        told.arc(),
    )
    .await
    .unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("no matching manifest for linux/riscv64 in the manifest list entries"),
        "{error}"
    );
    assert_eq!(error.status(), 404);
    let single = named(&fake, "m:y");
    let error = pull(
        &to.store,
        &fake.client(),
        &single,
        Some(&nowhere),
        &Downloads::default(),
        told.arc(),
    )
    .await
    .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("was found but its platform (linux/s390x) does not match"),
        "{error}"
    );
}

/// Pulls an image whose second layer is bad; nothing may be left.
async fn pull_of_bad(spoil: impl FnOnce(&Fake, &[u8])) -> Error {
    let (fake, to, told) = (Fake::start().await, TempStore::new(), Told::default());
    let bad = big_tar(3);
    fake.image("a", "1", &[tar(&[("a", b"1")]), bad.clone()], &host());
    spoil(&fake, &bad);
    let error = pull_from(&fake, &to, "a:1", &told).await.unwrap_err();
    to.assert_empty();
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_layer_fails_the_pull_and_leaves_nothing() {
    let wrong = |fake: &Fake, bad: &[u8]| {
        let mut content = bad.to_vec();
        content[700] ^= 1;
        fake.shared
            .lock()
            .blobs
            .insert(Digest::of(bad), content.into());
    };
    let error = pull_of_bad(wrong).await;
    assert!(
        matches!(
            error,
            Error::Store(nacre_store::Error::DigestMismatch { .. })
        ),
        "{error}"
    );

    let missing = |fake: &Fake, bad: &[u8]| {
        fake.shared.lock().blobs.remove(&Digest::of(bad));
    };
    let error = pull_of_bad(missing).await;
    assert!(error.to_string().contains("blob unknown"), "{error}");
    assert_eq!(error.status(), 404);

    let shorter = |fake: &Fake, bad: &[u8]| {
        fake.shared
            .lock()
            .blobs
            .insert(Digest::of(bad), bad[..1000].to_vec().into());
    };
    let error = pull_of_bad(shorter).await;
    assert!(
        error
            .to_string()
            .contains("has 1000 bytes, its descriptor says"),
        "{error}"
    );

    let breaking = |fake: &Fake, bad: &[u8]| {
        let digest: &'static str = Digest::of(bad).hex().leak();
        for _ in 0..20 {
            fake.fault(Fault::Cut {
                path: digest,
                after: 1000,
            });
        }
    };
    let error = pull_of_bad(breaking).await;
    assert!(
        matches!(
            error,
            Error::Registry(crate::registry::Error::Transport { .. })
        ),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_download_is_told_of_and_goes_on() {
    let (fake, to, told) = (Fake::start().await, TempStore::new(), Told::default());
    let layer = big_tar(4);
    fake.image("a", "1", std::slice::from_ref(&layer), &host());
    fake.fault(Fault::Cut {
        path: Digest::of(&layer).hex().leak(),
        after: 70_000,
    });
    pull_from(&fake, &to, "a:1", &told).await.unwrap();
    assert!(
        told.has(&format!("{}: Retrying in 1 second", short(&layer))),
        "{:?}",
        told.lines()
    );
    to.assert_whole();
}

#[tokio::test(flavor = "multi_thread")]
async fn absurd_images_are_refused() {
    let (fake, to, told) = (Fake::start().await, TempStore::new(), Told::default());
    let layer = tar(&[("a", b"1")]);
    // The configuration speaks of another layer than the manifest brings.
    fake.image_of(
        "lie",
        "1",
        &[(layer.clone(), Digest::of(b"other"), media::OCI_LAYER)],
        &host(),
    );
    let error = pull_from(&fake, &to, "lie:1", &told).await.unwrap_err();
    assert!(error.to_string().contains("DiffID"), "{error}");
    fake.image_of(
        "garbage",
        "1",
        &[(
            b"\x1f\x8bgarbage".to_vec(),
            Digest::of(b"x"),
            media::OCI_LAYER_GZIP,
        )],
        &host(),
    );
    let error = pull_from(&fake, &to, "garbage:1", &told).await.unwrap_err();
    assert!(matches!(error, Error::Layer { .. }), "{error}");
    let config = fake.blob("none", b"[]");
    let manifest = format!(r#"{{"config":{{"digest":"{config}","size":2}},"layers":[]}}"#);
    fake.manifest("none", "1", media::OCI_MANIFEST, &manifest);
    let error = pull_from(&fake, &to, "none:1", &told).await.unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("invalid configuration of image"),
        "{error}"
    );
    to.assert_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_pulled_is_pushed_with_unchanged_digests() {
    let (fake, other, to, told) = (
        Fake::start().await,
        Fake::start().await,
        TempStore::new(),
        Told::default(),
    );
    let plain = tar(&[("a", b"1")]);
    let packed = gzip(&big_tar(5));
    let layers = [
        (plain.clone(), Digest::of(&plain), media::OCI_LAYER),
        (
            packed.clone(),
            Digest::of(&big_tar(5)),
            media::OCI_LAYER_GZIP,
        ),
    ];
    let digest = fake.image_of("a", "1", &layers, &host());
    let pulled = pull_from(&fake, &to, "a:1", &told).await.unwrap();

    // To another repository of the same registry: mounted.
    let there = named(&fake, "b/c:2");
    to.store.tag(&there.to_string(), &pulled.image).unwrap();
    let pushed = push(&to.store, &fake.client(), &there, None, told.arc())
        .await
        .unwrap();
    assert_eq!(pushed.digest.0, digest);
    assert!(
        pushed
            .line()
            .starts_with(&format!("2: digest: {digest} size: ")),
        "{}",
        pushed.line()
    );
    assert!(
        told.has(&format!("{}: Mounted from a", short(&plain))),
        "{:?}",
        told.lines()
    );
    assert!(
        to.names()
            .contains(&format!("{}/b/c@{digest}", fake.domain()))
    );

    // To another registry: uploaded, and the second time not.
    let far = named(&other, "far:1");
    to.store.tag(&far.to_string(), &pulled.image).unwrap();
    let (first, second) = (Told::default(), Told::default());
    let pushed = push(&to.store, &other.client(), &far, None, first.arc())
        .await
        .unwrap();
    assert_eq!(pushed.digest.0, digest);
    assert!(
        first.has(&format!("{}: Pushed", short(&plain))),
        "{:?}",
        first.lines()
    );
    push(&to.store, &other.client(), &far, None, second.arc())
        .await
        .unwrap();
    assert!(
        second.has(&format!("{}: Layer already exists", short(&plain))),
        "{:?}",
        second.lines()
    );
    let sent = other.shared.lock().manifests[&("far".to_owned(), "1".to_owned())].clone();
    let had = fake.shared.lock().manifests[&("a".to_owned(), "1".to_owned())].clone();
    assert_eq!(sent, had);
    assert_eq!(
        other.shared.lock().blobs[&Digest::of(&packed)],
        packed,
        "the archive as received"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_made_here_is_compressed_once_and_comes_back_as_it_was() {
    let (fake, to, back, told) = (
        Fake::start().await,
        TempStore::new(),
        TempStore::new(),
        Told::default(),
    );
    let rootfs = big_tar(6);
    let layer = import_rootfs(&to.store, rootfs.as_slice()).unwrap();
    let diff = layer.diff;
    assert_eq!(diff.0, Digest::of(&rootfs));
    let config = format!(
        r#"{{"os":"linux","architecture":"{}","rootfs":{{"diff_ids":["{diff}"]}}}}"#,
        host()
    );
    let name = named(&fake, "made:1");
    let refs = vec![RefUpdate {
        name: name.to_string(),
    }];
    let new = NewImage {
        config: config.clone().into_bytes(),
        manifest: None,
        layers: vec![layer],
        refs,
        parent: None,
    };
    let image = to.store.publish(new, &|_| ()).unwrap();
    assert_eq!(image, ImageId(Digest::of(config.as_bytes())));

    let first = push(&to.store, &fake.client(), &name, None, told.arc())
        .await
        .unwrap();
    let id = progress::short(&diff.0);
    assert!(
        told.has(&format!("{id}: Preparing")) && told.has(&format!("{id}: Pushed")),
        "{:?}",
        told.lines()
    );
    let again = Told::default();
    assert_eq!(
        push(&to.store, &fake.client(), &name, None, again.arc())
            .await
            .unwrap(),
        first
    );
    assert!(
        again.has(&format!("{id}: Layer already exists")),
        "{:?}",
        again.lines()
    );

    let pulled = pull_from(&fake, &back, "made:1", &told).await.unwrap();
    assert_eq!(pulled.image, image);
    let known = back.store.image(&image).unwrap().unwrap();
    assert_eq!(known.layers[0].diff, diff);
    let mut rebuilt = Vec::new();
    back.store
        .tar(&diff)
        .unwrap()
        .read_to_end(&mut rebuilt)
        .unwrap();
    assert!(rebuilt == rootfs);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_of_nothing_says_so() {
    let (fake, to, told) = (Fake::start().await, TempStore::new(), Told::default());
    let name = named(&fake, "none");
    let error = push(&to.store, &fake.client(), &name, None, told.arc())
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "An image does not exist locally with the tag: {}/none:latest",
            fake.domain()
        )
    );
    assert_eq!(error.status(), 404);
}
