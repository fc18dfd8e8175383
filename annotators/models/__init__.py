"""Model files and the runtimes that execute them: what exists, where it is found, how it is fetched and opened."""
