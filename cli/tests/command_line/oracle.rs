//! docker's own client as the judge: the same service, the same words, the
//! same bytes on standard output.

use crate::fake::{Fake, Reply, stderr, stdout};

const IMAGES: &str = r#"[
 {"Id":"sha256:1111111111111111111111111111111111111111111111111111111111111111","ParentId":"","RepoTags":["debian:latest","127.0.0.1:5000/debian-min:1"],"RepoDigests":["127.0.0.1:5000/debian-min@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"],"Created":1700000000,"Size":183000000,"SharedSize":-1,"Containers":-1,"Labels":{"a":"b"}},
 {"Id":"sha256:2222222222222222222222222222222222222222222222222222222222222222","ParentId":"","RepoTags":[],"RepoDigests":[],"Created":1600000000,"Size":15,"SharedSize":-1,"Containers":-1,"Labels":null},
 {"Id":"sha256:3333333333333333333333333333333333333333333333333333333333333333","ParentId":"","RepoTags":["a-rather-long/name-of-an-image:v1.2.3"],"RepoDigests":[],"Created":1700000100,"Size":1234567890,"SharedSize":12,"Containers":2,"Labels":{}}
]"#;

const CONTAINERS: &str = r#"[
 {"Id":"4444444444444444444444444444444444444444444444444444444444444444","Names":["/web"],"Image":"debian:latest","ImageID":"sha256:1111111111111111111111111111111111111111111111111111111111111111","Command":"sh -c 'echo \"hello\"; sleep 1000'","Created":1700000000,"Ports":[{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8080,"Type":"tcp"},{"PrivatePort":443,"Type":"tcp"}],"SizeRw":1090,"SizeRootFs":182000000,"Labels":{"k":"v","z":"y"},"State":"running","Status":"Up 2 hours","HostConfig":{"NetworkMode":"host"},"NetworkSettings":{"Networks":{"host":{}}},"Mounts":[{"Type":"bind","Source":"/a/long/path/to/something","Destination":"/x"}]},
 {"Id":"5555555555555555555555555555555555555555555555555555555555555555","Names":["/quick_pearl","/other/alias"],"Image":"sha256:2222222222222222222222222222222222222222222222222222222222222222","ImageID":"sha256:2222222222222222222222222222222222222222222222222222222222222222","Command":"true","Created":1600000000,"Ports":[],"Labels":{},"State":"exited","Status":"Exited (137) 3 minutes ago","HostConfig":{"NetworkMode":"none"},"NetworkSettings":null,"Mounts":[]}
]"#;

const HISTORY: &str = r#"[
 {"Comment":"why","Created":1700000000,"CreatedBy":"bash","Id":"sha256:1111111111111111111111111111111111111111111111111111111111111111","Size":12345,"Tags":["site:v2"]},
 {"Comment":"","Created":1600000000,"CreatedBy":"/bin/sh -c #(nop)\t ADD file:0123456789abcdef in / and more than fits","Id":"<missing>","Size":0,"Tags":null},
 {"Comment":"old","Created":0,"CreatedBy":"","Id":"<missing>","Size":999400,"Tags":null}
]"#;

const CHANGES: &str =
    r#"[{"Path":"/etc","Kind":0},{"Path":"/etc/new","Kind":1},{"Path":"/etc/old","Kind":2}]"#;

const INSPECT: &str = r#"{"Id":"4444","Name":"/web","Args":["a","b"],"State":{"Status":"running","Running":true,"Pid":42,"ExitCode":0},"Config":{"Image":"debian","Labels":{"a":"1","b":"2"},"Env":["A=<b>"]},"HostConfig":{"NetworkMode":"host"},"NetworkSettings":{"Ports":{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"}]}}}"#;

