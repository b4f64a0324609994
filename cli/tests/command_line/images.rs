//! Images and mounts: what is asked, what is printed, what is left behind.

use std::os::unix::fs::PermissionsExt;

use crate::fake::{Fake, Reply, ok, stderr, stdout};

#[test]
fn pull_prints_plain_lines_and_the_name_last() {
    let pull = || {
        Fake::new(vec![(
            "POST /images/create",
            Reply::Pieces(
                [
                    "{\"status\":\"Pulling from d\",\"id\":\"1\"}\r\n",
                    "{\"status\":\"Pulling fs layer\",\"progressDetail\":{},\"id\":\"abc\"}\r\n",
                    "{\"status\":\"Downloading\",\"progressDetail\":{\"current\":1,\"total\":2},\"progress\":\"[=> ]\",\"id\":\"abc\"}\r\n",
                    "{\"status\":\"Pull complete\",\"progressDetail\":{},\"id\":\"abc\"}\r\n",
                    "{\"status\":\"Digest: sha256:1\"}\r\n",
                    "{\"status\":\"Status: Image is up to date for 127.0.0.1:5000/d:1\"}\r\n",
                ]
                .map(|line| line.as_bytes().to_vec())
                .to_vec(),
            ),
        )])
    };
    let fake = pull();
    let done = fake.nacre(&["pull", "127.0.0.1:5000/d:1"]);
    let lines = "1: Pulling from d\nabc: Pulling fs layer\nabc: Pull complete\nDigest: sha256:1\n\
                 Status: Image is up to date for 127.0.0.1:5000/d:1\n127.0.0.1:5000/d:1\n";
    assert_eq!(stdout(&done), lines);
    let asked = fake.asked();
    let asked = asked.first().unwrap();
    assert!(
        asked.contains("fromImage=127.0.0.1%3A5000%2Fd&tag=1"),
        "{asked}"
    );
    assert!(
        asked.ends_with("auth=eyJ1c2VybmFtZSI6Im1lIiwicGFzc3dvcmQiOiJzZWNyZXQifQ=="),
        "{asked}"
    );
    if let Some(docker) = pull().docker(&["pull", "127.0.0.1:5000/d:1"]) {
        assert_eq!(stdout(&docker), lines);
    }
    let done = pull().nacre(&["pull", "-q", "127.0.0.1:5000/d:1"]);
    assert_eq!(stdout(&done), "127.0.0.1:5000/d:1\n");
    let fake = pull();
    fake.nacre(&["pull", "d"]);
    assert!(fake.asked().first().unwrap().ends_with(" auth=e30="));
}

#[test]
fn an_error_within_the_stream_fails_the_pull() {
    let fake = Fake::new(vec![(
        "POST /images/create",
        Reply::Pieces(vec![
            b"{\"status\":\"Pulling from d\",\"id\":\"1\"}\r\n".to_vec(),
            b"{\"errorDetail\":{\"message\":\"wrong digest\"},\"error\":\"wrong digest\"}\r\n"
                .to_vec(),
        ]),
    )]);
    let done = fake.nacre(&["pull", "d:1"]);
    assert_eq!(stdout(&done), "1: Pulling from d\n");
    assert_eq!(stderr(&done), "wrong digest\n");
    assert_eq!(done.status.code(), Some(1));
}

#[test]
fn local_sources_are_named_by_absolute_paths() {
    let fake = Fake::new(vec![(
        "POST /nacre/pull",
        ok("{\"progressDetail\":{},\"aux\":{\"Reference\":\"x:1\",\"ID\":\"sha256:1\"}}\r\n"),
    )]);
    let done = fake.nacre(&["pull", "oci:some/dir:v1"]);
    assert_eq!(stdout(&done), "x:1\n", "{}", stderr(&done));
    let here = std::env::current_dir().unwrap();
    let source = format!("oci:{}/some/dir:v1", here.display());
    let escaped = source.replace(':', "%3A").replace('/', "%2F");
    assert!(fake.asked().first().unwrap().contains(&escaped));
}

