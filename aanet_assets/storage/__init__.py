"""Files on disk: atomic writes, names, locks, provenance, tables and the database."""
