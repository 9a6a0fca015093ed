"""Declarations of C libraries: externs only, no logic."""
