"""What a program may live without: each part needs its own extra, and none is loaded unasked."""
