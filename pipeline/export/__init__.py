"""From a trained run to an export directory in which every file was compared."""
