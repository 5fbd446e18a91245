"""Networks, the model file and the scaling between counts and network."""
