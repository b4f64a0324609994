//! Registries as the world has them: passwords, private authorities, client certificates, proxies, mirrors, settings.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::nacre::Nacre;
use crate::patience;
use crate::registry::Registry;

/// `htpasswd -Bbn me secret`
const HTPASSWD: &str = "me:$2y$05$WttFrUcuSvMPng5pNtzbXOSojT8t.FLl.wtDlN2YbpUdHPGwTuNhG\n";

/// A name that exists nowhere but in the tests' proxy.
const ELSEWHERE: &str = "registry.test:5000";

/// A registry with one small image, under this name in it; the store of `nacre` is empty afterwards.
pub(crate) fn registry_with(nacre: &Nacre, name: &str) -> Registry {
    let registry = Registry::start();
    let folder = nacre.folder("image");
    fs::write(folder.join("hello"), "hello\n").unwrap();
    let tar = nacre.packed(&folder);
    let full = registry.name(name);
    nacre.ok(&["import", &tar, &full]);
    nacre.ok(&["push", &full]);
    nacre.ok(&["rmi", &full]);
    registry
}

fn with_password(registry: &Registry, nacre: &Nacre) -> Registry {
    let file = nacre.path("htpasswd");
    fs::write(&file, HTPASSWD).unwrap();
    let auth = format!(
        "auth: {{htpasswd: {{realm: tests, path: '{}'}}}}",
        file.display()
    );
    registry.again("", &auth)
}

#[test]
fn credentials_are_checked_kept_used_and_forgotten() {
    let nacre = Nacre::new();
    let open = registry_with(&nacre, "app");
    let closed = with_password(&open, &nacre);
    let (address, image) = (closed.address().to_owned(), closed.name("app"));
    nacre.fails(&["pull", &image], 1, "no basic auth credentials");
    nacre.fails(
        &["login", &address],
        1,
        "Error: Cannot perform an interactive login from a non TTY device",
    );
    let login = ["login", "-u", "me", "--password-stdin", &address];
    let wrong = nacre.run_with_input(&login, b"wrong\n");
    assert_eq!(wrong.code, 1, "{wrong:?}");
    assert!(
        wrong
            .stderr
            .contains("failed with status: 401 Unauthorized"),
        "{wrong:?}"
    );
    let file = nacre.path("docker-config/config.json");
    assert!(!file.exists(), "a refused password is not kept");

    let right = nacre.run_with_input(&login, b"secret\n");
    assert_eq!(
        (right.code, right.stdout.as_str()),
        (0, "Login Succeeded\n")
    );
    assert!(right.stderr.contains("stored unencrypted in"), "{right:?}");
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    nacre.ok(&["pull", "-q", &image]);
    nacre.ok(&["push", &image]);
    // With what is kept no password is needed.
    assert_eq!(nacre.ok(&["login", &address]), "Login Succeeded");

    let said = nacre.ok(&["logout", &address]);
    assert_eq!(said, format!("Removing login credentials for {address}"));
    nacre.ok(&["rmi", &image]);
    nacre.fails(&["pull", &image], 1, "no basic auth credentials");
    nacre.check();
}

/// Keeps in one file what the protocol of credential helpers brings, and logs how it was called.
const HELPER: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 1
echo "$1" >> calls
case "$1" in
store) cat > kept ;;
erase) cat > erased; rm -f kept ;;
get) cat > asked
     if [ -f kept ]; then cat kept; else echo "credentials not found in native keychain"; exit 1; fi ;;
esac
"#;

