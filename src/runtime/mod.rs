//! Containers as processes: one shim each, by re-exec before any thread exists. Never touches the store.
