//! Registries with a token server, and docker's own: its names and its words for what goes wrong.

use std::fs;

use crate::edges_auth::{certificates, proxy_to, registry_with};
use crate::faulty_proxy::{Fault, Proxy};
use crate::nacre::Nacre;
use crate::registry::Registry;
use crate::token_server::{REFRESH, TokenServer, kept_login};

/// A registry that believes a token server, over the content of another one, with one image of this name.
fn with_tokens(nacre: &Nacre, name: &str) -> (Registry, TokenServer, Registry) {
    let open = registry_with(nacre, name);
    let tokens = TokenServer::start(&nacre.folder("tokens"));
    let closed = open.again("", &tokens.section());
    (closed, tokens, open)
}

#[test]
fn a_token_is_asked_for_with_what_it_is_for_and_refused_in_dockers_words() {
    let nacre = Nacre::new();
    let (closed, tokens, _open) = with_tokens(&nacre, "public/app");
    let image = closed.name("public/app");
    nacre.ok(&["pull", "-q", &image]);
    let asked = tokens.asked();
    let [one] = asked.as_slice() else {
        panic!("one token is enough: {asked:?}")
    };
    assert_eq!((one.method.as_str(), &one.authorization), ("GET", &None));
    assert_eq!(one.param("service"), Some("tests"));
    assert_eq!(one.param("scope"), Some("repository:public/app:pull"));

    let secret = closed.name("secret");
    nacre.ok(&["tag", &image, &secret]);
    let said = nacre.fails(
        &["push", &secret],
        1,
        "denied: requested access to the resource is denied",
    );
    let first = format!("The push refers to repository [{secret}]");
    assert!(said.stdout.contains(&first), "{said:?}");
    nacre.ok(&["rmi", &secret]);
    let words = format!(
        "Error response from daemon: pull access denied for {secret}, repository does not exist or may require \
         'docker login': denied: requested access to the resource is denied"
    );
    nacre.fails(&["pull", &secret], 1, &words);
    nacre.check();
}

#[test]
fn a_login_keeps_the_token_that_it_is_given_and_uses_it() {
    let nacre = Nacre::new();
    let (closed, tokens, _open) = with_tokens(&nacre, "app");
    let (address, image) = (closed.address().to_owned(), closed.name("app"));
    let login = ["login", "-u", "me", "--password-stdin", &address];
    let wrong = nacre.run_with_input(&login, b"wrong");
    assert_eq!(wrong.code, 1, "{wrong:?}");
    let words = "unauthorized: incorrect username or password";
    assert!(wrong.stderr.contains(words), "{wrong:?}");
    let right = nacre.run_with_input(&login, b"secret");
    assert_eq!(right.code, 0, "{right:?}");
    let kept = fs::read_to_string(nacre.path("docker-config/config.json")).unwrap();
    assert!(
        kept.contains(REFRESH) && !kept.contains("c2VjcmV0"),
        "{kept}"
    );
    tokens.asked();

    nacre.ok(&["pull", "-q", &image]);
    let asked = tokens.asked();
    let [one] = asked.as_slice() else {
        panic!("one token is enough: {asked:?}")
    };
    assert_eq!((one.method.as_str(), &one.authorization), ("POST", &None));
    for (name, value) in [
        ("grant_type", "refresh_token"),
        ("refresh_token", REFRESH),
        ("service", "tests"),
        ("scope", "repository:app:pull"),
        ("client_id", "nacre"),
    ] {
        assert_eq!(one.param(name), Some(value), "{one:?}");
    }
    nacre.ok(&["push", &image]);
    nacre.ok(&["logout", &address]);
    nacre.ok(&["rmi", &image]);
    nacre.fails(&["pull", &image], 1, "pull access denied for ");
    // docker's own file reads the same.
    fs::write(
        nacre.path("docker-config/config.json"),
        kept_login(&address),
    )
    .unwrap();
    nacre.ok(&["pull", "-q", &image]);
    nacre.check();
}

