//! A docker-registry of a test's own, on a port of its own, gone with the test.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use crate::nacre::{eventually, run_tool, test_image};

pub(crate) struct Registry {
    address: String,
    child: Child,
    dir: Arc<tempfile::TempDir>,
}

impl Registry {
    pub(crate) fn start() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("nacre-registry-")
            .tempdir()
            .unwrap();
        Self::over(Arc::new(dir), "", "")
    }

    /// Another registry over the same content, with more settings: of its `http` section, and whole sections.
    pub(crate) fn again(&self, http: &str, sections: &str) -> Self {
        Self::over(Arc::clone(&self.dir), http, sections)
    }

    fn over(dir: Arc<tempfile::TempDir>, http: &str, sections: &str) -> Self {
        // The port is free now; the registry binds it a moment later.
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let address = format!("127.0.0.1:{port}");
        let config = dir.path().join(format!("config-{port}.yml"));
        let data = dir.path().join("data");
        fs::write(
            &config,
            format!(
                "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
                 storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\nhttp: {{addr: '{address}'{http}}}\n{sections}\n",
                data.display()
            ),
        )
        .unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry must be installed (.ci/setup)");
        let registry = Self {
            address,
            child,
            dir,
        };
        eventually("the registry answers", || {
            TcpStream::connect(&registry.address).is_ok()
        });
        registry
    }

    /// `127.0.0.1:PORT`
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// `127.0.0.1:PORT/NAME`
    pub(crate) fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// Copies one of the test images in, with skopeo: not with what is tested.
    pub(crate) fn serve(&self, image: &str) -> String {
        let source = format!("oci:{}:latest", test_image(image).display());
        let target = format!("docker://{}", self.name(image));
        run_tool(
            "skopeo",
            &[
                "--insecure-policy",
                "copy",
                "-q",
                "--dest-tls-verify=false",
                &source,
                &target,
            ],
        );
        self.name(image)
    }

    /// Puts a blob into a repository, as it is; returns its digest.
    pub(crate) fn put_blob(&self, repository: &str, content: &[u8]) -> String {
        let digest = nacre_store::Digest::of(content).to_string();
        let at = format!("http://{}/v2/{repository}/blobs/uploads/", self.address);
        let begun = run_tool("curl", &["-s", "-i", "-X", "POST", &at]);
        let lines = begun.lines().filter_map(|line| line.split_once(": "));
        let mut places = lines.filter(|(name, _)| name.eq_ignore_ascii_case("location"));
        let place = places.next().unwrap().1.trim();
        self.put(
            &format!("{place}&digest={digest}"),
            "application/octet-stream",
            content,
        );
        digest
    }

    /// Puts a manifest into a repository, as it is.
    pub(crate) fn put_manifest(&self, repository: &str, tag: &str, media_type: &str, text: &str) {
        let at = format!("http://{}/v2/{repository}/manifests/{tag}", self.address);
        self.put(&at, media_type, text.as_bytes());
    }

    fn put(&self, url: &str, media_type: &str, content: &[u8]) {
        let file = self.dir.path().join("sent");
        fs::write(&file, content).unwrap();
        let (kind, file) = (format!("Content-Type: {media_type}"), file.display());
        let sent = format!("@{file}");
        run_tool(
            "curl",
            &[
                "-sS",
                "--fail-with-body",
                "-X",
                "PUT",
                "-H",
                &kind,
                "--data-binary",
                &sent,
                url,
            ],
        );
    }

    /// The digest that the registry gives for a name.
    pub(crate) fn digest(&self, name: &str) -> String {
        let target = format!("docker://{}", self.name(name));
        run_tool(
            "skopeo",
            &[
                "inspect",
                "--tls-verify=false",
                "--format",
                "{{.Digest}}",
                &target,
            ],
        )
        .trim()
        .to_owned()
    }

    /// The raw manifest that the registry keeps for a name.
    pub(crate) fn manifest(&self, name: &str) -> serde_json::Value {
        let target = format!("docker://{}", self.name(name));
        serde_json::from_str(&run_tool(
            "skopeo",
            &["inspect", "--raw", "--tls-verify=false", &target],
        ))
        .unwrap()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // Already gone is as good as killed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
