//! Uploads and mounts. Those that break: they go on where they broke, or begin again where the registry does not know them any more.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use nacre_store::Digest;

use super::fake::{Door, Fake, Fault};
use super::named;
use crate::registry::{Error, Mounted, UploadBody, UploadSource};

/// Content to be uploaded; counts how often it was begun.
struct Bytewise {
    content: Vec<u8>,
    begun: AtomicU32,
    fails: bool,
}

impl Bytewise {
    fn new(content: &[u8]) -> Bytewise {
        Bytewise {
            content: content.to_vec(),
            begun: AtomicU32::new(0),
            fails: false,
        }
    }
}

impl UploadSource for Bytewise {
    fn name(&self) -> String {
        "test".to_owned()
    }

    fn size(&self) -> Option<u64> {
        None
    }

    fn open(&self) -> io::Result<UploadBody> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        let mut pieces: Vec<io::Result<Bytes>> = self
            .content
            .chunks(self.content.len().div_ceil(1000).max(3))
            .map(|part| Ok(Bytes::copy_from_slice(part)))
            .collect();
        if self.fails {
            pieces.push(Err(io::Error::other("disk on fire")));
        }
        Ok(Box::pin(futures_util::stream::iter(pieces)))
    }

    fn digest(&self) -> Option<Digest> {
        Some(Digest::of(&self.content))
    }
}

#[tokio::test]
async fn an_upload_arrives_and_begins_again_where_it_fails() {
    let fake = Fake::start().await;
    fake.shared.lock().door = Door::Token { uses: 2, who: None };
    fake.fault(Fault::Answer {
        path: "PATCH",
        status: 502,
        header: None,
        body: "",
    });
    let (client, reference) = (fake.client(), named(&fake, "a/b:1"));
    let source = Bytewise::new(b"some bytes");
    assert!(
        !client
            .has_blob(&reference, &source.digest().unwrap())
            .await
            .unwrap()
    );
    let pauses = AtomicU32::new(0);
    let count = |_: Duration| {
        pauses.fetch_add(1, Ordering::Relaxed);
    };
    let digest = client
        .upload(&reference, None, &source, &count)
        .await
        .unwrap();
    assert!(client.has_blob(&reference, &digest).await.unwrap());
    assert!(source.begun.load(Ordering::Relaxed) >= 2);
    assert!(pauses.load(Ordering::Relaxed) >= 1);
    assert!(
        fake.seen("/token")
            .iter()
            .all(|seen| seen.line.contains("scope=repository%3Aa%2Fb%3Apull%2Cpush"))
    );
}

