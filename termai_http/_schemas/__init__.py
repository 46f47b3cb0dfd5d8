"""JSON schemas of Python types, in the form that the vendors take, and values read by them."""
