"""The devices and processes of a run, and the files it leaves on disk."""
