"""The same steps on Ray: lanes, resources, progress."""
