"""The contract between ingest and training: the schema, the manifest and the record files."""

__all__ = [
    "imagenet",
    "records_folder",
    "schema",
    "shard_names",
    "statistics",
    "tfrecord",
    "verify",
]
