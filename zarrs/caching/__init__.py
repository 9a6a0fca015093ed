"""Decoded chunks that are kept from call to call."""
