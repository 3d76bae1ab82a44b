"""Targets: one TOML profile per family of devices."""
