"""The version, where neither the build nor a value module has to import the package for it."""

__version__ = "0.1.0"