#[tokio::test]
async fn a_source_that_fails_is_the_error() {
    let fake = Fake::start().await;
    let source = Bytewise {
        fails: true,
        ..Bytewise::new(b"half")
    };
    let error = fake
        .client()
        .upload(&named(&fake, "a:1"), None, &source, &|_| ())
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot read test to send it: disk on fire"
    );
    assert_eq!(source.begun.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_blob_is_mounted_or_its_upload_begins() {
    let fake = Fake::start().await;
    let digest = fake.blob("from", b"content");
    let (client, to) = (fake.client(), named(&fake, "to:1"));
    assert!(matches!(
        client.mount_blob(&to, "from", &digest).await.unwrap(),
        Mounted::Yes
    ));
    assert!(client.has_blob(&to, &digest).await.unwrap());
    let source = Bytewise::new(b"elsewhere");
    let answer = client
        .mount_blob(&to, "from", &source.digest().unwrap())
        .await
        .unwrap();
    let Mounted::No(upload) = answer else {
        panic!("mounted what is not there")
    };
    client
        .upload(&to, Some(upload), &source, &|_| ())
        .await
        .unwrap();
    assert_eq!(
        fake.seen("POST").len(),
        2,
        "the upload went on where the mount left it"
    );
}

fn content() -> Vec<u8> {
    (0..20_000_000_u32).map(|n| n.to_le_bytes()[1]).collect()
}

#[tokio::test]
async fn an_upload_goes_on_where_it_broke() {
    let fake = Fake::start().await;
    let source = Bytewise::new(&content());
    fake.fault(Fault::Partly {
        path: "PATCH",
        after: 7_000_000,
    });
    // That it is not heard of at once is waited for.
    fake.fault(Fault::Answer {
        path: "GET /v2/a/blobs/uploads/",
        status: 503,
        header: None,
        body: "",
    });
    let (client, to) = (fake.client(), named(&fake, "a:1"));
    let digest = client.upload(&to, None, &source, &|_| ()).await.unwrap();
    assert!(client.has_blob(&to, &digest).await.unwrap());
    assert_eq!(fake.shared.lock().blobs[&digest], content());
    let patched = fake.shared.lock().patched.clone();
    assert_eq!(patched, [7_000_000, 8 << 20, 13_000_000 - (8 << 20)]);
    assert_eq!(fake.seen("POST").len(), 1);
}

#[tokio::test]
async fn a_chunk_that_breaks_costs_itself_alone() {
    let fake = Fake::start().await;
    let source = Bytewise::new(&content());
    for (path, after) in [("PATCH", 0), ("PATCH", 8 << 20), ("PATCH", 1_000_000)] {
        fake.fault(Fault::Partly { path, after });
    }
    let (client, to) = (fake.client(), named(&fake, "a:1"));
    let digest = client.upload(&to, None, &source, &|_| ()).await.unwrap();
    assert_eq!(fake.shared.lock().blobs[&digest], content());
    // Nothing, a whole chunk of which only the answer was lost, a part of one, and the rest.
    let patched: usize = fake.shared.lock().patched.iter().sum();
    assert_eq!(patched, 20_000_000);
}

#[tokio::test]
async fn an_upload_that_is_forgotten_begins_again() {
    let fake = Fake::start().await;
    let source = Bytewise::new(&content());
    fake.fault(Fault::Partly {
        path: "PATCH",
        after: 7_000_000,
    });
    let unknown = r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"blob upload unknown to registry"}]}"#;
    fake.fault(Fault::Answer {
        path: "GET /v2/a/blobs/uploads/",
        status: 404,
        header: None,
        body: unknown,
    });
    let (client, to) = (fake.client(), named(&fake, "a:1"));
    let digest = client.upload(&to, None, &source, &|_| ()).await.unwrap();
    assert_eq!(fake.shared.lock().blobs[&digest], content());
    assert_eq!(fake.seen("POST").len(), 2);
    // It was asked for before it was sent again.
    let heads = fake.seen(&format!("HEAD /v2/a/blobs/{digest}"));
    assert_eq!(heads.len(), 1);
}

#[tokio::test]
async fn an_upload_whose_last_answer_was_lost_is_not_sent_again() {
    let fake = Fake::start().await;
    let source = Bytewise::new(b"some bytes");
    let digest = source.digest().unwrap();
    fake.fault(Fault::Answer {
        path: "PUT",
        status: 404,
        header: None,
        body: "",
    });
    // What the first PUT, of which nothing came back, has done.
    fake.blob("a", b"some bytes");
    fake.fault(Fault::Answer {
        path: "GET /v2/a/blobs/uploads/",
        status: 404,
        header: None,
        body: "",
    });
    let (client, to) = (fake.client(), named(&fake, "a:1"));
    let sent = client.upload(&to, None, &source, &|_| ()).await.unwrap();
    assert_eq!(sent, digest);
    assert_eq!(fake.shared.lock().patched, [10]);
}

#[tokio::test]
async fn a_registry_that_takes_no_chunks_gets_a_stream() {
    let fake = Fake::start().await;
    let source = Bytewise::new(&content());
    fake.fault(Fault::Partly {
        path: "PATCH",
        after: 0,
    });
    fake.fault(Fault::Answer {
        path: "PATCH",
        status: 416,
        header: None,
        body: "",
    });
    let (client, to) = (fake.client(), named(&fake, "a:1"));
    let digest = client.upload(&to, None, &source, &|_| ()).await.unwrap();
    assert_eq!(fake.shared.lock().blobs[&digest], content());
    assert_eq!(fake.shared.lock().patched, [0, 20_000_000]);
    assert_eq!(fake.seen("POST").len(), 1);
}

#[tokio::test]
async fn a_registry_that_forgets_every_upload_is_given_up() {
    let fake = Fake::start().await;
    let source = Bytewise::new(&content());
    for _ in 0..50 {
        fake.fault(Fault::Partly {
            path: "PATCH",
            after: 3_000_000,
        });
        fake.fault(Fault::Answer {
            path: "GET /v2/a/blobs/uploads/",
            status: 404,
            header: None,
            body: "",
        });
    }
    let pauses = parking_lot::Mutex::new(Vec::<Duration>::new());
    let (client, to) = (fake.client(), named(&fake, "a:1"));
    let error = client
        .upload(&to, None, &source, &|pause| pauses.lock().push(pause))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Refused(_)), "{error}");
    let attempts = usize::try_from(client.settings().blob_attempts).unwrap();
    assert_eq!(pauses.lock().len() + 1, attempts);
}