fn fake() -> Fake {
    let ok = |body: &str| Reply::Body(200, body.to_owned());
    Fake::new(vec![
        ("GET /images/json", ok(IMAGES)),
        ("GET /containers/json", ok(CONTAINERS)),
        ("GET /containers/web/json", ok(INSPECT)),
        ("GET /images/x/history", ok(HISTORY)),
        ("GET /containers/x/changes", ok(CHANGES)),
        (
            "DELETE /images/x",
            ok(r#"[{"Untagged":"x:latest"},{"Deleted":"sha256:1"},{"Deleted":"sha256:2"}]"#),
        ),
        (
            "POST /images/prune",
            ok(
                r#"{"ImagesDeleted":[{"Untagged":"a"},{"Deleted":"b"}],"SpaceReclaimed":123456789}"#,
            ),
        ),
        ("POST /containers/x/wait", ok("{\"StatusCode\":3}")),
    ])
}

/// Both print the same, on both streams, end alike, and ask the same.
fn agree(words: &[&str]) {
    let ours = fake();
    let Some(docker) = ours.docker(words) else {
        return;
    };
    let asked_by_docker = ours.asked();
    let nacre = ours.nacre(words);
    assert_eq!(stdout(&nacre), stdout(&docker), "{words:?}");
    assert_eq!(nacre.status.code(), docker.status.code(), "{words:?}");
    assert_eq!(
        stderr(&nacre).replace("nacre", "docker"),
        stderr(&docker),
        "{words:?}"
    );
    // docker asks for several at once, and finds some errors before it asks.
    if docker.status.success() {
        let asked = ours.asked();
        let (by_docker, by_us) = asked.split_at(asked_by_docker.len());
        assert_eq!(sorted_paths(by_us), sorted_paths(by_docker), "{words:?}");
    }
}

fn sorted_paths(asked: &[String]) -> Vec<&str> {
    let mut paths: Vec<&str> = asked
        .iter()
        .map(|line| line.split('?').next().unwrap().trim_end())
        .collect();
    paths.sort_unstable();
    paths
}

#[test]
fn images_are_listed_as_docker_lists_them() {
    for words in [
        // Not --digests alone: the order of an image's rows is random in docker.
        &["images", "-q"][..],
        &["images", "-q", "--no-trunc"],
        &["images", "--format", "table {{.ID}}\\t{{.Size}}"],
        &[
            "images",
            "--format",
            "table {{lower .ID}}\\t{{pad .Size 1 1}}",
        ],
        &[
            "images",
            "--format",
            "{{.ID}} {{.VirtualSize}} {{.SharedSize}} {{.UniqueSize}} {{.Containers}} {{.CreatedAt}}",
        ],
        &["images", "--format", "{{.Nope}}"],
        &["images", "--format", "{{.ID"],
        &["images", "--format", "{{nofunc .ID}}"],
        &[
            "images",
            "--format",
            "table {{.ID}}\\t{{truncate .ID 3}}\\t{{join (split .ID \"1\") \"-\"}}",
        ],
    ] {
        agree(words);
    }
}

#[test]
fn image_rows_are_dockers_in_some_order() {
    let sorted = |text: String| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    for words in [
        &["images"][..],
        &["images", "--digests"],
        &["images", "--no-trunc", "--filter", "reference=a"],
        &["images", "--format", "json"],
        &["images", "--format", "{{json .}}"],
        &["images", "--format", "{{.Repository}}:{{.Tag}}@{{.Digest}}"],
    ] {
        let fake = fake();
        let Some(docker) = fake.docker(words) else {
            return;
        };
        let nacre = fake.nacre(words);
        assert_eq!(sorted(stdout(&nacre)), sorted(stdout(&docker)), "{words:?}");
    }
}

#[test]
fn containers_are_listed_as_docker_lists_them() {
    for words in [
        &["ps"][..],
        &["ps", "-a", "--no-trunc"],
        &["ps", "-s"],
        &["ps", "-q"],
        &["ps", "--format", "{{.Nope}}"],
        &["ps", "--format", "{{.ID 1}}"],
        &["ps", "-q", "--format", "{{.Names}}"],
        &["ps", "--format", "json"],
        &[
            "ps",
            "--format",
            "{{.Names}}|{{.Labels}}|{{.Label \"k\"}}|{{.Mounts}}|{{.LocalVolumes}}|{{.Networks}}|{{.Ports}}|{{.Size}}",
        ],
        &[
            "ps",
            "--format",
            "table {{.ID}}\\t{{.CreatedAt}}\\t{{.State}}",
        ],
        &[
            "ps",
            "--format",
            "{{if eq .State \"running\"}}{{.ID | upper}}{{else}}-{{end}}",
        ],
        &[
            "ps",
            "--format",
            "{{range split .Labels \",\"}}[{{.}}]{{end}}",
        ],
        &["container", "ls", "--format", "raw"],
    ] {
        agree(words);
    }
}

#[test]
fn history_and_changes_are_printed_as_docker_prints_them() {
    for words in [
        &["history", "x"][..],
        &["history", "--no-trunc", "x"],
        &["history", "-q", "x"],
        &["history", "-H=false", "x"],
        &["history", "--format", "json", "x"],
        &[
            "history",
            "--format",
            "table {{.CreatedBy}}\\t{{.Comment}}",
            "x",
        ],
        &["history", "--format", "{{.Nope}}", "x"],
        &["diff", "x"],
        &["diff", "nope"],
    ] {
        agree(words);
    }
}

#[test]
fn the_rest_is_printed_as_docker_prints_it() {
    for words in [
        &["rmi", "x"][..],
        &["image", "prune", "-f"],
        &["wait", "x"],
        &["rename", "x", "y"],
        &["rm", "-f", "x"],
        &["stop", "x", "y"],
        &["rm"],
        &["rename", "a", "b", "c"],
        &["ps", "x"],
        &["run", "--bogus"],
        &["run", "-it", "alpine"],
        &["run", "--pull=foo", "alpine"],
        &["run", "alpine"],
        &["create", "Alpine"],
        &["pull", "Nginx"],
        &["pull", "-a", "foo:bar"],
        &["tag", "x", "B"],
        &["image", "ls", "-f", "bogus"],
        &["image", "bogus"],
        &["bogus-command"],
        &["start", "x", "y"],
    ] {
        agree(words);
    }
}

#[test]
fn inspected_json_is_indented_and_searched_as_docker_does_it() {
    for words in [
        &["inspect", "--type", "container", "nope"][..],
        &[
            "container",
            "inspect",
            "-f",
            "{{.State.Pid}} {{.Name}}",
            "web",
        ],
        &["container", "inspect", "-f", "{{.ID}}", "web"],
        &[
            "container",
            "inspect",
            "-f",
            "{{json .Config.Labels}}",
            "web",
        ],
        &["container", "inspect", "-f", "{{json .Config.Env}}", "web"],
        &[
            "container",
            "inspect",
            "-f",
            "{{.Args}} {{.Config.Labels}}",
            "web",
        ],
        &[
            "container",
            "inspect",
            "-f",
            "{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}",
            "web",
        ],
        &[
            "container",
            "inspect",
            "-f",
            "{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}",
            "web",
        ],
        &["container", "inspect", "-f", "{{.Nope}}", "web"],
        &["container", "inspect", "-f", "{{.Nope", "web"],
        &[
            "container",
            "inspect",
            "-f",
            "{{printf \"%-8s|%5d|%q\" .Name .State.Pid .Config.Image}}",
            "web",
        ],
    ] {
        agree(words);
    }
}

#[test]
fn the_request_to_create_is_dockers_but_for_what_only_windows_has() {
    let words = [
        "create",
        "--name",
        "web",
        "-it",
        "-e",
        "A=b",
        "-v",
        "/tmp:/data:ro",
        "-v",
        "/anon",
        "--tmpfs",
        "/t:size=1m",
        "--ulimit",
        "nofile=10:20",
        "--label",
        "a=b",
        "--cap-add",
        "net_admin",
        "--cap-drop",
        "ALL",
        "--entrypoint",
        "",
        "-h",
        "box",
        "-u",
        "1:2",
        "-w",
        "/w",
        "--read-only",
        "--network",
        "none",
        "--security-opt",
        "seccomp=unconfined",
        "--stop-signal",
        "INT",
        "--stop-timeout",
        "7",
        "--rm",
        "--privileged",
        "alpine",
        "sh",
        "-c",
        "x",
    ];
    let fake = Fake::new(vec![(
        "POST /containers/create",
        Reply::Body(201, "{\"Id\":\"1\",\"Warnings\":[]}".to_owned()),
    )]);
    if fake.docker(&words).is_none() {
        return;
    }
    let done = fake.nacre(&words);
    assert_eq!(done.status.code(), Some(0));
    let bodies: Vec<nacre_cli::api::ContainerCreateRequest> = fake
        .asked()
        .iter()
        .map(|line| {
            let (head, body) = line.split_once(" {").unwrap();
            assert!(head.ends_with("?name=web"), "{head}");
            serde_json::from_str(&format!("{{{body}")).unwrap()
        })
        .collect();
    let [docker, nacre] = bodies.as_slice() else {
        panic!("{bodies:?}");
    };
    assert_eq!(nacre.config.labels, docker.config.labels);
    // What is empty is null here and sometimes `[]` there.
    let plain = |request: &nacre_cli::api::ContainerCreateRequest| {
        let mut value = serde_json::to_value(request).unwrap();
        strip(&mut value);
        let object = value.as_object_mut().unwrap();
        object.remove("NetworkingConfig");
        let host = object
            .get_mut("HostConfig")
            .unwrap()
            .as_object_mut()
            .unwrap();
        host.remove("MemorySwappiness");
        value
    };
    assert_eq!(plain(nacre), plain(docker));
}

/// Takes away whatever says nothing.
fn strip(value: &mut serde_json::Value) {
    if let serde_json::Value::Object(fields) = value {
        fields.values_mut().for_each(strip);
        fields.retain(|_, field| {
            !(field.is_null()
                || field == &serde_json::json!([])
                || field == &serde_json::json!({})
                || field == &serde_json::json!("")
                || field == &serde_json::json!(0)
                || field == &serde_json::json!(false))
        });
    }
}
