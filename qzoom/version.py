"""Which version of Q-Zoom Serve is this? Read from the installed package's metadata."""

from importlib.metadata import version

VERSION = version("qzoom")
