"""Archives, read member by member without extraction and written reproducibly."""
