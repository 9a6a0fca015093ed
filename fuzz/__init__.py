"""Fuzzing of the native decoders; see scripts/fuzz."""
