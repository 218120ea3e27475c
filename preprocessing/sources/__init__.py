"""What images a user has: one module per layout, and the registry that recognises them."""
