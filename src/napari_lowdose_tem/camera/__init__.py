"""What a camera does to counts: dark reference, gain, noise."""
