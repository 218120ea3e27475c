"""Model families: the published variants, their layouts and the networks built from them."""
