"""Where frames go, one kind per file."""
