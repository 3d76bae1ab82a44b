"""Recipes: what a build does, as data. The named ones are the TOML files in this folder."""
