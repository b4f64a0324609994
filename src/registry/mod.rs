//! The distribution protocol: manifests and blobs to and from a registry. Never touches the store.
