//! A door for tests/fuzz: what a registry answers.

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};

use super::{auth, documents, error};

/// Reads a challenge, a link to the next page, and the body of an error.
pub fn answer(challenge: &[u8], link: &str, body: &[u8]) {
    if let Ok(value) = HeaderValue::from_bytes(challenge) {
        let mut headers = HeaderMap::new();
        headers.insert(WWW_AUTHENTICATE, value);
        drop(auth::read_challenges(&headers));
    }
    if let Ok(from) = Url::parse("https://registry.test/v2/a/tags/list?n=1000")
        && let Some(next) = documents::next_page(&from, link)
    {
        assert_eq!(next.origin(), from.origin(), "a page of another host");
    }
    drop(error::read_error_body(500, body));
}
