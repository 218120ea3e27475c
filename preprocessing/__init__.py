"""ImageNet archives to sharded TFRecords: sources, repair, the Beam graph, the schema."""