#[test]
fn a_credential_helper_keeps_what_the_file_does_not() {
    let mut nacre = Nacre::new();
    let open = registry_with(&nacre, "app");
    let closed = with_password(&open, &nacre);
    let (address, image) = (closed.address().to_owned(), closed.name("app"));
    let bin = nacre.folder("bin");
    let helper = bin.join("docker-credential-test");
    fs::write(&helper, HELPER).unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    nacre.set("PATH", &path);
    let file = nacre.folder("docker-config").join("config.json");
    fs::write(&file, r#"{"credsStore": "test", "other": 1}"#).unwrap();

    nacre.fails(&["pull", &image], 1, "no basic auth credentials");
    let login = ["login", "-u", "me", "--password-stdin", &address];
    let done = nacre.run_with_input(&login, b"secret");
    assert_eq!((done.code, done.stdout.as_str()), (0, "Login Succeeded\n"));
    assert!(!done.stderr.contains("WARNING"), "{done:?}");
    let text = fs::read_to_string(&file).unwrap();
    assert!(!text.contains("\"auth\"") && text.contains("\"other\": 1"));
    assert!(
        fs::read_to_string(bin.join("kept"))
            .unwrap()
            .contains("secret")
    );
    nacre.ok(&["pull", "-q", &image]);
    nacre.ok(&["logout", &address]);
    let erased = fs::read_to_string(bin.join("erased")).unwrap();
    assert!(erased.contains(&address), "{erased}");
    assert!(!bin.join("kept").exists());
}

/// A proxy that reaches one address, whatever it is asked for; it counts, and ends with the test's process.
pub(crate) fn proxy_to(target: &str) -> (String, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let served = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let (target, count) = (target.to_owned(), served.clone());
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let target = target.clone();
            // A connection that breaks is the client's business, which says what it misses.
            std::thread::spawn(move || relay(client, &target).ok());
        }
    });
    (address, served)
}

fn relay(client: TcpStream, target: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut head = String::new();
    reader.read_line(&mut head)?;
    let mut up = TcpStream::connect(target)?;
    if head.starts_with("CONNECT ") {
        let mut line = String::new();
        while reader.read_line(&mut line)? > 2 {
            line.clear();
        }
        (&client).write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    } else {
        // `GET http://host/path` to a proxy; Go's server takes that form too.
        up.write_all(head.as_bytes())?;
    }
    up.write_all(reader.buffer())?;
    let (mut from, mut to) = (client.try_clone()?, up.try_clone()?);
    let sending = std::thread::spawn(move || {
        copy(&mut from, &mut to);
        to.shutdown(Shutdown::Write).ok();
    });
    copy(&mut up, &mut &client);
    client.shutdown(Shutdown::Both)?;
    drop(sending.join());
    Ok(())
}

fn copy(from: &mut impl std::io::Read, to: &mut impl std::io::Write) {
    // Either end may go first.
    std::io::copy(from, to).ok();
}

/// Runs openssl in a directory; no argument has a space.
pub(crate) fn openssl(dir: &Path, args: &str) {
    let args: Vec<&str> = args.split(' ').collect();
    let output = patience::output(
        std::process::Command::new("openssl")
            .args(&args)
            .current_dir(dir),
    );
    assert!(
        output.status.success(),
        "openssl {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// An authority, a certificate of it for a registry, and one for a client, in a directory.
pub(crate) fn certificates(dir: &Path, server: &str) {
    let openssl = |args: &str| openssl(dir, args);
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(&format!(
        "req -x509 {key} -keyout ca.key -out ca.crt -subj /CN=tests -days 2"
    ));
    for (name, usage) in [(server, "serverAuth"), ("client", "clientAuth")] {
        let extensions = format!("subjectAltName=DNS:{name}\nextendedKeyUsage={usage}\n");
        fs::write(dir.join("ext"), extensions).unwrap();
        openssl(&format!(
            "req {key} -keyout {name}.key -out {name}.csr -subj /CN={name}"
        ));
        openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -out {name}.crt -days 2 -extfile ext"
        ));
    }
}

