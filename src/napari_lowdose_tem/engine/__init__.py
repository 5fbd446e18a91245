"""A network on a processor: devices, tiles, batches, runners."""
