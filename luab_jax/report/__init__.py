"""The pages data.html and report.html."""
