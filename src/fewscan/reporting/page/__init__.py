"""report.html: one page with everything a run has to say, without a network."""