#[test]
fn private_authorities_and_client_certificates_come_from_certs_d() {
    let mut nacre = Nacre::new();
    let open = registry_with(&nacre, "app");
    let pki = nacre.folder("pki");
    certificates(&pki, "registry.test");
    let file = |name: &str| pki.join(name).display().to_string();
    let tls = |more: &str| {
        let (cert, key) = (file("registry.test.crt"), file("registry.test.key"));
        format!(", tls: {{certificate: '{cert}', key: '{key}'{more}}}")
    };
    let secure = open.again(&tls(""), "");
    let (proxy, served) = proxy_to(secure.address());
    let certs = nacre.folder("certs.d");
    nacre.set("NACRE_CERTS_DIRS", certs.to_str().unwrap());
    nacre.set("HTTPS_PROXY", &proxy);
    let image = format!("{ELSEWHERE}/app");
    let place = certs.join(ELSEWHERE);
    let said = nacre.fails(&["pull", &image], 1, "is signed by an unknown authority");
    let hint = format!("into {}/ca.crt", place.display());
    assert!(said.stderr.contains(&hint), "{said:?}");
    assert!(served.load(std::sync::atomic::Ordering::SeqCst) > 0);

    fs::create_dir(&place).unwrap();
    fs::copy(pki.join("ca.crt"), place.join("ca.crt")).unwrap();
    nacre.ok(&["pull", "-q", &image]);
    nacre.ok(&["push", &image]);
    nacre.ok(&["rmi", &image]);

    let ca = file("ca.crt");
    let picky = open.again(&tls(&format!(", clientcas: ['{ca}']")), "");
    let (proxy, _) = proxy_to(picky.address());
    nacre.set("HTTPS_PROXY", &proxy);
    assert_ne!(nacre.run(&["pull", &image]).code, 0);
    fs::copy(pki.join("client.crt"), place.join("client.cert")).unwrap();
    nacre.fails(&["pull", &image], 1, "missing key client.key");
    fs::copy(pki.join("client.key"), place.join("client.key")).unwrap();
    nacre.ok(&["pull", "-q", &image]);
    nacre.check();
}

#[test]
fn the_systems_authorities_are_those_of_ssl_cert_file() {
    let mut nacre = Nacre::new();
    let open = registry_with(&nacre, "app");
    let pki = nacre.folder("pki");
    certificates(&pki, "registry.test");
    let file = |name: &str| pki.join(name).display().to_string();
    let (cert, key) = (file("registry.test.crt"), file("registry.test.key"));
    let secure = open.again(
        &format!(", tls: {{certificate: '{cert}', key: '{key}'}}"),
        "",
    );
    let (proxy, _) = proxy_to(secure.address());
    nacre.set("HTTPS_PROXY", &proxy);
    nacre.set("SSL_CERT_FILE", &file("ca.crt"));
    nacre.ok(&["pull", "-q", &format!("{ELSEWHERE}/app")]);
}

#[test]
fn an_insecure_registry_is_reached_without_verification_or_without_tls() {
    let mut nacre = Nacre::new();
    let open = registry_with(&nacre, "app");
    let pki = nacre.folder("pki");
    certificates(&pki, "registry.test");
    let file = |name: &str| pki.join(name).display().to_string();
    let (cert, key) = (file("client.crt"), file("client.key"));
    let tls = format!(", tls: {{certificate: '{cert}', key: '{key}'}}");
    let secure = open.again(&tls, "");
    let image = format!("{ELSEWHERE}/app");
    nacre.set("NACRE_INSECURE_REGISTRIES", ELSEWHERE);
    for target in [secure.address(), open.address()] {
        let (proxy, _) = proxy_to(target);
        nacre.set("HTTPS_PROXY", &proxy);
        nacre.set("HTTP_PROXY", &proxy);
        nacre.ok(&["pull", "-q", &image]);
        nacre.ok(&["rmi", &image]);
    }
    // Nothing but its being named made that possible.
    nacre.set("NACRE_INSECURE_REGISTRIES", "other.test:5000");
    assert_ne!(nacre.run(&["pull", &image]).code, 0);
    // And what is not to go through the proxy does not.
    nacre.set("NACRE_INSECURE_REGISTRIES", ELSEWHERE);
    nacre.set("NO_PROXY", "registry.test");
    assert_ne!(nacre.run(&["pull", &image]).code, 0);
}

