"""What others made is not trusted: their files, servers and pages run, leak and destroy nothing."""
