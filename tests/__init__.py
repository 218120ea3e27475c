"""Laws that hold however the implementation is written, folder by folder."""
