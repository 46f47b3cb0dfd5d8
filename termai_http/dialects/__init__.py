"""Vendor APIs on the wire: pure encoders and decoders, no I/O."""
