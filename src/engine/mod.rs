//! The verbs of the product. Owns what is mounted and what runs; never speaks HTTP.
