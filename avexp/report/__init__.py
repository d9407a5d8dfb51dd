"""Pictures, tables and the self-contained report.html."""