#[test]
fn mirrors_are_asked_in_order_and_the_name_stays() {
    let mut nacre = Nacre::new();
    let holds = registry_with(&nacre, "hub/app");
    let lacks = Registry::start();
    let closed = with_password(&lacks, &nacre);
    let dead = TcpListener::bind("127.0.0.1:0").unwrap();
    let dead_address = dead.local_addr().unwrap().to_string();
    drop(dead);
    let rule = |prefix: &str, locations: &[&str]| {
        format!("[[mirror]]\nprefix = \"{prefix}\"\nlocations = {locations:?}\n")
    };
    let hub = holds.name("hub");
    let locations = [
        &dead_address,
        closed.address(),
        lacks.address(),
        hub.as_str(),
    ];
    let config = nacre.configure(&rule("docker.io/library", &locations));
    let said = nacre.ok(&["pull", "app"]);
    assert!(
        said.contains("Status: Downloaded newer image for app:latest"),
        "{said}"
    );
    assert!(said.ends_with("docker.io/library/app:latest"), "{said}");
    let named = nacre.ok(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    assert_eq!(named, "app:latest");

    let info = nacre.ok(&["info"]);
    assert!(
        info.contains(&format!("settings-file: {}", config.display())),
        "{info}"
    );
    assert!(
        info.contains(&format!("docker.io/library → {hub}")),
        "{info}"
    );

    // The registry itself comes last, and a push goes nowhere else.
    nacre.ok(&["rmi", "app"]);
    fs::write(&config, rule(holds.address(), &[lacks.address()])).unwrap();
    nacre.run(&["service", "--stop"]);
    let own = holds.name("hub/app");
    nacre.ok(&["pull", "-q", &own]);
    nacre.ok(&["tag", &own, &holds.name("new")]);
    nacre.ok(&["push", &holds.name("new")]);
    let mut catalog = String::new();
    let mut asking = TcpStream::connect(lacks.address()).unwrap();
    asking
        .write_all(b"GET /v2/new/tags/list HTTP/1.0\r\n\r\n")
        .unwrap();
    asking.read_to_string(&mut catalog).unwrap();
    assert!(catalog.contains("NAME_UNKNOWN"), "{catalog}");
    nacre.check();
}

#[test]
fn what_was_set_is_in_force_and_what_is_wrong_is_named() {
    let mut nacre = Nacre::new();
    let config = nacre.path("nacre.toml");
    let named = config.to_str().unwrap().to_owned();
    nacre.fails(
        &["--config", &named, "info"],
        1,
        &format!("cannot read the settings file {named}"),
    );
    fs::write(&config, "idle-seconds = 7\nlimit = 1\n").unwrap();
    let wrong = nacre.fails(&["--config", &named, "info"], 1, &format!("{named}:2: "));
    assert!(wrong.stderr.contains("`limit`"), "{wrong:?}");
    fs::write(&config, "insecure-registries = [\"10.0.0.0/99\"]\n").unwrap();
    nacre.fails(&["--config", &named, "info"], 1, "insecure-registries");

    let text = "idle-seconds = 77\ninsecure-registries = [\"10.0.0.0/8\"]\nstall-seconds = 5\n\
                http-proxy = \"http://me:pass@p.test:1\"\n[limits]\nentries = 3\n";
    nacre.configure(text);
    nacre.set("NACRE_INSECURE_REGISTRIES", "r.test:1");
    let info = nacre.ok(&["info"]);
    for line in [
        "ends after 77 seconds",
        "r.test:1",
        "stall-seconds: 5",
        "entries: 3",
    ] {
        assert!(info.contains(line), "{line}: {info}");
    }
    assert!(info.contains("http://xxxxx:xxxxx@p.test:1/"), "{info}");
    // A list that counts more replaces the other.
    assert!(!info.contains("10.0.0.0/8"), "{info}");
    let cidrs = "{{json .RegistryConfig.IndexConfigs}}";
    let json = nacre.ok(&["info", "--format", cidrs]);
    assert!(json.contains("\"r.test:1\""), "{json}");

    // A limit of the file is the store's.
    let folder = nacre.folder("many");
    for name in ["a", "b", "c", "d"] {
        fs::write(folder.join(name), name).unwrap();
    }
    let tar = nacre.packed(&folder);
    nacre.fails(&["import", &tar, "many"], 1, "3");
}
