"""What two docks need."""
