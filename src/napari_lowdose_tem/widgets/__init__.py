"""The docks and other contributions to napari; the only place that knows Qt."""