#[test]
fn a_saved_archive_appears_whole_and_private_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("f.tar");
    let name = file.to_str().unwrap();
    let broken = Fake::new(vec![("GET /images/get", Reply::Broken(b"half".to_vec()))]);
    let done = broken.nacre(&["save", "-o", name, "x"]);
    assert_eq!(done.status.code(), Some(1));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);

    let whole = Fake::new(vec![(
        "GET /images/get",
        Reply::Pieces(vec![b"all ".to_vec(), b"of it".to_vec()]),
    )]);
    let done = whole.nacre(&["save", "-o", name, "x", "y"]);
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    assert_eq!(std::fs::read(&file).unwrap(), b"all of it");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(whole.asked(), ["GET /images/get?names=x&names=y "]);
    assert_eq!(stdout(&whole.nacre(&["save", "x"])), "all of it");
}

#[test]
fn load_and_import_send_the_archive() {
    let fake = Fake::new(vec![
        (
            "POST /images/load",
            ok("{\"stream\":\"Loaded image: a:1\\n\"}\r\n"),
        ),
        ("POST /images/create", ok("{\"status\":\"sha256:77\"}\r\n")),
    ]);
    let done = fake.nacre_with(&["load"], b"tar bytes");
    assert_eq!(stdout(&done), "Loaded image: a:1\na:1\n");
    assert_eq!(fake.asked(), ["POST /images/load?quiet=1 tar bytes"]);
    let done = fake.nacre_with(&["load", "-q"], b"tar bytes");
    assert_eq!(stdout(&done), "a:1\n");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "root").unwrap();
    let done = fake.nacre(&[
        "import",
        "-c",
        "CMD x",
        file.path().to_str().unwrap(),
        "b:1",
    ]);
    assert_eq!(stdout(&done), "sha256:77\n");
    let asked = fake.asked();
    assert_eq!(
        asked.last().unwrap(),
        "POST /images/create?fromSrc=-&repo=b%3A1&changes=CMD%20x root"
    );
}

#[test]
fn mount_tells_what_the_user_did_not_say() {
    let mounted = "{\"Name\":\"calm_pearl\",\"Target\":\"/run/nacre/mnt/1\",\"Image\":\"d\",\"ImageID\":\"sha256:1\",\"ReadOnly\":false}";
    let fake = Fake::new(vec![
        ("GET /images/d/json", ok("{\"Id\":\"sha256:1\"}")),
        ("POST /nacre/mounts", Reply::Body(201, mounted.to_owned())),
        ("GET /nacre/mounts", ok(&format!("[{mounted}]"))),
        ("DELETE /nacre/", Reply::Body(204, String::new())),
    ]);
    assert_eq!(stdout(&fake.nacre(&["mount", "d"])), "/run/nacre/mnt/1\n");
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().to_str().unwrap();
    assert_eq!(stdout(&fake.nacre(&["mount", "d", target])), "calm_pearl\n");
    assert_eq!(
        stdout(&fake.nacre(&["mount", "--name", "w", "d", target])),
        ""
    );
    assert_eq!(
        stdout(&fake.nacre(&["mount"])),
        "NAME         IMAGE     IMAGE ID   MODE      MOUNTED AT\n\
         calm_pearl   d         1          rw        /run/nacre/mnt/1\n"
    );
    assert_eq!(stdout(&fake.nacre(&["mount", "--name", "w", target])), "");
    let asked = fake.asked();
    assert!(
        asked.last().unwrap().contains("\"Image\":\"\""),
        "{asked:?}"
    );
    let done = fake.nacre(&["umount", "--rm", "/run/nacre/mnt/1"]);
    assert_eq!(stdout(&done), "/run/nacre/mnt/1\n", "{}", stderr(&done));
    let asked = fake.asked();
    assert!(asked.contains(&"DELETE /nacre/mounts?target=%2Frun%2Fnacre%2Fmnt%2F1 ".to_owned()));
    assert!(asked.contains(&"DELETE /nacre/uppers/calm_pearl ".to_owned()));
    let done = fake.nacre(&["mount", "d", "/no/such/dir"]);
    assert_eq!(
        stderr(&done),
        "mount point /no/such/dir: No such file or directory (os error 2)\n"
    );
}

#[test]
fn a_listing_of_a_sub_commands_name_asks_what_was_meant() {
    let fake = Fake::new(vec![("GET /images/json", ok("[]"))]);
    let done = fake.nacre(&["images", "ls"]);
    assert_eq!(
        stderr(&done),
        "\nNo images found matching \"ls\": did you mean \"nacre image ls\"?\n"
    );
    assert_eq!(done.status.code(), Some(0));
    assert_eq!(stderr(&fake.nacre(&["image", "ls", "ls"])), "");
}
