"""A codec small enough to be trained, exported and changed in a test."""

from models.hierarchical.config import Config

SMALL = Config(widths=(16, 16, 16), width4=8, depths=(1, 1, 1), prior=(16, 16, 20))
