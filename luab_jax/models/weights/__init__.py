"""Weight files of other projects, read and written."""
