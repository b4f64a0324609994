#!/usr/bin/env python3
"""layout.py IMAGE ROOTFS_TAR DIR: writes an OCI image layout (image-spec, image-layout.md) made of a root
filesystem and, for many-layers, of 30 small layers on top."""
import gzip, hashlib, io, json, os, shutil, sys, tarfile


def entry(name, kind=tarfile.REGTYPE, mode=0o644, link="", pax=None):
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.linkname, info.mtime = kind, mode, link, 1714500000
    info.pax_headers = pax or {}
    return info


def small_layer(number):
    """One of the many: changes whose sum exercises every rule of applying a layer (image-spec, layer.md)."""
    out = io.BytesIO()
    tar = tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT)

    def directory(name):
        tar.addfile(entry(name, tarfile.DIRTYPE, 0o755))

    def file(name, content, **more):
        info = entry(name, **more)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))

    def whiteout(name):
        head, tail = os.path.split(name)
        file(f"{head}/.wh.{tail}", b"")

    directory("data"), directory(f"data/d{number}"), directory("data/shared"), directory("data/opaque")
    if number % 5 == 0:
        file("data/opaque/.wh..wh..opq", b"")
    if number > 1:
        for k in (1, 2, 3):
            whiteout(f"data/d{number - 1}/f{k}")
        if (number - 1) % 3 != 0 or number % 3 != 0:
            file(f"data/d{number - 1}/f10", b"changed\n", mode=0o600)
    for k in range(1, 21):
        xattr = {"SCHILY.xattr.user.layer": str(number)} if k == 20 else None
        file(f"data/d{number}/f{k}", f"layer {number} file {k}\n".encode(), pax=xattr)
    tar.addfile(entry(f"data/d{number}/hard", tarfile.LNKTYPE, link=f"data/d{number}/f1"))
    tar.addfile(entry(f"data/d{number}/symbolic", tarfile.SYMTYPE, 0o777, link=f"../d{number}/f5"))
    file(f"data/d{number}/big", bytes([64 + number % 26]) * (number * 4096))
    for k in range(8):
        file(f"data/shared/s{(number * 7 + k) % 40}", f"{number}\n".encode())
    for k in range(5):
        file(f"data/opaque/o{number}_{k}", f"{number}\n".encode())
    if number % 3 == 0 and number > 2:
        whiteout(f"data/d{number - 2}")
    if number % 7 == 0:
        # a directory becomes a file
        file(f"data/d{number - 3}", b"a file now\n")
    tar.close()
    return out.getvalue()


def main():
    image, rootfs, target = sys.argv[1:4]
    part = target + ".part"
    shutil.rmtree(part, ignore_errors=True)
    os.makedirs(f"{part}/blobs/sha256")

    def blob(content):
        digest = hashlib.sha256(content).hexdigest()
        with open(f"{part}/blobs/sha256/{digest}", "wb") as f:
            f.write(content)
        return {"digest": f"sha256:{digest}", "size": len(content)}

    with open(rootfs, "rb") as f:
        tars = [f.read()]
    if image == "many-layers":
        tars += [small_layer(number) for number in range(1, 31)]
    kind = "application/vnd.oci.image."
    layers = [blob(gzip.compress(tar, 6, mtime=0)) | {"mediaType": kind + "layer.v1.tar+gzip"} for tar in tars]
    arch = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    config = {
        "created": "2024-04-30T18:00:00Z", "architecture": arch, "os": "linux",
        "config": {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["/bin/bash"]},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(tar).hexdigest() for tar in tars]},
        "history": [{"created": "2024-04-30T18:00:00Z", "created_by": f"layer {number}"} for number in range(len(tars))],
    }
    config = blob(json.dumps(config).encode()) | {"mediaType": kind + "config.v1+json"}
    manifest = {"schemaVersion": 2, "mediaType": kind + "manifest.v1+json", "config": config, "layers": layers}
    manifest = blob(json.dumps(manifest).encode()) | {"mediaType": kind + "manifest.v1+json"}
    manifest["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    with open(f"{part}/index.json", "w") as f:
        json.dump({"schemaVersion": 2, "manifests": [manifest]}, f)
    with open(f"{part}/oci-layout", "w") as f:
        json.dump({"imageLayoutVersion": "1.0.0"}, f)
    shutil.rmtree(target, ignore_errors=True)
    os.rename(part, target)


main()
