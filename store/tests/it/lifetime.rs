//! What comes and goes: removal, sharing, interruption, reopening.