#[test]
fn a_token_that_dies_within_a_pull_is_replaced() {
    let mut nacre = Nacre::new();
    let (closed, tokens, _open) = with_tokens(&nacre, "app");
    // Long enough to be used once on a machine that is busy, and over when the stall is.
    nacre.configure("stall-seconds = 5\n");
    // Whoever reads `expires_in` takes it to be good for five minutes.
    tokens.set_lifetime(3);
    let proxy = Proxy::start(&closed);
    let image = format!("{}/app", proxy.address);
    let config = nacre.folder("docker-config").join("config.json");
    fs::write(config, kept_login(&proxy.address)).unwrap();
    proxy.plan(Fault::Stall, "/blobs/", 1);
    nacre.ok(&["pull", "-q", &image]);
    assert_eq!(proxy.spoilt(), 1);
    let asked = tokens.asked();
    let pulls = asked
        .iter()
        .filter(|asked| asked.param("scope") == Some("repository:app:pull"));
    assert!(pulls.count() >= 2, "{asked:?}");
    nacre.check();
}

/// docker.io as a proxy shows it: its host with a certificate of the tests, its token server, its names.
#[test]
fn dockers_own_registry_has_its_names_and_its_words() {
    let mut nacre = Nacre::new();
    let open = registry_with(&nacre, "library/public");
    let tokens = TokenServer::start(&nacre.folder("tokens"));
    let pki = nacre.folder("pki");
    certificates(&pki, "registry-1.docker.io");
    let file = |name: &str| pki.join(name).display().to_string();
    let (cert, key) = (
        file("registry-1.docker.io.crt"),
        file("registry-1.docker.io.key"),
    );
    let tls = format!(", tls: {{certificate: '{cert}', key: '{key}'}}");
    let hub = open.again(&tls, &tokens.section());
    let (proxy, _) = proxy_to(hub.address());
    nacre.set("HTTPS_PROXY", &proxy);
    nacre.set("SSL_CERT_FILE", &file("ca.crt"));

    let said = nacre.ok(&["pull", "public"]);
    assert!(
        said.starts_with("Using default tag: latest\nlatest: Pulling from library/public\n"),
        "{said}"
    );
    let end = "Status: Downloaded newer image for public:latest\ndocker.io/library/public:latest";
    assert!(said.ends_with(end), "{said}");
    let scope = Some("repository:library/public:pull");
    assert!(
        tokens
            .asked()
            .iter()
            .all(|asked| asked.param("scope") == scope)
    );

    for (name, words) in [
        (
            "nosuch",
            "pull access denied for nosuch, repository does not exist or may require 'docker login': denied: \
             requested access to the resource is denied",
        ),
        (
            "me/nosuch:1",
            "pull access denied for me/nosuch, repository does not exist or may require 'docker login': denied: \
             requested access to the resource is denied",
        ),
        (
            "public:2",
            "manifest for public:2 not found: manifest unknown: manifest unknown",
        ),
        (
            "docker.io/library/public-too",
            "manifest for public-too:latest not found: manifest unknown: manifest unknown",
        ),
        (
            "Public",
            "invalid reference format: repository name (library/Public) must be lowercase",
        ),
    ] {
        let failed = nacre.fails(&["pull", name], 1, words);
        if name != "Public" {
            let line = format!("Error response from daemon: {words}\n");
            assert_eq!(failed.stderr, line);
        }
    }
    nacre.ok(&["tag", "public", "me/new"]);
    let failed = nacre.fails(
        &["push", "me/new"],
        1,
        "denied: requested access to the resource is denied",
    );
    let told = "Using default tag: latest\nThe push refers to repository [docker.io/me/new]\n";
    assert!(failed.stdout.starts_with(told), "{failed:?}");
    // The tests' token server has no TLS, the registry has: no password goes there.
    tokens.asked();
    let login = ["login", "-u", "me", "--password-stdin"];
    let failed = nacre.run_with_input(&login, b"secret");
    assert_eq!(failed.code, 1, "{failed:?}");
    let words = "credentials are not sent without TLS to http://";
    assert!(failed.stderr.contains(words), "{failed:?}");
    assert_eq!(tokens.asked().len(), 0);
    nacre.check();
}
