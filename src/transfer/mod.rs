//! Images between the store and registries, layouts and archives. Streams; never holds a layer in memory.
