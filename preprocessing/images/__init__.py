"""The bytes of one image: read, checked and repaired."""
