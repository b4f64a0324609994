//! Image names: their grammar, their complete and their familiar form. Never asks a store or a registry.
