#!/usr/bin/env python3
"""Writes the inputs that each fuzz target starts from; tests/fuzz/corpus is what it wrote: seeds.py DIRECTORY"""

import base64
import gzip
import hashlib
import io
import json
import pathlib
import sys
import tarfile

out = pathlib.Path(sys.argv[1])
DIGEST = "sha256:" + "ab" * 32


def put(target, name, content):
    folder = out / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def member(name, kind=tarfile.REGTYPE, **fields):
    info = tarfile.TarInfo(name)
    info.type = kind
    info.mtime = 1_600_000_000
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def archive(members, form):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def archives():
    tree = lambda: [
        (member("d/", tarfile.DIRTYPE, mode=0o755), b""),
        (member("d/f", uid=1000), b"content"),
        (member("n" * 150 + "/x"), b"1"),
        (member("l", tarfile.SYMTYPE, linkname="d/f"), b""),
        (member("h", tarfile.LNKTYPE, linkname="d/f"), b""),
        (member("c", tarfile.CHRTYPE, devmajor=1, devminor=3), b""),
        (member("p", tarfile.FIFOTYPE), b""),
        (member("d/.wh.gone"), b""),
        (member("d/.wh..wh..opq"), b""),
    ]
    forms = {"gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
    for name, form in forms.items():
        put("archive", name, archive(tree(), form))
    records = {
        "xattr": {"SCHILY.xattr.user.a": "1", "LIBARCHIVE.xattr.user.b": "AQ"},
        "time": {"mtime": "-1.5"},
        "size": {"size": "7"},
        "owner": {"uid": "4294967294", "gid": "-2"},
        "sparse01": {"GNU.sparse.size": "99", "GNU.sparse.numblocks": "1", "GNU.sparse.map": "0,7"},
        "path": {"path": "x" * 300, "linkpath": "y" * 300},
    }
    for name, headers in records.items():
        put("archive", name, archive([(member("f", pax_headers=headers), b"content")], tarfile.PAX_FORMAT))
    v1 = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "99", "GNU.sparse.name": "z"}
    sparse = b"1\n0\n5\n".ljust(512, b"\0") + b"12345"
    put("archive", "sparse10", archive([(member("s", pax_headers=v1), sparse)], tarfile.PAX_FORMAT))
    old = bytearray(archive([(member("old"), b"x" * 512)], tarfile.GNU_FORMAT))
    old[156:157] = b"S"
    old[386:410] = b"00000001000\x0000000001000\0"
    old[483:495] = b"00000010000\0"
    put("archive", "sparse-old", bytes(old))
    put("archive", "global", archive([(member("g", tarfile.XGLTYPE), b"16 comment=hello\n"[1:]), (member("f"), b"1")], tarfile.USTAR_FORMAT))


def compressed():
    small = archive([(member("f"), b"content" * 50)], tarfile.USTAR_FORMAT)[:2048]
    put("inflate", "plain", small)
    put("inflate", "gzip", gzip.compress(small, mtime=0))
    put("inflate", "members", gzip.compress(b"one", mtime=0) + gzip.compress(b"two", mtime=0) + bytes(9))
    put("inflate", "skippable", b"\x50\x2a\x4d\x18\x03\0\0\0abc")
    # A zstd frame of one raw block, one of one repeated byte, and one that asks for the largest window.
    raw = lambda block: b"\x28\xb5\x2f\xfd" + block
    put("inflate", "zstd-raw", raw(b"\x20\x03" + bytes([3 << 3 | 1, 0, 0]) + b"abc"))
    put("inflate", "zstd-run", raw(b"\x60\x00\x00" + bytes([255 << 3 & 0xFF | 3, 7, 0]) + b"a"))
    put("inflate", "zstd-window", raw(b"\x00\xff" + bytes([3 << 3 | 1, 0, 0]) + b"abc"))
    put("inflate", "xz", b"\xfd7zXZ\0")


def documents():
    entry = lambda kind, **more: {"mediaType": kind, "digest": DIGEST, "size": 3, **more}
    oci = "application/vnd.oci.image."
    image = {
        "schemaVersion": 2,
        "mediaType": oci + "manifest.v1+json",
        "config": entry(oci + "config.v1+json"),
        "layers": [entry(oci + "layer.v1.tar+gzip"), entry(oci + "layer.v1.tar")],
    }
    index = {
        "schemaVersion": 2,
        "manifests": [
            entry(oci + "manifest.v1+json", platform={"os": "linux", "architecture": "amd64"}),
            entry(oci + "manifest.v1+json", platform={"os": "linux", "architecture": "arm", "variant": "v7"}),
            entry(oci + "manifest.v1+json", annotations={"org.opencontainers.image.ref.name": "latest"}),
        ],
    }
    config = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2020-09-13T12:26:40Z",
        "config": {"Env": ["A=b", "C"], "Cmd": ["sh"], "Entrypoint": "x", "Labels": {"l": "m"}, "User": "a:b", "ExposedPorts": {"80/tcp": {}}},
        "rootfs": {"type": "layers", "diff_ids": [DIGEST]},
        "history": [{"created_by": "x", "empty_layer": True}],
    }
    put("documents", "image", "1" + json.dumps(image))
    put("documents", "image-docker", "3" + json.dumps(image).replace(oci + "manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"))
    put("documents", "index", "2" + json.dumps(index))
    put("documents", "untyped", "0" + json.dumps(index))
    put("documents", "schema1", '0{"schemaVersion":1,"fsLayers":[]}')
    put("documents", "config", "c" + json.dumps(config))

    inner = json.dumps(image)
    digest = "sha256:" + hashlib.sha256(inner.encode()).hexdigest()
    outer = json.dumps(index).replace(DIGEST, digest, 1)
    put("documents", "layout", "l" + outer + "\n---\n" + inner)
    put("documents", "answer", 'rBearer realm="https://a.test/t",service="s",error="invalid_token"\n---\n</v2/a/tags/list?last=b>; rel="next"\n---\n{"errors":[{"code":"DENIED","message":"no"}]}')
    put("documents", "users", "uroot:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/w:\n\n---\nroot:x:0:\nweb:x:34:web,root\n\n---\nweb:web\n---\nroot\n7")
    for text in ["linux/amd64", "linux/arm/v7", "windows", "linux/arm64/v8"]:
        put("documents", "platform-" + text.replace("/", "-"), "p" + text)


