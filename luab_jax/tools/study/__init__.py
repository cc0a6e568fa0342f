"""The study: baseline, LUAB and controls over several seeds."""
