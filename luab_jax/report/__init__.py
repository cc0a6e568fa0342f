"""data.html and report.html."""