def references():
    names = ["debian", "debian:12", "a/b:t@" + DIGEST, "127.0.0.1:5000/x", "[::1]:5000/a__b/c-d", "docker.io/library/x", "index.docker.io/x", "localhost/x", "Host/d", "Nginx", "ab" * 32, DIGEST, "x@sha512:" + "0" * 128]
    for number, name in enumerate(names):
        put("references", str(number), name)


def requests():
    head = "POST /v1.43/containers/{}?{} HTTP/1.1\r\nHost: x\r\n{}\r\n"

    auth = base64.urlsafe_b64encode(b'{"username":"u","password":"p"}').decode()
    put("requests", "attach", "h" + head.format("web/attach", "stream=1&detachKeys=ctrl-p,ctrl-q", "Content-Length: 2\r\n"))
    put("requests", "filters", "h" + head.format("json", "filters=%7B%22label%22%3A%7B%22a%22%3Atrue%7D%7D&h=5", "Upgrade: tcp\r\n"))
    put("requests", "auth", "h" + head.format("x", "", "X-Registry-Auth: " + auth + "\r\n"))
    create = {
        "Image": "x",
        "Cmd": ["a"],
        "Env": ["A=b"],
        "Entrypoint": None,
        "HostConfig": {
            "Binds": ["/a:/b:ro"],
            "Mounts": [{"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1, "Mode": 511}}],
            "Tmpfs": {"/x": "size=1"},
            "Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 2}],
            "SecurityOpt": ["seccomp=unconfined"],
            "CapAdd": ["SYS_ADMIN"],
            "PortBindings": {"80/tcp": [{"HostPort": "1"}]},
            "NetworkMode": "none",
            "ConsoleSize": [1, 2],
        },
        "NetworkingConfig": {"EndpointsConfig": {"a": None}},
    }
    put("requests", "create", "b" + json.dumps(create) + '\n---\n{"Env":["A=c","D=e"],"Cmd":["x"],"User":"u"}')
    put("requests", "exec", "b" + json.dumps({"Cmd": ["a"], "Tty": True, "DetachKeys": "ctrl-a", "ConsoleSize": [1, 2], "User": "a"}))
    words = ["ENV A=$B ${C:-d}", "EXPOSE 80-90/udp", "HEALTHCHECK --interval=5s CMD x", 'CMD ["a","b"]', "LABEL a='b c' d=\"e\"", "WORKDIR a", "VOLUME [\"/a\"]", "2020-09-13T12:26:40Z", "1h30m", "SIGRTMIN+3", "a*[b-d]?\nabc", "/a/../b/./c", "STOPSIGNAL 9", "ONBUILD ENV a=b", "USER a:b"]
    for number, text in enumerate(words):
        put("requests", f"word-{number}", "w" + text)


def templates():
    value = '{"Id":"ab","Names":["x","y"],"N":5,"F":1.5,"Map":{"a":{"b":true}}}'
    for number, text in enumerate(["{{.Id}}", "{{range $i, $n := .Names}}{{$i}}{{$n}}{{else}}-{{end}}", "{{if and .N (eq .Id \"ab\")}}a{{else if .F}}b{{end}}", "{{json .Map}} {{.Map.a.b}}", "{{printf \"%5d %-8s|%x %q\" .N .Id .Id .Id}}", "{{index .Names 1}}{{len .Names}}", "{{with .Map}}{{.a}}{{end}}", "{{join .Names \", \"}}{{split .Id \"a\"}}{{upper .Id}}", "{{- /* c */ -}} x {{- `raw` -}}", "{{define \"t\"}}{{.}}{{end}}{{template \"t\" .N}}", "{{slice .Id 0 1}}{{not .N}}{{or .X .Id}}{{lt 1 2}}", "{{$x := .N}}{{$x = 3}}{{$x}}", "{{range .Names}}{{break}}{{continue}}{{end}}", "{{pad .Id 5 3}}{{truncate .Id 1}}{{title .Id}}{{println .N}}"]):
        put("templates", str(number), value + "\n" + text)


for write in (archives, compressed, documents, references, requests, templates):
    write()
