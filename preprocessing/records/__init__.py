"""The contract between ingest and training: the schema, the manifest and the record files."""
