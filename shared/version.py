"""The version of Kinoform, read by the packaging and written into every run record."""

VERSION = "0.1.0"
