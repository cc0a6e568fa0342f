"""Tools around training: command line, prediction, export, studies, data and annotation."""
