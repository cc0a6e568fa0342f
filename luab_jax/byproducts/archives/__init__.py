"""Archives: read member by member, never extracted; written reproducibly."""
