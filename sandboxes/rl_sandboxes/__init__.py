"""Run untrusted code. The back ends arrive with the code environments; nothing here yet."""
