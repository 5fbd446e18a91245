"""Training on the user's pairs, on high-dose frames alone, or on simulated specimens."""
