"""What a run will cost, and what limits its speed here."""
