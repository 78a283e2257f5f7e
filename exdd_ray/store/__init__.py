"""The artifact store: immutable folders named by the hash of what made them."""
