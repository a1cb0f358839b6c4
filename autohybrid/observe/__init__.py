"""Hooks on a running script or model -> a ``Profile``: who was called, from where, how long, with what."""
